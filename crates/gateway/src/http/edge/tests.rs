//! A real edge on a free port, spoken to by the byte; nobody but the test takes what it hands to the shard.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use connection_registry::{LeaseState, Loss, Token};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{JoinHandle, LocalSet};

use super::*;
use crate::auth::signed::{self, with};
use crate::config::{HttpConfig, Origins, Secure, SessionCookie};
use crate::health::instance_state::Phase;
use crate::health::watchdog::{FROZEN_AFTER, Loop, Watchdog};
use crate::host::mailbox::Mailbox;
use crate::host::reloadable::Reloadable;
use crate::http::page::DevTokens;
use crate::metrics::counters::ShardCounters;
use crate::shard::hub::ShardHandle;
use crate::shard::requests::ToShard;

mod addresses;

/// Long enough for a slow machine; no test waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

struct TestEdge {
    address: SocketAddr,
    inbox: Arc<Mailbox<ToShard>>,
    /// Taken from there, and not asked for yet.
    handed: VecDeque<ToShard>,
    health: Arc<Health>,
    counters: Arc<EdgeCounters>,
    diverts: Rc<Cell<bool>>,
    shard: Arc<ShardCounters>,
    task: JoinHandle<Infallible>,
}

/// An edge without limits that these tests reach.
fn config() -> EdgeConfig {
    EdgeConfig {
        handshake_timeout: PATIENCE,
        connections_max: 1_000,
        connects_per_second: 0,
        addresses: AddressLimits { connections_max: 1_000, connects_per_second: 0 },
        trusted_proxies: TrustedProxies::default(),
        diverts: Rc::default(),
        tls: None,
        paths: Paths::default(),
    }
}

impl TestEdge {
    async fn start(handshake_timeout: Duration, health: Health) -> Self {
        Self::throttled(handshake_timeout, health, 2, 0).await
    }

    async fn throttled(
        handshake_timeout: Duration,
        health: Health,
        connections_max: u64,
        connects_per_second: u32,
    ) -> Self {
        let config = EdgeConfig { handshake_timeout, connections_max, connects_per_second, ..config() };
        Self::configured(config, health).await
    }

    async fn configured(config: EdgeConfig, health: Health) -> Self {
        health.advance(Phase::Running);
        let health = Arc::new(health);
        let (counters, shard) = (Arc::new(EdgeCounters::default()), Arc::new(ShardCounters::default()));
        let inbox = Arc::new(Mailbox::new(1 << 20));
        let hub = Hub::new(vec![ShardHandle { inbox: Arc::clone(&inbox), counters: Arc::clone(&shard) }]);
        let origins = Origins { loopback: true, ..Origins::default() };
        let session_cookie = SessionCookie { name: Some("tidegate_session".into()), secure: Secure::Auto };
        let http = HttpConfig { allowed_origins: origins, session_cookie, paths: Paths::default() };
        let handshake = Handshake::new(
            Reloadable::new(signed::verifier()),
            Reloadable::new(http.allowed_origins.clone().into()),
            &http,
            "tidegate_token".into(),
        );
        let diverts = Rc::clone(&config.diverts);
        let page = Page::new(DevTokens::new(signed::issuer(), &wire::Families::default()));
        let edge = Edge::new(config, handshake, health.clone(), Some(page), hub, counters.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::task::spawn_local(edge.run(listener));
        Self { address, inbox, handed: VecDeque::new(), health, counters, diverts, shard, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `bytes` and returns all that comes back until the edge closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The edge may answer and close before it has read all.
        let _ = stream.write_all(bytes).await;
        read_to_end(&mut stream).await
    }

    async fn get(&self, path: &str) -> String {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").as_bytes()).await
    }

    async fn next_handoff(&mut self) -> Handoff {
        if self.handed.is_empty() {
            let mut handed = Vec::new();
            tokio::time::timeout(PATIENCE, self.inbox.take_all(&mut handed)).await.expect("a handoff");
            self.handed.extend(handed);
        }
        let Some(ToShard::Adopt(handoff)) = self.handed.pop_front() else { panic!("only handoffs come from an edge") };
        *handoff
    }
}

impl Drop for TestEdge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn with_edge(handshake_timeout: Duration, test: impl AsyncFnOnce(&mut TestEdge)) {
    let health = Health::new(Watchdog::new(1, FROZEN_AFTER, Instant::now()));
    LocalSet::new().run_until(async { test(&mut TestEdge::start(handshake_timeout, health).await).await }).await;
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    match tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await {
        Err(_) => panic!("the edge neither answered nor closed; so far: {}", String::from_utf8_lossy(&read)),
        // What was not read when the edge closed comes back as a reset.
        Ok(Err(error)) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
        Ok(_) => String::from_utf8(read).unwrap(),
    }
}

/// Reads one HTTP head, and not a byte of what follows.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("an answer");
        head.push(byte.unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&head))));
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

fn upgrade(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn an_upgrade_is_handed_over_with_its_first_bytes() {
    with_edge(PATIENCE, async |edge| {
        let mut stream = edge.connect().await;
        // A masked ping in the same packet as the request.
        let frame = [0x89, 0x80, 1, 2, 3, 4];
        stream.write_all(&[upgrade("/ws/acme", "").as_bytes(), &frame].concat()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
        let handoff = edge.next_handoff().await;
        assert_eq!(handoff.early, &frame[..]);
        assert_eq!(handoff.path_tenant.as_ref().map(TenantId::as_str), Some("acme"));
        assert!(matches!(handoff.opening, Opening::AwaitHello));
        assert!(head.contains(&format!("set-cookie: tidegate_session={}; httponly", handoff.session_id)), "{head}");
        // The socket is out of the edge's hands, and works.
        handoff.socket.set_nonblocking(false).unwrap();
        io::Write::write_all(&mut &handoff.socket, b"hi").unwrap();
        drop(handoff);
        assert_eq!(read_to_end(&mut stream).await, "hi");
        assert_eq!((edge.counters.upgrades.get(), edge.counters.upgrades_refused.get()), (1, 0));
    })
    .await;
}

/// hyper reads into blocks of 8 KiB, and a slice of one keeps all of it for as long as the connection lives.
#[tokio::test]
async fn early_bytes_do_not_hold_on_to_the_request() {
    with_edge(PATIENCE, async |edge| {
        for frame in [&[][..], &[0x89, 0x80, 1, 2, 3, 4]] {
            let mut stream = edge.connect().await;
            stream.write_all(&[upgrade("/ws", "").as_bytes(), frame].concat()).await.unwrap();
            let early = edge.next_handoff().await.early;
            assert_eq!(early, frame);
            let whole_block = early.try_into_mut().map_or(0, |block| block.capacity());
            assert!(whole_block < 64, "{whole_block} bytes are kept for {} early ones", frame.len());
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_in_the_subprotocol_list_is_not_sent_back() {
    with_edge(PATIENCE, async |edge| {
        // Signed by the endpoint of the page, on the clock of this machine.
        let request = b"POST /dev/token?user=alice&tenant=acme HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        let body = edge.exchange(request).await;
        let token = body.split("\r\n\r\n").nth(1).unwrap().trim().to_owned();
        let mut stream = edge.connect().await;
        let offers = format!("Sec-WebSocket-Protocol: tidegate.v1, tidegate.token.{token}\r\n");
        stream.write_all(upgrade("/ws/acme", &offers).as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.contains("sec-websocket-protocol: tidegate.v1\r\n"), "{head}");
        assert!(!head.contains("tidegate.token"), "{head}");
        let Opening::Authenticated(identity) = edge.next_handoff().await.opening else { panic!("authenticated") };
        assert_eq!((identity.tenant.as_str(), identity.user.as_str()), ("acme", "alice"));
    })
    .await;
}

#[tokio::test]
async fn refusals_of_well_formed_upgrades_are_told_by_frame() {
    with_edge(PATIENCE, async |edge| {
        for (more, code) in [
            ("Authorization: Bearer nonsense\r\n", ErrorCode::Unauthenticated),
            ("Origin: https://evil.example\r\n", ErrorCode::WrongOrigin),
            ("Sec-WebSocket-Protocol: chat\r\n", ErrorCode::InvalidField),
        ] {
            let mut stream = edge.connect().await;
            stream.write_all(upgrade("/ws", more).as_bytes()).await.unwrap();
            assert!(read_head(&mut stream).await.starts_with("http/1.1 101 "), "{more}");
            let Opening::Refused { code: refused_code, .. } = edge.next_handoff().await.opening else {
                panic!("{more}")
            };
            assert_eq!(refused_code, code);
        }
        assert_eq!(edge.counters.upgrades_refused.get(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_full_instance_refuses_by_frame_and_never_by_503() {
    with_edge(PATIENCE, async |edge| {
        edge.shard.connections.set(2);
        let mut stream = edge.connect().await;
        stream.write_all(upgrade("/ws", "").as_bytes()).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("http/1.1 101 "));
        let Opening::Refused { code, close, retry_after_ms, .. } = edge.next_handoff().await.opening else {
            panic!("refused")
        };
        assert_eq!((code, close), (ErrorCode::Unavailable, Close::TryAgainLater));
        assert!(retry_after_ms.is_some_and(|ms| (COME_BACK_FULL_MS..2 * COME_BACK_FULL_MS).contains(&ms)));
        edge.shard.connections.set(1);
        let mut stream = edge.connect().await;
        stream.write_all(upgrade("/ws", "").as_bytes()).await.unwrap();
        assert!(matches!(edge.next_handoff().await.opening, Opening::AwaitHello));
    })
    .await;
}

#[tokio::test]
async fn a_client_with_a_token_waits_for_a_place_and_takes_that_of_one_without() {
    with_edge(PATIENCE, async |edge| {
        edge.shard.connections.set(2);
        edge.shard.unauthenticated.set(1);
        let token = signed::hs256(&signed::claims("alice"));
        let mut stream = edge.connect().await;
        let bearer = format!("Authorization: Bearer {token}\r\n");
        stream.write_all(upgrade("/ws", &bearer).as_bytes()).await.unwrap();
        let mut asked = Vec::new();
        tokio::time::timeout(PATIENCE, edge.inbox.take_all(&mut asked)).await.expect("a place is asked for");
        assert!(matches!(asked[..], [ToShard::EvictUnauthenticated]), "{asked:?}");
        edge.shard.connections.set(1);
        assert!(matches!(edge.next_handoff().await.opening, Opening::Authenticated(_)));
        assert_eq!(edge.counters.upgrades_full.get(), 0);
    })
    .await;
}

/// More of them than may wait, and for as long as one may wait.
#[tokio::test]
async fn clients_without_a_token_do_not_fill_the_queue_before_a_full_instance() {
    with_edge(PATIENCE, async |edge| {
        edge.shard.connections.set(2);
        let mut streams = Vec::new();
        for _ in 0..200 {
            let mut stream = edge.connect().await;
            stream.write_all(upgrade("/ws", "").as_bytes()).await.unwrap();
            streams.push(stream);
        }
        let bearer = format!("Authorization: Bearer {}\r\n", signed::hs256(&signed::claims("alice")));
        let mut waits = edge.connect().await;
        waits.write_all(upgrade("/ws", &bearer).as_bytes()).await.unwrap();
        for n in 0..200 {
            assert!(matches!(edge.next_handoff().await.opening, Opening::Refused { .. }), "{n}");
        }
        edge.shard.connections.set(1);
        assert!(matches!(edge.next_handoff().await.opening, Opening::Authenticated(_)), "it has waited");
        assert_eq!(edge.counters.upgrades_full.get(), 200);
    })
    .await;
}

/// Who was answered 101 and is not at its shard yet is a connection too: for what fits in, and for a drain.
#[tokio::test]
async fn connections_on_their_way_to_a_shard_are_counted() {
    with_edge(PATIENCE, async |edge| {
        let mut streams = Vec::new();
        for n in 1..=3 {
            let mut stream = edge.connect().await;
            stream.write_all(upgrade("/ws", "").as_bytes()).await.unwrap();
            assert!(read_head(&mut stream).await.starts_with("http/1.1 101 "));
            assert_eq!(edge.shard.connections.get(), n);
            streams.push(stream);
        }
        let mut refused = Vec::new();
        for left in [2, 1, 0] {
            refused.push(matches!(edge.next_handoff().await.opening, Opening::Refused { .. }));
            assert_eq!(edge.shard.connections.get(), left, "nobody has taken it");
        }
        assert_eq!(refused, [false, false, true], "two fit in");
        // Who is turned away is not counted any more.
        edge.health.advance(Phase::Draining);
        assert!(edge.exchange(upgrade("/ws", "").as_bytes()).await.starts_with("HTTP/1.1 503 "));
        assert_eq!(edge.shard.connections.get(), 0);
    })
    .await;
}

#[tokio::test]
async fn bad_requests_get_a_status_a_code_and_a_sentence() {
    with_edge(PATIENCE, async |edge| {
        let without = |line: &str| upgrade("/ws", "").replace(line, "");
        for (request, status, code) in [
            (upgrade("/wss", ""), "404 Not Found", "not_found"),
            (upgrade("/ws/a/b", ""), "404 Not Found", "not_found"),
            (upgrade("/ws", "").replace("GET", "POST"), "405 Method Not Allowed", "method_not_allowed"),
            (upgrade("/ws", "").replace("13\r\n", "8\r\n"), "426 Upgrade Required", "websocket_version"),
            (without("Upgrade: websocket\r\n"), "426 Upgrade Required", "upgrade_required"),
            (without("Connection: Upgrade\r\n"), "400 Bad Request", "bad_upgrade"),
            (without("Host: 127.0.0.1\r\n"), "400 Bad Request", "bad_upgrade"),
            (without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "400 Bad Request", "bad_upgrade"),
            (upgrade("/ws", "Host: evil.example\r\n"), "400 Bad Request", "bad_upgrade"),
            (upgrade("/ws", "Sec-WebSocket-Version: 13\r\n"), "400 Bad Request", "bad_upgrade"),
            (upgrade("/ws", "").replace("HTTP/1.1", "HTTP/1.0"), "400 Bad Request", "bad_upgrade"),
        ] {
            let answer = edge.exchange(request.as_bytes()).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            // An HTTP/1.0 request is answered in kind.
            assert!(head.split_once(' ').unwrap().1.starts_with(status), "{request}{answer}");
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["code"], code, "{request}{answer}");
            assert!(body["message"].as_str().is_some_and(|sentence| sentence.len() > 20), "{answer}");
        }
        assert!(edge.exchange(b"POST /ws HTTP/1.1\r\nHost: a\r\n\r\n").await.contains("allow: GET\r\n"));
        assert!(!edge.inbox.try_take_all(&mut Vec::new()), "nothing of this was handed over");
        assert_eq!(edge.counters.http_refusals.get(), 12);
    })
    .await;
}

/// What one reader takes for a body and another for a second request. Nothing behind the first head may be answered.
#[tokio::test]
async fn smuggled_requests_are_never_read() {
    with_edge(PATIENCE, async |edge| {
        let smuggled = "GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        let chunked = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
        let length = format!("Content-Length: {}\r\n", smuggled.len());
        for request in [
            upgrade("/ws", &length) + smuggled,
            upgrade("/ws", "Content-Length: 0\r\nContent-Length: 5\r\n") + smuggled,
            upgrade("/ws", "Content-Length: 0, 5\r\n") + smuggled,
            upgrade("/ws", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n") + &chunked,
            upgrade("/ws", "Transfer-Encoding: identity\r\n") + smuggled,
            upgrade("/ws", "Transfer-Encoding: chunked\r\n") + &chunked,
            upgrade("/ws", &format!("{length}Transfer-Encoding: chunked\r\n")) + &chunked,
            upgrade("/ws", &format!("Transfer-Encoding: chunked\r\n{length}")) + &chunked,
            upgrade("/ws", "Transfer-Encoding: xchunked\r\n") + &chunked,
            upgrade("/ws", "Content-Length: 3\r\nContent-Length: 4\r\n") + smuggled,
            upgrade("/ws", "Content-Length: +5\r\n") + smuggled,
            upgrade("/ws", "Content-Length : 5\r\n") + smuggled,
            upgrade("/ws", "X: a\r\n folded\r\n") + smuggled,
            upgrade("/ws", "Sec-WebSocket-Version: 12\r\n") + smuggled,
            format!("GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}\r\n{smuggled}"),
            format!("GET /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n{smuggled}"),
        ] {
            let answer = edge.exchange(request.as_bytes()).await;
            assert!(answer.matches("HTTP/1.1").count() <= 1, "{request}\n{answer}");
            assert!(!answer.contains("ready"), "{request}\n{answer}");
            assert!(!answer.starts_with("HTTP/1.1 101"), "{request}\n{answer}");
        }
        assert!(!edge.inbox.try_take_all(&mut Vec::new()));
    })
    .await;
}

/// Envoy and Istio add `Content-Length: 0` to an upgrade, and programs offer other protocols or wait for a 100.
#[tokio::test]
async fn an_upgrade_as_proxies_write_it_is_accepted_and_what_follows_is_its_first_frame() {
    with_edge(PATIENCE, async |edge| {
        let follows = "GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        for (request, more) in [
            (upgrade("/ws", "Content-Length: 0\r\n"), ""),
            (upgrade("/ws", "Content-Length: 0\r\n"), follows),
            (upgrade("/ws", "Expect: 100-continue\r\nContent-Length: 0\r\n"), ""),
            (upgrade("/ws", "Expect: something\r\n"), ""),
            (upgrade("/ws", "").replace("Upgrade: websocket", "Upgrade: websocket, h2c"), follows),
            (upgrade("/ws", "HTTP2-Settings: AAMAAABk\r\nUpgrade: h2c\r\n"), ""),
        ] {
            let mut stream = edge.connect().await;
            stream.write_all(format!("{request}{more}").as_bytes()).await.unwrap();
            let head = read_head(&mut stream).await;
            assert!(
                head.starts_with("http/1.1 101 ") && head.contains("\r\nupgrade: websocket\r\n"),
                "{request}{head}"
            );
            let handoff = edge.next_handoff().await;
            assert_eq!(handoff.early, more.as_bytes(), "{request}");
            drop(handoff);
            assert_eq!(read_to_end(&mut stream).await, "", "{request}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_giant_head_is_refused_by_size_and_by_count() {
    with_edge(PATIENCE, async |edge| {
        let big = format!("X-Big: {}\r\n", "a".repeat(HEAD_BYTES_MAX));
        let many = "X-Many: a\r\n".repeat(HEADERS_MAX);
        for more in [big.as_str(), &many] {
            let answer = edge.exchange(upgrade("/ws", more).as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
        }
        // A token of the size that is allowed fits.
        let mut stream = edge.connect().await;
        let bearer = format!("Authorization: Bearer {}\r\n", "a".repeat(wire::TOKEN_BYTES_MAX));
        stream.write_all(upgrade("/ws", &bearer).as_bytes()).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("http/1.1 101 "));
    })
    .await;
}

#[tokio::test]
async fn a_slow_handshake_is_closed_at_its_deadline() {
    let deadline = Duration::from_millis(300);
    with_edge(deadline, async |edge| {
        let begun = Instant::now();
        let mut stream = edge.connect().await;
        let (mut from, mut to) = stream.split();
        let drip = async {
            // A byte every 20 ms keeps any timeout between bytes from firing. Ends when the edge closes.
            for byte in upgrade("/ws", &"X: y\r\n".repeat(60)).bytes() {
                if to.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut end = [0; 1];
        tokio::select! {
            () = drip => {}
            read = from.read(&mut end) => assert!(matches!(read, Ok(0) | Err(_)), "closed without an answer"),
        }
        assert!(begun.elapsed() >= deadline, "not before the deadline");
        assert!(begun.elapsed() < PATIENCE, "and not long after it");
        assert_eq!(edge.counters.timeouts.get(), 1);
        // The same for a peer that says nothing at all.
        assert_eq!(edge.exchange(b"").await, "");
        assert_eq!(edge.counters.timeouts.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn health_for_haproxy_and_kubernetes() {
    with_edge(PATIENCE, async |edge| {
        let answers = async |edge: &TestEdge| {
            let mut answers = Vec::new();
            for path in ["/ws/health", "/livez", "/readyz"] {
                let answer = edge.get(path).await;
                let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
                answers.push(format!("{} {}", &answer[9..12], body["status"].as_str().unwrap()));
            }
            answers
        };
        edge.health.broker_is_down("Redis at 10.0.0.1 refused the connection");
        assert_eq!(answers(edge).await, ["404 connecting", "200 alive", "503 connecting"]);
        assert!(!edge.get("/readyz").await.contains("10.0.0.1"), "this port is public");
        edge.health.broker_is_up();
        let held = |ends_in: Option<Duration>| {
            let end = ends_in.map(|ends_in| Instant::now() + ends_in);
            LeaseState::Held { token: Token::from_store("a"), deadline: end, end }
        };
        edge.health.set_lease(&held(None));
        assert_eq!(answers(edge).await, ["200 connected", "200 alive", "200 ready"]);
        edge.health.set_lease(&LeaseState::Lost(Loss::Unrenewed));
        assert_eq!(answers(edge).await, ["200 lease_lost", "200 alive", "200 ready"]);
        edge.health.broker_is_down("gone");
        assert_eq!(answers(edge).await, ["200 isolated", "200 alive", "200 ready"]);
        edge.health.broker_is_up();
        // What the heartbeat task has not noticed yet, the clock says.
        edge.health.set_lease(&held(Some(Duration::ZERO)));
        let refused = edge.exchange(upgrade("/ws", "").as_bytes()).await;
        assert!(refused.starts_with("HTTP/1.1 503 "), "another instance takes it: {refused}");
        assert_eq!(answers(edge).await, ["200 fenced", "200 alive", "200 ready"]);
        edge.health.advance(Phase::Draining);
        assert_eq!(answers(edge).await, ["404 draining", "200 alive", "503 draining"]);
        let refused = edge.exchange(upgrade("/ws", "").as_bytes()).await;
        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
        assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    })
    .await;
}

#[tokio::test]
async fn a_frozen_instance_answers_nothing() {
    // The shard turned once, longer ago than it may be silent.
    let long_ago = Instant::now().checked_sub(FROZEN_AFTER * 2).expect("the machine is up for longer");
    let health = Health::new(Watchdog::new(1, FROZEN_AFTER, long_ago));
    health.watchdog().report(Loop::Shard(0), long_ago, long_ago);
    let test = async {
        let edge = TestEdge::start(PATIENCE, health).await;
        for path in ["/ws/health", "/livez", "/readyz"] {
            assert_eq!(edge.get(path).await, "", "{path}");
        }
        let now = Instant::now();
        edge.health.watchdog().report(Loop::Shard(0), now, now);
        assert!(edge.get("/livez").await.starts_with("HTTP/1.1 200 "));
    };
    LocalSet::new().run_until(test).await;
}

/// Twenty at once where two come in: the rest wait their turn, the health check does not, and nobody is lost.
#[tokio::test]
async fn what_comes_faster_than_the_rate_waits_its_turn() {
    let local = LocalSet::new();
    let test = async {
        let mut edge =
            TestEdge::throttled(PATIENCE, Health::new(Watchdog::new(0, FROZEN_AFTER, Instant::now())), 100, 2).await;
        let began = Instant::now();
        let mut streams = Vec::new();
        for _ in 0..20 {
            let mut stream = edge.connect().await;
            stream.write_all(upgrade("/ws", "").as_bytes()).await.unwrap();
            streams.push(stream);
        }
        let health = edge.exchange(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(health.starts_with("HTTP/1.1 200"), "{health}");
        let (mut taken, mut refused_code) = (0, 0);
        for _ in 0..20 {
            match edge.next_handoff().await.opening {
                Opening::Refused { code, close, retry_after_ms: Some(ms), .. } => {
                    assert_eq!((code, close), (ErrorCode::Unavailable, Close::TryAgainLater));
                    assert!((1_000..=4_000).contains(&ms), "{ms}");
                    refused_code += 1;
                }
                _ => taken += 1,
            }
        }
        assert!((4..20).contains(&taken), "two at once, and two within each second: {taken}");
        assert_eq!(refused_code, 20 - taken);
        assert!(began.elapsed() > Duration::from_millis(700), "some waited: {:?}", began.elapsed());
        assert_eq!(edge.counters.upgrades_throttled.get(), refused_code);
        assert!(edge.counters.upgrades_queued.get() >= 1);
        edge.task.abort();
    };
    local.run_until(test).await;
}

/// Who is refused anyway takes no turn: two hundred of them leave the two turns of this second to others.
#[tokio::test]
async fn a_refused_request_does_not_cost_the_connect_rate() {
    let local = LocalSet::new();
    let test = async {
        let health = Health::new(Watchdog::new(0, FROZEN_AFTER, Instant::now()));
        let mut edge = TestEdge::throttled(PATIENCE, health, 1_000, 2).await;
        let forged = "Authorization: Bearer a.b.c\r\n";
        for request in [
            upgrade("/ws", forged),
            upgrade("/ws", "Origin: https://evil.example\r\n"),
            upgrade("/ws", "Sec-WebSocket-Protocol: graphql-ws\r\n"),
            upgrade("/ws?token=x", ""),
            upgrade("/ws", "").replace("Upgrade: websocket", "Upgrade: h2c"),
            upgrade("/ws", "").replace("Version: 13", "Version: 8"),
            format!("GET /sse?channels=collection:1 HTTP/1.1\r\nHost: x\r\n{forged}\r\n"),
            "GET /sse HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        ] {
            for _ in 0..25 {
                let mut stream = edge.connect().await;
                stream.write_all(request.as_bytes()).await.unwrap();
                if read_head(&mut stream).await.starts_with("http/1.1 101 ") {
                    let opening = edge.next_handoff().await.opening;
                    assert!(
                        matches!(&opening, Opening::Refused { code, .. } if *code != ErrorCode::Unavailable),
                        "{request}: {opening:?}"
                    );
                }
            }
        }
        // Each is sent on to an emptier instance once.
        edge.diverts.set(true);
        let token = signed::hs256(&with(signed::claims("alice"), json!({"subscribe": ["collection:*"]})));
        for n in 0..25 {
            let cookie = format!("Authorization: Bearer {token}\r\nCookie: tidegate_session={n:032x}\r\n");
            let sent_on = edge.exchange(upgrade("/ws", &cookie).as_bytes()).await;
            assert!(sent_on.contains("elsewhere"), "{sent_on}");
            let cookie = cookie.replace("session=0", "session=f");
            let request = format!("GET /sse?channels=collection:1 HTTP/1.1\r\nHost: x\r\n{cookie}\r\n");
            let sent_on = edge.exchange(request.as_bytes()).await;
            assert!(sent_on.contains("retry: 100\n"), "{sent_on}");
        }
        edge.diverts.set(false);
        assert_eq!((edge.counters.upgrades_queued.get(), edge.counters.upgrades_throttled.get()), (0, 0));
        for _ in 0..2 {
            edge.connect().await.write_all(upgrade("/ws", "").as_bytes()).await.unwrap();
            assert!(matches!(edge.next_handoff().await.opening, Opening::AwaitHello));
        }
        assert_eq!(edge.counters.upgrades_queued.get(), 0, "both turns were left");
        edge.task.abort();
    };
    local.run_until(test).await;
}

/// While the instance sends clients to emptier ones.
#[tokio::test]
async fn a_client_whose_cookie_leads_to_an_instance_with_too_many_is_turned_away_once() {
    with_edge(PATIENCE, async |edge| {
        edge.diverts.set(true);
        let token = signed::hs256(&signed::claims("alice"));
        let from = |cookie: &str| upgrade("/ws", &format!("Authorization: Bearer {token}\r\n{cookie}"));
        let cookie = "Cookie: tidegate_session=0123456789abcdef0123456789abcdef\r\n";
        let refused = edge.exchange(from(cookie).as_bytes()).await;
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("elsewhere"), "{refused}");
        let (diverts, counters) = (Rc::clone(&edge.diverts), Arc::clone(&edge.counters));
        let mut is_admitted = async |request: String| {
            let mut stream = edge.connect().await;
            stream.write_all(request.as_bytes()).await.unwrap();
            let head = read_head(&mut stream).await;
            assert!(head.starts_with("http/1.1 101 "), "{head}");
            edge.next_handoff().await;
        };
        is_admitted(from(cookie)).await;
        // Nothing leads it here but chance.
        is_admitted(from("")).await;
        assert_eq!(counters.upgrades_diverted.get(), 1);
        diverts.set(false);
        is_admitted(from("Cookie: tidegate_session=fedcba9876543210fedcba9876543210\r\n")).await;
    })
    .await;
}

/// A balancer knows by `Retry-After` that the stream is none.
#[tokio::test]
async fn a_client_of_an_event_stream_is_sent_elsewhere_once_by_a_200() {
    with_edge(PATIENCE, async |edge| {
        edge.diverts.set(true);
        let token = signed::hs256(&with(signed::claims("alice"), json!({"subscribe": ["collection:*"]})));
        let from = |cookie: &str| {
            format!(
                "GET /sse?channels=collection:1 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\
                 Cookie: tidegate_session={cookie}\r\n\r\n"
            )
        };
        let sent = edge.exchange(from("0123456789abcdef0123456789abcdef").as_bytes()).await;
        assert!(sent.starts_with("HTTP/1.1 200 ") && sent.contains("retry-after: 1\r\n"), "{sent}");
        assert!(sent.contains("\r\n\r\nretry: 100\nevent: error\ndata: {"), "{sent}");
        let cookie = sent.split_once("set-cookie: tidegate_session=").and_then(|(_, rest)| rest.split_once(';'));
        let (cookie, _) = cookie.unwrap_or_else(|| panic!("it has another cookie: {sent}"));
        // What it was given led it back, so there is no other door.
        edge.connect().await.write_all(from(cookie).as_bytes()).await.unwrap();
        assert!(matches!(edge.next_handoff().await.opening, Opening::EventStream(_)));
        edge.health.advance(Phase::Draining);
        let sent = edge.exchange(from(cookie).as_bytes()).await;
        assert!(sent.starts_with("HTTP/1.1 200 ") && sent.contains("retry-after: 1\r\n"), "{sent}");
        assert!(sent.contains("set-cookie: tidegate_session=") && !sent.contains(cookie), "{sent}");
    })
    .await;
}

/// A socket with an address of its own among those of loopback.
async fn connect_from(last: u8, edge: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
    socket.connect(edge).await.unwrap()
}

/// All places are taken by slow heads of ten addresses.
#[tokio::test]
async fn slow_heads_make_room_for_others_and_the_oldest_goes_first() {
    with_edge(PATIENCE * 6, async |edge| {
        let mut slow = Vec::new();
        for n in 0..HANDSHAKES_MAX + 200 {
            let mut stream = connect_from(2 + (n % 10) as u8, edge.address).await;
            stream.write_all(b"GET /ws HTTP/1.1\r\nHost: a\r\nX: ").await.unwrap();
            slow.push(stream);
        }
        let health = tokio::time::timeout(PATIENCE, edge.get("/livez")).await.expect("a place for the probe");
        assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
        let mut stream = edge.connect().await;
        stream.write_all(upgrade("/ws", "").as_bytes()).await.unwrap();
        assert!(matches!(edge.next_handoff().await.opening, Opening::AwaitHello));
        assert!(edge.counters.heads_evicted.get() >= 200, "{}", edge.counters.heads_evicted.get());
        let mut end = [0; 1];
        assert_eq!(slow[0].read(&mut end).await.unwrap_or(0), 0, "the oldest is gone");
        let newest = slow.last_mut().unwrap();
        newest.write_all(b"y\r\n\r\n").await.unwrap();
        assert!(read_head(newest).await.starts_with("http/1.1 4"), "the newest is still served");
    })
    .await;
}
