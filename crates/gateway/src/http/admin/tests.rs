//! Tests of the admin port over raw TCP.

use ::records::{Body, DeadLetter, Reason, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;

use super::*;
use crate::health::instance_state::Phase;
use crate::health::watchdog::{FROZEN_AFTER, Loop, Watchdog};
use crate::metrics::Sources;

async fn say(address: std::net::SocketAddr, request: &str) -> String {
    exchange(address, &format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n")).await
}

async fn exchange(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Returns one dead letter and one receipt of tenant acme, in memory.
async fn records() -> Records {
    let families = wire::Families::default();
    let scope = families.parse_scope("acme/collection:42").unwrap();
    let bounds = ::records::Bounds { entries_max: 10, ttl: Duration::from_secs(60) };
    let store = ::records::EitherStore::Memory(::records::MemoryStore::new(bounds));
    let dead_letter = DeadLetter {
        dedup_key: "m".into(),
        reason: Reason::Poison,
        instance: wire::InstanceId::parse("gw-1").unwrap(),
        scope: scope.clone(),
        topic: "ops".into(),
        user: None,
        position: None,
        time: wire::Timestamp(0),
        detail: "unknown field `secret`".into(),
        size: 6,
        body: Body::Message(Bytes::from_static(b"secret")),
    };
    store.keep(&dead_letter).await.unwrap();
    let alice = wire::UserId::parse("alice|1").unwrap();
    store.write_receipts(&[(scope, vec![(alice, wire::Position::new(7, 42))])]).await.unwrap();
    Records::new(store, families)
}

/// Returns a hub with one shard that does not run.
fn hub() -> Hub {
    let inbox = Arc::new(crate::host::mailbox::Mailbox::new(1_024));
    Hub::new(vec![crate::shard::hub::ShardHandle { inbox, counters: Arc::default() }])
}

async fn with_admin(health: Health, test: impl AsyncFnOnce(std::net::SocketAddr, &Health)) {
    with_leave(health, async |address, health, _| test(address, health).await).await;
}

async fn with_leave(health: Health, test: impl AsyncFnOnce(std::net::SocketAddr, &Health, &Notify)) {
    let health = Arc::new(health);
    let sources = Sources {
        shards: vec![Arc::default()],
        pump: Arc::default(),
        edge: Arc::default(),
        presence: Arc::default(),
        dead_letter_queue: Arc::new(::records::DeadLetterQueue::new(::records::DeadLetterQueueConfig {
            message_bytes_max: 0,
        })),
        receipt_buffer: Arc::default(),
        health: health.clone(),
        pools: Vec::new(),
    };
    let leave = Arc::new(Notify::new());
    let authorisation = Authorisation::new(
        crate::config::AdminHosts::default(),
        crate::host::reloadable::Reloadable::new(crate::auth::signed::verifier()),
        false,
    );
    let admin =
        Admin::new(authorisation, Exposition::new(sources), health.clone(), leave.clone(), records().await, hub());
    LocalSet::new()
        .run_until(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let task = tokio::task::spawn_local(admin.run(listener));
            test(address, &health, &leave).await;
            task.abort();
        })
        .await;
}

#[tokio::test]
async fn metrics_and_probes() {
    with_admin(Health::new(Watchdog::new(1, FROZEN_AFTER, Instant::now())), async |address, health| {
        let scraped = say(address, "GET /metrics").await;
        assert!(scraped.starts_with("HTTP/1.1 200 "), "{scraped}");
        assert!(scraped.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{scraped}");
        assert!(scraped.contains("\ntidegate_connections{shard=\"0\"} 0\n"), "{scraped}");
        assert!(scraped.contains("\ntidegate_delivery_latency_seconds_count 0\n"), "{scraped}");
        assert!(say(address, "GET /livez").await.starts_with("HTTP/1.1 200 "));
        assert!(say(address, "GET /readyz").await.starts_with("HTTP/1.1 503 "), "starting");
        health.advance(Phase::Running);
        health.broker_is_down("WRONGPASS invalid password");
        for (path, status) in [("/readyz", "503"), ("/livez", "200")] {
            let answer = say(address, &format!("GET {path}")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "never connected is not ready: {answer}");
            assert!(answer.contains("connecting") && answer.contains("WRONGPASS invalid password"), "{answer}");
        }
        health.broker_is_up();
        let ready = say(address, "GET /readyz").await;
        assert!(ready.starts_with("HTTP/1.1 200 ") && !ready.contains("reason"), "{ready}");
        health.broker_is_down("gone");
        assert!(say(address, "GET /readyz").await.starts_with("HTTP/1.1 200 "), "isolated is ready");
        health.advance(Phase::Draining);
        assert!(say(address, "GET /readyz").await.starts_with("HTTP/1.1 503 "));
        assert!(say(address, "GET /ws").await.starts_with("HTTP/1.1 404 "));
        assert!(say(address, "DELETE /metrics").await.starts_with("HTTP/1.1 405 "));
    })
    .await;
}

#[tokio::test]
async fn a_stuck_shard_silences_the_probes_and_not_the_numbers() {
    let long_ago = Instant::now().checked_sub(FROZEN_AFTER * 2).expect("the machine is up for longer");
    let health = Health::new(Watchdog::new(1, FROZEN_AFTER, long_ago));
    health.watchdog().report(Loop::Shard(0), long_ago, long_ago);
    with_admin(health, async |address, _| {
        assert_eq!(say(address, "GET /livez").await, "");
        assert_eq!(say(address, "GET /readyz").await, "");
        assert!(say(address, "GET /metrics").await.starts_with("HTTP/1.1 200 "));
    })
    .await;
}

#[tokio::test]
async fn an_operator_asks_for_a_drain_by_post_alone() {
    with_leave(Health::new(Watchdog::new(0, FROZEN_AFTER, Instant::now())), async |address, _, leave| {
        let woken = leave.notified();
        tokio::pin!(woken);
        let refused = say(address, "GET /drain").await;
        assert!(refused.starts_with("HTTP/1.1 405 ") && refused.contains("allow: POST"), "{refused}");
        assert!(futures_util::FutureExt::now_or_never(woken.as_mut()).is_none(), "a crawler drains nothing");
        let form = say(address, "POST /drain").await;
        assert!(form.starts_with("HTTP/1.1 403 ") && form.contains("admin_header_required"), "{form}");
        let elsewhere = "POST /drain HTTP/1.1\r\nX-Tidegate-Admin: 1\r\n";
        for page in ["Host: evil.example\r\n", "Host: a\r\nOrigin: https://evil.example\r\n"] {
            let refused = exchange(address, &format!("{elsewhere}{page}\r\n")).await;
            assert!(refused.starts_with("HTTP/1.1 403 "), "{page}{refused}");
        }
        assert!(futures_util::FutureExt::now_or_never(woken.as_mut()).is_none(), "a page drains nothing");
        let accepted = exchange(address, "POST /drain HTTP/1.1\r\nHost: a\r\nX-Tidegate-Admin: 1\r\n\r\n").await;
        assert!(accepted.starts_with("HTTP/1.1 202 ") && accepted.contains("draining"), "{accepted}");
        tokio::time::timeout(Duration::from_secs(20), woken).await.expect("it was woken");
    })
    .await;
}

#[tokio::test]
async fn a_stuck_shard_tells_nobody_who_is_connected() {
    with_admin(Health::new(Watchdog::new(1, FROZEN_AFTER, Instant::now())), async |address, _| {
        let refused = say(address, "GET /connections?user=a%2Fb").await;
        assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
        assert!(say(address, "POST /connections").await.starts_with("HTTP/1.1 405 "));
        let late = say(address, "GET /connections").await;
        assert!(late.starts_with("HTTP/1.1 503 ") && late.contains("a shard does not answer"), "{late}");
    })
    .await;
}

#[tokio::test]
async fn dead_letters_and_receipts_are_shown_and_messages_are_not() {
    with_admin(Health::new(Watchdog::new(1, FROZEN_AFTER, Instant::now())), async |address, _| {
        let dead_letters = say(address, "GET /dead-letters?tenant=acme").await;
        assert!(
            dead_letters.starts_with("HTTP/1.1 200 ") && dead_letters.contains(r#""reason":"poison""#),
            "{dead_letters}"
        );
        assert!(!dead_letters.contains("secret"), "{dead_letters}");
        assert!(say(address, "GET /dead-letters").await.ends_with("{\"dead_letters\":[]}\n"), "another tenant's");
        for (query, expected) in [
            ("tenant=acme&channel=collection:42", r#""acknowledged":"7-42""#),
            ("tenant=acme&channel=collection:42:ops&user=alice%7C1", r#""user":"alice|1""#),
            ("tenant=acme&channel=collection:42&user=bob", r#"{"receipts":[]}"#),
            ("channel=collection:42", r#"{"receipts":[]}"#),
        ] {
            let receipts = say(address, &format!("GET /receipts?{query}")).await;
            assert!(receipts.starts_with("HTTP/1.1 200 ") && receipts.contains(expected), "{query}: {receipts}");
        }
        for wrong in ["/receipts", "/receipts?channel=room:1", "/receipts?user=a%2Fb", "/dead-letters?tenat=acme"] {
            let refused = say(address, &format!("GET {wrong}")).await;
            assert!(refused.starts_with("HTTP/1.1 400 "), "{wrong}: {refused}");
        }
        assert!(say(address, "DELETE /dead-letters").await.starts_with("HTTP/1.1 405 "));
    })
    .await;
}

/// Heads that arrive slowly, and connections that say nothing, for as long as they may.
#[tokio::test]
async fn slow_heads_do_not_silence_the_probes() {
    with_admin(Health::new(Watchdog::new(0, FROZEN_AFTER, Instant::now())), async |address, health| {
        health.advance(Phase::Running);
        health.broker_is_up();
        let mut slow = Vec::new();
        for n in 0..2 * HEADS_MAX {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if n % 2 == 0 {
                stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: ").await.unwrap();
            }
            slow.push(stream);
        }
        let began = Instant::now();
        for probe in ["GET /livez", "GET /readyz", "GET /metrics"] {
            assert!(say(address, probe).await.starts_with("HTTP/1.1 200 "), "{probe}");
        }
        assert!(began.elapsed() < HEAD_TIMEOUT, "none of them waited for a slow one: {:?}", began.elapsed());
        // The oldest were given up for others, and the rest has its time.
        for stream in &mut slow {
            let end = tokio::time::timeout(REQUEST_TIMEOUT / 2, stream.read_to_end(&mut Vec::new())).await;
            assert!(end.is_ok(), "a slow head is kept");
        }
    })
    .await;
}

/// Clients that do not take their answers hold all places.
#[tokio::test]
async fn full_places_refuse_requests_and_not_probes() {
    with_admin(Health::new(Watchdog::new(1, FROZEN_AFTER, Instant::now())), async |address, health| {
        health.advance(Phase::Running);
        let mut held = Vec::new();
        // Its shard does not run, so that each of these waits.
        for _ in 0..REQUESTS_MAX {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /connections HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            held.push(stream);
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let busy = say(address, "GET /metrics").await;
            if busy.starts_with("HTTP/1.1 503 ") {
                assert!(busy.contains("retry-after: 1\r\n") && busy.contains("busy"), "{busy}");
                break;
            }
            assert!(Instant::now() < deadline, "the places are never full: {busy}");
        }
        assert!(say(address, "GET /livez").await.starts_with("HTTP/1.1 200 "));
        drop(held);
    })
    .await;
}

/// What is written to the log while a test runs on this thread.
#[derive(Debug, Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_act_of_an_operator_is_one_line_of_the_audit_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    with_admin(Health::new(Watchdog::new(0, FROZEN_AFTER, Instant::now())), async |address, _| {
        for (request, act) in [
            ("POST /drain HTTP/1.1\r\nHost: a\r\nX-Tidegate-Admin: 1\r\n\r\n", Some("drain")),
            ("GET /dead-letters?tenant=acme HTTP/1.1\r\nHost: a\r\n\r\n", Some("list_dead_letters")),
            ("GET /receipts?channel=collection:1&user=alice HTTP/1.1\r\nHost: a\r\n\r\n", Some("list_receipts")),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("POST /drain HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("POST /drain HTTP/1.1\r\nHost: evil.example\r\nX-Tidegate-Admin: 1\r\n\r\n", None),
        ] {
            log.0.lock().unwrap().clear();
            exchange(address, request).await;
            let written = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
            let lines: Vec<&str> = written.lines().filter(|line| line.contains(" audit: ")).collect();
            match act {
                Some(act) => {
                    let [line] = lines[..] else { panic!("{request}: {written}") };
                    assert!(line.contains(&format!("act=\"{act}\" caller=\"operator\" peer=127.0.0.1:")), "{line}");
                    assert!(!line.contains("alice"), "{line}");
                }
                None => assert_eq!(lines, [""; 0], "{request}"),
            }
        }
    })
    .await;
}
