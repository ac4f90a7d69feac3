//! What is revoked is closed on every instance, and stays out.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::{RedisServer, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cli::ask;
use crate::client::Client;
use crate::dial;
use crate::fleet::Fleet;
use crate::proxy::Proxy;
use crate::receiver::{Kept, Receiver, Transport};

/// A revocation holds on every connected instance within a second. The rest is for a machine with other work.
const REACH: Duration = Duration::from_secs(2);

/// A token of tenant `acme` that was issued this many seconds ago.
fn token_of(user: &str, issued_s: i64, more: &Value) -> String {
    let mut claims = json!({
        "sub": user, "tenant": "acme", "iat": token::expiry(-issued_s), "exp": token::expiry(3_600),
        "subscribe": ["collection:*", "system:*"],
    });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    token::sign(&claims)
}

async fn connect(transport: Transport, fleet: &Fleet, index: usize, token: &str) -> Receiver {
    let kept = Kept::nothing(transport, token, &["system:news"]);
    let mut receiver = kept.connect(fleet.gateway(index).listen_addr()).await;
    receiver.until_subscribed().await;
    receiver
}

/// Runs `tidegate revoke`, and says when it had ended.
fn revoke(redis: &RedisServer, args: &[&str]) -> Instant {
    assert_eq!(ask("revoke", redis, args), (vec![], 0), "{args:?}");
    Instant::now()
}

/// Reads until the client is closed as revoked. The messages before it are passed over.
async fn is_closed(receiver: &mut Receiver) {
    loop {
        let frame = receiver.next().await;
        match frame["type"].as_str().unwrap() {
            "error" => assert_eq!(frame["payload"]["code"], "revoked", "{frame}"),
            "bye" => {
                assert_eq!((&frame["payload"]["code"], &frame["payload"]["reconnect"]), (&json!(4506), &json!(false)));
                return;
            }
            "n" | "degraded" | "gap" => {}
            _ => panic!("{frame}"),
        }
    }
}

/// Comes back with what a client keeps until it is refused at once. An instance that has not heard of the revocation
/// closes the connection a moment later.
async fn is_refused(fleet: &Fleet, index: usize, kept: Kept) {
    let (address, until) = (fleet.gateway(index).listen_addr(), Instant::now() + REACH);
    loop {
        let is_at_once = match &kept {
            Kept::Positions { .. } => {
                let mut receiver = kept.clone().connect(address).await;
                let first = receiver.next().await;
                while receiver.next().await["payload"]["code"] != 4506 {}
                first["payload"]["code"] == "revoked"
            }
            // An EventSource does not come back after a status other than 200.
            Kept::LastId { token, channels, id } => {
                let mut stream = dial::over(TcpStream::connect(address).await.unwrap()).await;
                let last = id.as_ref().map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
                let head = format!("GET /sse?channels={channels} HTTP/1.1\r\nHost: gateway");
                let request = format!("{head}\r\nAuthorization: Bearer {token}\r\n{last}\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                assert!(answer.contains("4506") || answer.contains(r#""code":"revoked""#), "{answer}");
                answer.starts_with("HTTP/1.1 401 ")
            }
        };
        if is_at_once {
            return;
        }
        assert!(Instant::now() < until, "instance {index} has not heard of it");
    }
}

/// A message reaches the clients next.
async fn go_on<const N: usize>(receivers: [&mut Receiver; N], publisher: &mut Client, n: u64) {
    publisher.publish("system:news", n).await;
    for receiver in receivers {
        assert_eq!(receiver.messages(1).await, [n]);
    }
}

async fn publisher(fleet: &Fleet, index: usize) -> Client {
    fleet.client(index, "publisher").await
}

over_both_transports!(
    a_revoked_user_is_closed_on_every_instance_and_stays_out,
    a_revoked_token_and_a_revoked_session_leave_others_alone,
    an_instance_that_was_isolated_asks_first_what_was_revoked,
    a_revocation_that_was_lifted_meanwhile_closes_nobody
);

async fn a_revoked_user_is_closed_on_every_instance_and_stays_out(transport: Transport) {
    let redis = RedisServer::start(&[]);
    let mut fleet = Fleet::start(2, Some(&redis.url()), "");
    let old = token_of("alice", 60, &json!({}));
    let mut hers = [connect(transport, &fleet, 0, &old).await, connect(transport, &fleet, 1, &old).await];
    let mut bob = connect(transport, &fleet, 0, &token_of("bob", 60, &json!({}))).await;
    let began = revoke(&redis, &["--user", "alice"]);
    for receiver in &mut hers {
        is_closed(receiver).await;
    }
    assert!(began.elapsed() < REACH, "{:?}", began.elapsed());
    for (index, receiver) in hers.iter().enumerate() {
        is_refused(&fleet, index, receiver.kept()).await;
        // Another token that was issued before, which the instance has not seen.
        is_refused(&fleet, index, Kept::nothing(transport, &token_of("alice", 30, &json!({})), &["system:news"])).await;
    }
    // A new instance learns it when it starts: before the client comes, or a moment after.
    fleet.add(None);
    let mut newcomer = Client::connect(fleet.gateway(2).listen_addr(), "/ws", Some(&old)).await;
    while newcomer.next().await["payload"]["code"] != 4506 {}

    let new = token_of("alice", -2, &json!({}));
    let mut again = connect(transport, &fleet, 1, &new).await;
    let mut publisher = publisher(&fleet, 0).await;
    go_on([&mut again, &mut bob], &mut publisher, 1).await;
    revoke(&redis, &["--user", "alice", "--lift"]);
    until_accepted(transport, &fleet, 0, &old).await;
}

/// Tries until a token is accepted: the lifting of a revocation arrives like the revocation.
async fn until_accepted(transport: Transport, fleet: &Fleet, index: usize, token: &str) {
    let until = Instant::now() + crate::client::DEADLINE;
    loop {
        let mut client = Client::connect(fleet.gateway(index).listen_addr(), "/ws", Some(token)).await;
        if client.next().await["type"] == "welcome" {
            break;
        }
        assert!(Instant::now() < until, "it is not lifted");
    }
    connect(transport, fleet, index, token).await;
}

async fn a_revoked_token_and_a_revoked_session_leave_others_alone(transport: Transport) {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), "");
    let (first, second) = (json!({ "jti": "t-1", "sid": "login-1" }), json!({ "jti": "t-2", "sid": "login-2" }));
    let mut by_token = connect(transport, &fleet, 0, &token_of("alice", 60, &first)).await;
    let mut other = connect(transport, &fleet, 1, &token_of("alice", 60, &second)).await;
    let mut publisher = publisher(&fleet, 0).await;
    revoke(&redis, &["--token", "t-1"]);
    is_closed(&mut by_token).await;
    is_refused(&fleet, 1, by_token.kept()).await;
    go_on([&mut other], &mut publisher, 1).await;

    // The same token may begin a new session, but not continue this one.
    let third = token_of("carol", 60, &json!({ "jti": "t-3", "sid": "login-3" }));
    let mut session = connect(transport, &fleet, 0, &third).await;
    go_on([&mut session, &mut other], &mut publisher, 2).await;
    let listed = crate::cli::listed(&redis, "carol", 1).await;
    revoke(&redis, &["--session", listed[0].split(' ').nth(1).unwrap()]);
    is_closed(&mut session).await;
    is_refused(&fleet, 0, session.kept()).await;
    is_refused(&fleet, 1, session.kept()).await;
    let mut again = connect(transport, &fleet, 1, &third).await;
    // The issuer's session: each of its tokens.
    revoke(&redis, &["--session", "login-3"]);
    is_closed(&mut again).await;
    is_refused(&fleet, 0, Kept::nothing(transport, &third, &["system:news"])).await;
    go_on([&mut other], &mut publisher, 3).await;
}

async fn an_instance_that_was_isolated_asks_first_what_was_revoked(transport: Transport) {
    let redis = RedisServer::start(&[]);
    let proxy = Proxy::start(redis.port()).await;
    let mut fleet = Fleet::start(1, Some(&redis.url()), "");
    fleet.add(Some(&proxy.url()));
    let token = |user: &str| token_of(user, 60, &json!({}));
    let mut here = connect(transport, &fleet, 0, &token("alice")).await;
    let mut there = connect(transport, &fleet, 1, &token("alice")).await;
    let mut carol = connect(transport, &fleet, 1, &token("carol")).await;
    let mut heard = connect(transport, &fleet, 1, &token("bob")).await;
    revoke(&redis, &["--user", "bob"]);
    is_closed(&mut heard).await;

    proxy.cut();
    while carol.next().await["payload"]["degraded"] != true {}
    revoke(&redis, &["--user", "alice"]);
    is_closed(&mut here).await;
    // It keeps what it has heard, and has not heard of the rest.
    is_refused(&fleet, 1, heard.kept()).await;
    let mut stays = Client::connect(fleet.gateway(1).listen_addr(), "/ws", Some(&token("alice"))).await;
    stays.expect("welcome").await;

    proxy.mend();
    while carol.next().await["payload"]["degraded"] != false {}
    let began = Instant::now();
    is_closed(&mut there).await;
    while stays.next().await["payload"]["code"] != 4506 {}
    assert!(began.elapsed() < REACH, "{:?}", began.elapsed());
    is_refused(&fleet, 1, there.kept()).await;
}

/// The log is read in several pages.
async fn a_revocation_that_was_lifted_meanwhile_closes_nobody(transport: Transport) {
    let redis = RedisServer::start(&[]);
    let proxy = Proxy::start(redis.port()).await;
    let mut fleet = Fleet::start(1, Some(&redis.url()), "");
    fleet.add(Some(&proxy.url()));
    let token = |user: &str| token_of(user, 60, &json!({}));
    let mut alice = connect(transport, &fleet, 1, &token("alice")).await;
    let mut bob = connect(transport, &fleet, 1, &token("bob")).await;
    proxy.cut();
    while alice.next().await["payload"]["degraded"] != true {}
    revoke(&redis, &["--user", "alice"]);
    let mut others = redis::pipe();
    for number in 0..3_000 {
        let jti = format!("other-{number}");
        others.cmd("FCALL").arg(&[
            "tidegate_revoke",
            "1",
            "tidegate:{registry}:revocations",
            "token",
            &jti,
            "3600000",
            "",
        ]);
    }
    others.exec(&mut redis.connect()).unwrap();
    revoke(&redis, &["--user", "alice", "--lift"]);
    revoke(&redis, &["--user", "bob"]);
    proxy.mend();
    is_closed(&mut bob).await;
    while alice.next().await["payload"]["degraded"] != false {}
    go_on([&mut alice], &mut publisher(&fleet, 0).await, 1).await;
}
