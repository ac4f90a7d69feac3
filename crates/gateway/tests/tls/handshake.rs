//! Handshakes: which are made, and that those which are not cost no more than their deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use test_support::token;
use test_support::web_socket::upgrade_request;
use tidegate_gateway::Gateway;
use tidegate_gateway::config::{Config, FlagSetting, RawConfig, Sources};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{Client, DEADLINE};
use crate::dial;
use crate::fleet::Fleet;

/// Says `bytes`, and gives all that comes until the gateway closes.
async fn send_text(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The gateway may close before it has read all.
    let _ = stream.write_all(bytes).await;
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut received)).await.expect("the gateway closes");
    if let Err(error) = read {
        // What was not read when it closed comes back as a reset.
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    received
}

/// The administration port speaks plain HTTP whatever the main port speaks.
async fn metric(fleet: &Fleet, name: &str) -> u64 {
    let request = "GET /metrics HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n";
    let text = String::from_utf8(send_text(fleet.gateway(0).admin_addr(), request.as_bytes()).await).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[tokio::test]
async fn what_is_no_tls_is_closed_and_disturbs_nobody() {
    // At once, and not at this deadline.
    let fleet = Fleet::start(1, None, "[limits]\nhandshake_timeout_ms = 3600000\n");
    let address = fleet.gateway(0).listen_addr();
    let mut bystander = fleet.client(0, "bystander").await;
    let cases: [&[u8]; 6] = [
        b"GET /ws HTTP/1.1\r\nHost: gateway\r\n\r\n",
        b"GET /readyz HTTP/1.0\r\n\r\n",
        &[0; 4096],
        &[0xff; 40_000],
        // Application data, and a handshake that is none.
        &[23, 3, 3, 0, 4, 1, 2, 3, 4],
        &[22, 3, 1, 0, 4, 9, 9, 9, 9],
    ];
    for bytes in cases {
        let received = send_text(address, bytes).await;
        assert!(received.len() <= 16, "at most an alert: {received:?}");
        assert!(received.is_empty() || received[0] == 21, "an alert: {received:?}");
    }
    assert_eq!(metric(&fleet, "tidegate_tls_errors_total").await, cases.len() as u64);
    assert_eq!(bystander.publish("system:news", 1).await["type"], "ack");
}

#[tokio::test]
async fn a_slow_handshake_is_closed_at_its_deadline() {
    let deadline = Duration::from_secs(3);
    let fleet = Fleet::start(1, None, "[limits]\nhandshake_timeout_ms = 3000\n");
    let address = fleet.gateway(0).listen_addr();
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut from, mut to) = stream.split();
    let drip = async {
        // A byte every 20 ms keeps any timeout between bytes from firing.
        let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[7; 500]].concat();
        for byte in hello {
            if to.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut end = [0; 1];
    tokio::select! {
        () = drip => panic!("not closed"),
        read = from.read(&mut end) => assert!(matches!(read, Ok(0) | Err(_)), "closed without an answer"),
    }
    assert!(begun.elapsed() >= deadline, "not before the deadline");
    assert_eq!(send_text(address, b"").await, b"", "the same for one that says nothing");
    // The deadline is for all of it: TLS, and the request over it.
    let stream = dial::over(TcpStream::connect(address).await.unwrap()).await;
    read_to_end(&mut stream.into_inner().0).await;
    assert_eq!(metric(&fleet, "tidegate_http_timeouts_total").await, 3);
}

#[tokio::test]
async fn clients_of_both_versions_are_served() {
    let fleet = Fleet::start(1, None, "");
    for version in rustls::ALL_VERSIONS {
        let config = Arc::new(dial::trusting(&[version]));
        let socket = TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
        let stream = dial::with(&config, socket).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        let token = fleet.token("acme", "alice", &["system:*"]);
        let mut client = Client::upgrade_over(stream, "/ws", Some(&token)).await;
        client.expect("welcome").await;
        assert_eq!(client.publish("system:news", 1).await["type"], "ack");
    }
}

#[tokio::test]
async fn http_1_is_agreed_on_and_nothing_else() {
    let fleet = Fleet::start(1, None, "");
    let offer = async |protocols: &[&[u8]]| {
        let mut config = dial::trusting(rustls::ALL_VERSIONS);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let socket = TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
        dial::with(&Arc::new(config), socket).await
    };
    let stream = offer(&[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(offer(&[b"h2"]).await.is_err(), "it could not be spoken");
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_its_tls_session() {
    let fleet = Fleet::start(1, None, "");
    let config = Arc::new(dial::trusting(rustls::ALL_VERSIONS));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let socket = TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap();
        let stream = dial::with(&config, socket).await.unwrap();
        kinds.push(stream.get_ref().1.handshake_kind());
        let token = fleet.token("acme", "alice", &[]);
        // The ticket comes before the first bytes that are read here.
        Client::upgrade_over(stream, "/ws", Some(&token)).await.expect("welcome").await;
    }
    assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
}

fn on_certificate(name: &str, key: &str) -> Config {
    let file = |name: &str| format!("{}/tests/keys/test_only_tls_{name}.pem", env!("CARGO_MANIFEST_DIR"));
    let settings = [
        ("listen", "127.0.0.1:0".to_owned()),
        ("admin_listen", "127.0.0.1:0".to_owned()),
        ("broker", "memory".to_owned()),
        ("auth.keys", token::keys()),
        ("tls.cert_file", file(name)),
        ("tls.key_file", file(key)),
    ];
    let flag = |(key, text): (&str, String)| FlagSetting { written: "--set".into(), key: key.into(), text };
    let sources = Sources { flags: settings.into_iter().map(flag).collect(), ..Sources::default() };
    Config::check(&mut RawConfig::gather(sources)).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A renewed certificate is shown to those who come, and nobody is sent away for it.
#[tokio::test]
async fn a_renewed_certificate_takes_effect_without_a_restart() {
    let gateway = Gateway::start(on_certificate("certificate", "key")).unwrap();
    let connect = async || TcpStream::connect(gateway.listen_addr()).await.unwrap();
    let claims = serde_json::json!({ "sub": "alice", "exp": token::expiry(3_600), "publish": ["collection:*"] });
    let mut before = Client::connect(gateway.listen_addr(), "/ws", Some(&token::sign(&claims))).await;
    before.expect("welcome").await;
    let mut roots = RootCertStore::empty();
    let renewed = include_bytes!("../keys/test_only_tls_other_certificate.pem");
    roots.add(CertificateDer::from_pem_slice(renewed).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let trusts_renewed = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    assert!(dial::with(&trusts_renewed, connect().await).await.is_err(), "it shows the first one");

    gateway.reload(&on_certificate("other_certificate", "other_key")).unwrap();
    dial::with(&trusts_renewed, connect().await).await.expect("it shows the renewed one");
    assert_eq!(before.publish("collection:7", 1).await["type"], "ack");
}

/// A cookie that came over TLS is not sent without it.
#[tokio::test]
async fn the_routing_cookie_is_secure() {
    let fleet = Fleet::start(1, None, "");
    let mut stream = dial::over(TcpStream::connect(fleet.gateway(0).listen_addr()).await.unwrap()).await;
    stream.write_all(upgrade_request("gateway", "").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(DEADLINE, stream.read_u8()).await.expect("an answer").unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let cookie = head.lines().find(|line| line.starts_with("set-cookie: tidegate_session="));
    assert!(cookie.is_some_and(|cookie| cookie.ends_with("; Secure")), "{head}");
}
