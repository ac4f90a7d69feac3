//! Key sets from a server, as issuers publish them.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};
use wire::Families;

use super::*;
use crate::auth::key_set::{KeyLookup, KeySetTimes};
use crate::auth::signed::{self, jwk_of};
use crate::auth::token::Policy;

const TIMES: KeySetTimes = KeySetTimes { interval: Duration::from_secs(300), stale_max: Duration::from_secs(3_600) };

/// A server that gives these bytes to each connection, and notes the requests.
struct Issuer {
    url: String,
    requests: Rc<RefCell<Vec<String>>>,
    answer: Rc<RefCell<String>>,
}

impl Issuer {
    async fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/tenant/keys?version=2", listener.local_addr().unwrap());
        let (requests, answer) = (Rc::default(), Rc::new(RefCell::new(answer)));
        let issuer = Self { url, requests: Rc::clone(&requests), answer: Rc::clone(&answer) };
        spawn_local(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                requests.borrow_mut().push(String::from_utf8(head).unwrap());
                let answer = answer.borrow().clone();
                // The client may have enough before the end.
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        issuer
    }

    fn set(&self) -> KeySet {
        KeySet::new(self.config(), TIMES)
    }

    fn config(&self) -> KeySetConfig {
        KeySetConfig { url: self.url.clone(), ..signed::key_set() }
    }
}

fn ok(headers: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

fn keys(kid: &str) -> String {
    json!({ "keys": [jwk_of("ES256", kid)] }).to_string()
}

fn is_known(set: &KeySet, kid: &str) -> bool {
    matches!(set.find(Some(kid), unix_ms()), KeyLookup::Named(_))
}

#[tokio::test]
async fn a_set_is_fetched_once_however_many_ask_and_follows_a_rotation() {
    let test = async {
        let issuer = Issuer::start(ok("Cache-Control: public, max-age=120\r\n", &keys("a"))).await;
        let verifier = Verifier::new(Vec::new(), Policy::default(), Families::default());
        let verifier = Reloadable::new(verifier.with_key_sets([issuer.config()], TIMES));
        let set = verifier.get().key_sets().next().cloned().unwrap();
        let kept = verifier.clone();
        let keeper = spawn_local(async move { keep(&kept).await });
        let asking: Vec<_> = (0..50)
            .map(|_| {
                let set = Arc::clone(&set);
                spawn_local(async move {
                    set.until_fetched(unix_ms()).await;
                    is_known(&set, "a")
                })
            })
            .collect();
        for asking in asking {
            assert!(asking.await.unwrap());
        }
        let requests = issuer.requests.borrow().clone();
        let [request] = &requests[..] else { panic!("{requests:?}") };
        assert!(request.starts_with("GET /tenant/keys?version=2 HTTP/1.1\r\nhost: 127.0.0.1:"), "{request}");
        let due_in_ms = set.due_ms() - unix_ms();
        assert!((90_000..=96_000).contains(&due_in_ms), "{due_in_ms}");
        *issuer.answer.borrow_mut() = ok("", &keys("b"));
        refresh(&set).await;
        assert!(is_known(&set, "b") && !is_known(&set, "a"));
        // A reload, which names another place as well.
        let more = Issuer::start(ok("", &keys("c"))).await;
        let before = verifier.get();
        let renewed = Verifier::new(Vec::new(), Policy::default(), Families::default());
        verifier.replace(renewed.with_key_sets([more.config(), issuer.config()], TIMES).succeeding(&before));
        let sets: Vec<_> = verifier.get().key_sets().cloned().collect();
        assert!(Arc::ptr_eq(&sets[1], &set), "its keys are kept");
        sets[0].until_fetched(unix_ms()).await;
        assert!(is_known(&sets[0], "c"));
        keeper.abort();
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_failed_fetch_keeps_the_keys_that_are_there() {
    let test = async {
        let issuer = Issuer::start(ok("", &keys("a"))).await;
        let set = issuer.set();
        refresh(&set).await;
        let long = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(BODY_BYTES_MAX));
        for answer in [
            "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n".to_owned(),
            ok("", "<html>"),
            ok("", "{}"),
            ok("", &long),
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_owned(),
            "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
            String::new(),
        ] {
            *issuer.answer.borrow_mut() = answer.clone();
            refresh(&set).await;
            assert!(is_known(&set, "a"), "{answer:?}");
            assert!(set.due_ms() > unix_ms(), "it waits before it tries again: {answer:?}");
        }
        assert_eq!(issuer.requests.borrow().len(), 9, "nothing else is asked");
    };
    LocalSet::new().run_until(test).await;
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn over_tls_the_server_has_to_be_known_to_the_authority() {
    const CERTIFICATE: &[u8] = include_bytes!("../../../tests/keys/test_only_tls_certificate.pem");
    const KEY: &[u8] = include_bytes!("../../../tests/keys/test_only_tls_key.pem");
    const OTHER: &[u8] = include_bytes!("../../../tests/keys/test_only_tls_other_certificate.pem");
    let tls = crate::transport::tls::Tls::from_pem(CERTIFICATE, KEY).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/keys", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not know the certificate ends the handshake.
            let Ok(mut stream) = tls.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(ok("", &keys("a")).as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    for (ca, expected) in [(Some(CERTIFICATE), true), (Some(OTHER), false), (None, false)] {
        let ca = ca.map(<[u8]>::to_vec);
        let config = KeySetConfig { url: url.clone(), ca, ..signed::key_set() };
        let set = KeySet::new(config, TIMES);
        refresh(&set).await;
        assert_eq!(is_known(&set, "a"), expected);
    }
    serving.abort();
}
