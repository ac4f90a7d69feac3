//! Clients that keep nothing but their session's id: what they held is brought back on any instance.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};
use test_support::RedisServer;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cli::{ask, listed};
use crate::client::{Client, DEADLINE};
use crate::fleet::Fleet;

const OFTEN: &str = "[limits]\nping_interval_ms = 3000\npong_timeout_ms = 2900\n";

/// A client, and the session that goes on with it.
struct Plain {
    client: Client,
    session: String,
}

impl Plain {
    /// Says hello, without waiting for what comes of it.
    async fn hello(fleet: &Fleet, index: usize, user: &str, session: Option<&str>) -> Self {
        let stream = TcpStream::connect(fleet.gateway(index).listen_addr()).await.expect("it listens");
        Self::hello_over(fleet, stream, user, session).await
    }

    async fn hello_over(fleet: &Fleet, stream: TcpStream, user: &str, session: Option<&str>) -> Self {
        let mut client = Client::upgrade(stream, "/ws", None).await;
        let token = fleet.token("acme", user, &["collection:*"]);
        let session = session.map(|id| format!(r#","session_id":"{id}""#)).unwrap_or_default();
        client
            .send_text(&format!(r#"{{"type":"hello","payload":{{"token":"{token}","restore":true{session}}}}}"#))
            .await;
        let welcome = client.expect("welcome").await;
        let session = welcome["payload"]["session_id"].as_str().unwrap().to_owned();
        Self { client, session }
    }

    /// Holds two channels of one scope and one of another.
    async fn subscribed(fleet: &Fleet, index: usize, user: &str) -> Self {
        let mut plain = Self::hello(fleet, index, user, None).await;
        for channel in ["collection:42:*", "collection:43:ops"] {
            plain.client.subscribe(channel, None).await;
        }
        plain
    }

    /// The same session in a new connection.
    async fn back(&self, fleet: &Fleet, index: usize, user: &str) -> Self {
        let back = Self::hello(fleet, index, user, Some(&self.session)).await;
        assert_eq!(back.session, self.session);
        back
    }

    /// The next frame that says something of the session.
    async fn next(&mut self) -> Value {
        loop {
            let frame = self.client.next().await;
            if frame["type"] != "degraded" {
                return frame;
            }
        }
    }

    async fn restored(&mut self) -> Value {
        let frame = self.next().await;
        assert_eq!(frame["type"], "restored", "{frame}");
        frame["payload"].clone()
    }

    /// Reads messages until this one; gives all of them.
    async fn numbers(&mut self, last: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.last() != Some(&last) {
            let frame = self.next().await;
            match frame["type"].as_str().unwrap() {
                "n" => numbers.push(frame["payload"].as_u64().unwrap()),
                "subscribed" => assert_eq!(frame["payload"], json!({ "resumed": true, "degraded": false }), "{frame}"),
                _ => panic!("neither a message nor a subscription: {frame}"),
            }
        }
        numbers
    }

    /// Reads on to a close and answers it; gives the code and the messages before it.
    async fn closed(mut self) -> (u64, Vec<u64>) {
        let mut numbers = Vec::new();
        loop {
            let frame = self.next().await;
            match frame["type"].as_str().unwrap() {
                "n" => numbers.push(frame["payload"].as_u64().unwrap()),
                "close" => {
                    // Reading on answers it.
                    while let Some(Ok(_)) = timeout(DEADLINE, self.client.socket.next()).await.expect("an end in time")
                    {
                    }
                    return (frame["code"].as_u64().unwrap(), numbers);
                }
                "reconnect" | "bye" | "restored" | "subscribed" => {}
                _ => panic!("not the way to an end: {frame}"),
            }
        }
    }
}

fn both() -> Value {
    json!(["collection:42:*", "collection:43:ops"])
}

/// Publishes numbers to the first scope.
async fn publish(publisher: &mut Client, numbers: std::ops::Range<u64>) {
    for n in numbers {
        assert_eq!(publisher.publish("collection:42:ops", n).await["type"], "ack");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_client_gets_the_rest_and_nothing_twice() {
    let redis = RedisServer::start(&[]);
    let mut fleet = Fleet::start(2, Some(&redis.url()), "");
    let mut publisher = fleet.client(1, "publisher").await;
    let mut moving = Vec::new();
    for n in 0..5 {
        let plain = Plain::subscribed(&fleet, 0, &format!("user{n}")).await;
        moving.push((format!("user{n}"), plain.session.clone(), tokio::spawn(plain.closed())));
    }
    let leaving = fleet.gateways[0].take().unwrap();
    let draining = tokio::spawn(async move { leaving.drain().await });
    publish(&mut publisher, 0..50).await;
    for (user, session, closed) in moving {
        let (code, before) = closed.await.unwrap();
        assert_eq!(code, 1012);
        let mut back = Plain::hello(&fleet, 1, &user, Some(&session)).await;
        assert_eq!(back.restored().await, json!({ "found": true, "repeats": false, "channels": both() }));
        publisher.publish("collection:42:ops", 50).await;
        let rest = back.numbers(50).await;
        let all: Vec<u64> = before.into_iter().chain(rest).collect();
        assert_eq!(all[..51], (0..=50).collect::<Vec<_>>(), "each once, in order");
        // The other scope is heard too.
        publisher.publish("collection:43:ops", 99).await;
        back.numbers(99).await;
    }
    draining.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_answer_until_a_drain_is_over_is_known_elsewhere() {
    let redis = RedisServer::start(&[]);
    let mut fleet = Fleet::start(2, Some(&redis.url()), "[drain]\nwindow_ms = 0\ngrace_ms = 5000\n");
    // It has no time left to be cut one by one.
    let silent = Plain::subscribed(&fleet, 0, "alice").await;
    fleet.gateways[0].take().unwrap().drain().await;
    let mut back = silent.back(&fleet, 1, "alice").await;
    assert_eq!(back.restored().await, json!({ "found": true, "repeats": true, "channels": both() }));
}

#[tokio::test]
async fn a_cut_socket_loses_nothing_and_repeats_only_behind_the_last_answered_ping() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), OFTEN);
    // Who is not read does not answer pings: another publisher each time, and whoever stays is read meanwhile.
    let publish = async |numbers| publish(&mut fleet.client(1, "publisher").await, numbers).await;
    let mut plain = Plain::subscribed(&fleet, 0, "alice").await;
    let ((), received) = tokio::join!(publish(0..10), plain.numbers(9));
    assert_eq!(received, (0..10).collect::<Vec<_>>());
    // A `position` frame follows a ping, and the next ping is sent only if that one was answered.
    for _ in 0..2 {
        let before = fleet.metric(0, "tidegate_client_rtt_seconds_count").await;
        let until = Instant::now() + DEADLINE;
        while fleet.metric(0, "tidegate_client_rtt_seconds_count").await <= before {
            assert!(Instant::now() < until, "pings are answered");
            let _ = timeout(Duration::from_millis(50), plain.next()).await;
        }
    }
    let ((), received) = tokio::join!(publish(10..20), plain.numbers(19));
    assert_eq!(received, (10..20).collect::<Vec<_>>());
    let session = plain.session.clone();
    drop(plain.client); // No close frame.
    publish(20..30).await;
    let mut back = Plain::hello(&fleet, 1, "alice", Some(&session)).await;
    assert_eq!(back.restored().await, json!({ "found": true, "repeats": true, "channels": both() }));
    let numbers = back.numbers(29).await;
    assert_eq!(numbers, (numbers[0]..30).collect::<Vec<_>>(), "in order, each once");
    assert!((10..=20).contains(&numbers[0]), "what a ping has confirmed is not sent again: {numbers:?}");
}

#[tokio::test]
async fn a_session_that_is_still_thought_connected_is_handed_over() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), "");
    let mut publisher = fleet.client(1, "publisher").await;
    let plain = Plain::subscribed(&fleet, 0, "alice").await;
    listed(&redis, "alice", 1).await;
    publish(&mut publisher, 0..5).await;
    // Its own instance, both of its shards, and another one. The older sockets are there, read by nobody.
    let (mut stale_rows, mut last) = (Vec::new(), plain);
    for index in [0, 0, 1, 0] {
        let mut back = last.back(&fleet, index, "alice").await;
        assert_eq!(back.restored().await, json!({ "found": true, "repeats": true, "channels": both() }));
        assert_eq!(back.numbers(4).await, [0, 1, 2, 3, 4], "nothing was confirmed");
        stale_rows.push(std::mem::replace(&mut last, back));
    }
    for stale_row in stale_rows {
        assert_eq!(stale_row.closed().await.0, 4504);
    }
    // Where the older one answers its close, nothing comes twice.
    let (session, older) = (last.session.clone(), tokio::spawn(last.closed()));
    let mut back = Plain::hello(&fleet, 1, "alice", Some(&session)).await;
    assert_eq!(back.restored().await, json!({ "found": true, "repeats": false, "channels": both() }));
    assert_eq!(older.await.unwrap(), (4504, vec![]));
    publish(&mut publisher, 5..7).await;
    assert_eq!(back.numbers(6).await, [5, 6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_sockets_one_goes_on_with_everything() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), "");
    let mut publisher = fleet.client(1, "publisher").await;
    for round in 0..5 {
        let user = format!("user{round}");
        let plain = Plain::subscribed(&fleet, 0, &user).await;
        let session = plain.session.clone();
        let closing = tokio::spawn(plain.closed());
        listed(&redis, &user, 1).await;
        assert_eq!(ask("kick", &redis, &[&user]).1, 0);
        assert_eq!(closing.await.unwrap().0, 4505);
        let first = 10 * round;
        publish(&mut publisher, first..first + 3).await;
        let (a, b) = tokio::join!(
            Plain::hello(&fleet, 0, &user, Some(&session)),
            Plain::hello(&fleet, (round % 2) as usize, &user, Some(&session)),
        );
        let take = |frame: Value, numbers: &mut Vec<u64>| {
            match frame["type"].as_str().unwrap() {
                "n" => numbers.push(frame["payload"].as_u64().unwrap()),
                "close" => assert_eq!(frame["code"], 4504, "{frame}"),
                "restored" => assert_eq!(frame["payload"]["found"], true, "{frame}"),
                _ => {}
            }
            frame["type"].as_str().unwrap().to_owned()
        };
        // Either may be told that the other goes on, even if it was first and had everything.
        let (mut sockets, mut numbers) = ([a, b], [Vec::new(), Vec::new()]);
        let reading = async {
            loop {
                let [a, b] = &mut sockets;
                let (index, frame) = tokio::select! { frame = a.next() => (0, frame), frame = b.next() => (1, frame) };
                if take(frame, &mut numbers[index]) == "close" {
                    return index;
                }
            }
        };
        let closed = timeout(DEADLINE, reading).await.expect("one is told that the other goes on");
        let ([a, b], [of_a, of_b]) = (sockets, numbers);
        let (mut other, mut winner) = if closed == 0 { (b, of_b) } else { (a, of_a) };
        while winner.last() != Some(&(first + 2)) {
            assert_ne!(take(other.next().await, &mut winner), "close", "one of them goes on");
        }
        other.client.send_text(r#"{"type":"ping"}"#).await;
        while take(other.next().await, &mut winner) != "pong" {}
        assert!(winner.ends_with(&[first + 2]), "round {round}: {winner:?}");
        assert_eq!(winner, (first..first + 3).collect::<Vec<_>>()[3 - winner.len()..], "in order, each once");
    }
}

/// Its place among the connections of its session is that of its hello, not of the moment at which it had its record: a later
/// one may have come meanwhile, and would be taken for the earlier one.
#[tokio::test]
async fn who_waits_for_its_record_came_when_it_said_hello() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), "");
    // Read by nobody: it is waited for.
    let stale_row = Plain::subscribed(&fleet, 0, "alice").await;
    listed(&redis, "alice", 1).await;
    let mut back = stale_row.back(&fleet, 1, "alice").await;
    let (s, us): (u64, u64) = redis::cmd("TIME").query(&mut redis.connect()).unwrap();
    assert_eq!(back.restored().await["found"], true);
    let deadline = Instant::now() + DEADLINE;
    let since: u64 = loop {
        let keys: Vec<String> = redis::cmd("KEYS").arg("*:users:gw-1:*").query(&mut redis.connect()).unwrap();
        let registrations = keys.iter().filter_map(|key| {
            redis::cmd("HGET").arg(key).arg("acme/alice").query::<Option<String>>(&mut redis.connect()).unwrap()
        });
        let registrations: Vec<_> = registrations.collect();
        if let [registration] = &registrations[..] {
            break registration.split_once('@').unwrap().1.parse().unwrap();
        }
        assert!(Instant::now() < deadline, "{registrations:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let said_at_ms = s * 1_000 + us / 1_000;
    assert!(since <= said_at_ms, "it is listed since {} ms after its hello", since - said_at_ms);
}

#[tokio::test]
async fn a_stranger_is_told_that_there_is_nothing() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), "");
    let plain = Plain::subscribed(&fleet, 0, "alice").await;
    let session = plain.session.clone();
    let closing = tokio::spawn(plain.closed());
    listed(&redis, "alice", 1).await;
    ask("kick", &redis, &["alice"]);
    closing.await.unwrap();
    let nothing = json!({ "found": false });
    for (user, id) in [("mallory", session.as_str()), ("alice", "0123456789abcdef0123456789abcdef")] {
        let mut stranger = Plain::hello(&fleet, 1, user, Some(id)).await;
        assert_eq!(stranger.restored().await, nothing, "{user} {id}");
        drop(stranger.client);
    }
    // Hers was not touched; and she is who the token says, whatever it grants now.
    let mut client = Client::connect(fleet.gateway(1).listen_addr(), "/ws", None).await;
    let token = fleet.token("acme", "alice", &["collection:43:*"]);
    let hello = json!({ "token": token, "restore": true, "session_id": session });
    client.send_text(&json!({ "type": "hello", "payload": hello, "correlation_id": "h1" }).to_string()).await;
    client.expect("welcome").await;
    let restored = client.expect("restored").await;
    assert_eq!((&restored["payload"]["channels"], &restored["correlation_id"]), (&both(), &json!("h1")));
    let refused = client.expect("error").await;
    assert_eq!((&refused["payload"]["code"], &refused["channel"]), (&json!("forbidden"), &json!("collection:42:*")));
    assert_eq!(client.expect("subscribed").await["channel"], "collection:43:ops");
}

#[tokio::test]
async fn who_comes_too_late_is_told_that_there_is_nothing() {
    const RECORD_MS: u64 = 1_000;
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), &format!("[registry]\nrecord_ms = {RECORD_MS}\n"));
    let plain = Plain::subscribed(&fleet, 0, "alice").await;
    let session = plain.session.clone();
    let closing = tokio::spawn(plain.closed());
    listed(&redis, "alice", 1).await;
    ask("kick", &redis, &["alice"]);
    closing.await.unwrap();
    // Its record is there, and then it is not.
    listed(&redis, "alice", 0).await;
    tokio::time::sleep(Duration::from_millis(2 * RECORD_MS)).await;
    let mut late = Plain::hello(&fleet, 1, "alice", Some(&session)).await;
    assert_eq!(late.restored().await, json!({ "found": false }), "it had its time");
}

#[tokio::test]
async fn without_redis_the_client_is_told_to_ask_again() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start_watchful(1, &redis.url());
    let mut plain = Plain::subscribed(&fleet, 0, "alice").await;
    listed(&redis, "alice", 1).await;
    redis.freeze();
    while plain.client.next().await["payload"]["degraded"] != true {}
    let session = plain.session.clone();
    drop(plain.client);
    let mut back = Plain::hello(&fleet, 0, "alice", Some(&session)).await;
    let error = back.next().await;
    assert_eq!((&error["payload"]["code"], &error["payload"]["retry_after_ms"]), (&json!("unavailable"), &json!(1000)));
    redis.thaw();
    let hello = json!({ "type": "hello", "payload": { "restore": true, "session_id": session } }).to_string();
    loop {
        back.client.send_text(&hello).await;
        match back.next().await {
            frame if frame["type"] == "error" => tokio::time::sleep(Duration::from_millis(200)).await,
            frame => {
                assert_eq!(frame["payload"], json!({ "found": true, "repeats": true, "channels": both() }));
                break;
            }
        }
    }
}

#[tokio::test]
async fn one_process_without_redis_restores_too() {
    let fleet = Fleet::start(1, None, "");
    let mut publisher = fleet.client(0, "publisher").await;
    let plain = Plain::subscribed(&fleet, 0, "alice").await;
    let session = plain.session.clone();
    drop(plain.client);
    publish(&mut publisher, 0..3).await;
    let mut back = Plain::hello(&fleet, 0, "alice", Some(&session)).await;
    assert_eq!(back.restored().await, json!({ "found": true, "repeats": true, "channels": both() }));
    assert_eq!(back.numbers(2).await, [0, 1, 2]);
}

/// Waits until Redis keeps so many records of sessions, and gives them.
async fn kept(redis: &RedisServer, count: usize) -> Vec<String> {
    let until = Instant::now() + DEADLINE;
    loop {
        let connection = &mut redis.connect();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*record:*").query(connection).unwrap();
        if keys.len() == count {
            return keys.iter().map(|key| redis::cmd("GET").arg(key).query(connection).unwrap()).collect();
        }
        assert!(Instant::now() < until, "{keys:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until an instance has so many connections.
async fn connected(fleet: &Fleet, index: usize, count: usize) {
    let until = Instant::now() + DEADLINE;
    while fleet.metric(index, "tidegate_connections").await != count as f64 {
        assert!(Instant::now() < until, "it has others");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Asks for the session until Redis can be asked; gives what is told then.
async fn restored_at_last(back: &mut Plain) -> Value {
    let hello = json!({ "type": "hello", "payload": { "restore": true, "session_id": back.session } }).to_string();
    let until = Instant::now() + DEADLINE;
    loop {
        match back.next().await {
            frame if frame["type"] == "restored" => return frame["payload"].clone(),
            frame if frame["payload"]["code"] == "unavailable" => {
                assert!(Instant::now() < until, "Redis is back");
                tokio::time::sleep(Duration::from_millis(100)).await;
                back.client.send_text(&hello).await;
            }
            frame => panic!("neither the session nor a reason: {frame}"),
        }
    }
}

/// Its connection knew nothing of the session: what it leaves must not stand in the place of what is known.
#[tokio::test]
async fn who_asked_while_redis_was_away_leaves_what_there_was() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start_watchful(1, &redis.url());
    let mut watcher = fleet.client(0, "watcher").await;
    let plain = Plain::subscribed(&fleet, 0, "alice").await;
    listed(&redis, "alice", 1).await;
    let session = plain.session.clone();
    drop(plain.client);
    let before = kept(&redis, 1).await;
    redis.freeze();
    while watcher.next().await["payload"]["degraded"] != true {}
    // One ends while Redis is away, one stays until it is back, and one has subscribed something meanwhile.
    let mut asked = Vec::new();
    for _ in 0..3 {
        let mut back = Plain::hello(&fleet, 0, "alice", Some(&session)).await;
        assert_eq!(back.next().await["payload"]["code"], "unavailable");
        asked.push(back);
    }
    let mut last = asked.pop().unwrap();
    last.client.send_text(r#"{"type":"subscribe","channel":"collection:44"}"#).await;
    assert_eq!(last.next().await["type"], "subscribed");
    drop(asked);
    redis.thaw();
    while watcher.next().await["payload"]["degraded"] != false {}
    drop(last.client);
    connected(&fleet, 0, 1).await;
    listed(&redis, "alice", 0).await;
    assert_eq!(kept(&redis, 1).await, before);
    publish(&mut watcher, 0..2).await;
    let mut back = Plain::hello(&fleet, 0, "alice", Some(&session)).await;
    assert_eq!(restored_at_last(&mut back).await, json!({ "found": true, "repeats": true, "channels": both() }));
    assert_eq!(back.numbers(1).await, [0, 1]);
}

/// The answer went to a connection that nobody read any more: the next one is told the same.
#[tokio::test]
async fn who_is_told_that_there_is_nothing_leaves_nothing() {
    let redis = RedisServer::start(&[]);
    let mut fleet = Fleet::start(2, Some(&redis.url()), "");
    let plain = Plain::subscribed(&fleet, 0, "alice").await;
    listed(&redis, "alice", 1).await;
    fleet.kill(0);
    let session = plain.session.clone();
    for round in 0..3 {
        let mut back = Plain::hello(&fleet, 1, "alice", Some(&session)).await;
        assert_eq!(back.restored().await, json!({ "found": false }), "round {round}");
        drop(back.client);
        connected(&fleet, 1, 0).await;
    }
    // What it subscribes then is all there is.
    let mut back = Plain::hello(&fleet, 1, "alice", Some(&session)).await;
    assert_eq!(back.restored().await, json!({ "found": false }));
    back.client.subscribe("collection:44", None).await;
    drop(back.client);
    let mut back = Plain::hello(&fleet, 1, "alice", Some(&session)).await;
    assert_eq!(back.restored().await, json!({ "found": true, "repeats": true, "channels": ["collection:44"] }));
}

/// What was handed to a connection that ended before its client read it is handed to the next one.
#[tokio::test]
async fn what_nobody_read_is_handed_to_the_next_one() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), "");
    let mut publisher = fleet.client(1, "publisher").await;
    let plain = Plain::subscribed(&fleet, 0, "alice").await;
    let session = plain.session.clone();
    publish(&mut publisher, 0..3).await;
    drop(plain.client);
    let [first] = &kept(&redis, 1).await[..] else { panic!("one record") };
    let positions = |record: &str| record.split_once('{').unwrap().1.to_owned();
    for index in [0, 1, 0, 1] {
        // As soon as the instance can have it; and when it has been handed on.
        for reads in [false, true] {
            let mut back = Plain::hello(&fleet, index, "alice", Some(&session)).await;
            if reads {
                assert_eq!(back.restored().await, json!({ "found": true, "repeats": true, "channels": both() }));
            }
            drop(back.client);
            connected(&fleet, index, if index == 1 { 1 } else { 0 }).await;
            listed(&redis, "alice", 0).await;
            let [record] = &kept(&redis, 1).await[..] else { panic!("one record") };
            assert_eq!(positions(record), positions(first), "as it was");
        }
    }
    let mut back = Plain::hello(&fleet, 1, "alice", Some(&session)).await;
    assert_eq!(back.restored().await, json!({ "found": true, "repeats": true, "channels": both() }));
    assert_eq!(back.numbers(2).await, [0, 1, 2]);
}

/// An older connection of the session waits for its record, read by nobody; it must not take the newer one's place.
#[tokio::test]
async fn who_came_last_goes_on_whatever_an_older_connection_is_told() {
    let redis = RedisServer::start(&[]);
    let mut fleet = Fleet::start_watchful(1, &redis.url());
    fleet.add(None);
    let mut watcher = fleet.client(0, "watcher").await;
    for (round, again) in [(0, 0), (1, 0), (2, 1)] {
        let user = format!("user{round}");
        let plain = Plain::subscribed(&fleet, 0, &user).await;
        listed(&redis, &user, 1).await;
        let session = plain.session.clone();
        drop(plain.client);
        kept(&redis, round + 1).await;
        redis.freeze();
        // Redis is thought to be there still.
        let older = Plain::hello(&fleet, 0, &user, Some(&session)).await;
        while watcher.next().await["payload"]["degraded"] != true {}
        let mut back = Plain::hello(&fleet, again, &user, Some(&session)).await;
        redis.thaw();
        while watcher.next().await["payload"]["degraded"] != false {}
        assert_eq!(restored_at_last(&mut back).await["found"], true, "round {round}");
        publish(&mut watcher, 0..2).await;
        assert_eq!(back.numbers(1).await, [0, 1]);
        assert_eq!(older.closed().await.0, 4504);
        back.client.send_text(r#"{"type":"ping"}"#).await;
        assert_eq!(back.next().await["type"], "pong");
    }
}

/// A session is its user's: who names another one's gets one of its own, and that one is not disturbed.
#[tokio::test]
async fn a_session_that_somebody_else_names_stays_its_users() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), "");
    let mut publisher = fleet.client(1, "publisher").await;
    let mut alice = Plain::subscribed(&fleet, 0, "alice").await;
    listed(&redis, "alice", 1).await;
    let unused = "0123456789abcdef0123456789abcdef".to_owned();
    let nothing = json!({ "found": false });
    let mut others = Vec::new();
    for (n, session) in [&alice.session, &unused].into_iter().enumerate() {
        for index in [0, 1] {
            let user = format!("bob{n}{index}");
            let mut bob = Plain::hello(&fleet, index, &user, Some(session)).await;
            assert_ne!(bob.session, *session, "one of its own");
            assert_eq!(bob.restored().await, nothing);
            bob.client.subscribe("collection:42:*", None).await;
            listed(&redis, &user, 1).await;
            // Its own goes on as hers does.
            let (session, own) = (bob.session.clone(), bob);
            let mut again = Plain::hello(&fleet, 1 - index, &user, Some(&session)).await;
            assert_eq!(again.session, session);
            assert_eq!(again.restored().await["found"], true);
            assert_eq!(own.closed().await.0, 4504);
            others.push(again);
        }
    }
    // She is connected, comes to another instance, is away, and comes back: never refused for what others did.
    publish(&mut publisher, 0..1).await;
    assert_eq!(alice.numbers(0).await, [0]);
    let mut back = alice.back(&fleet, 1, "alice").await;
    assert_eq!(back.restored().await, json!({ "found": true, "repeats": true, "channels": both() }));
    assert_eq!(back.numbers(0).await, [0]);
    assert_eq!(alice.closed().await, (4504, vec![]));
    let session = back.session.clone();
    drop(back.client);
    listed(&redis, "alice", 0).await;
    for index in [0, 1] {
        let mut mallory = Plain::hello(&fleet, index, "mallory", Some(&session)).await;
        assert_ne!(mallory.session, session);
        assert_eq!(mallory.restored().await, nothing);
        others.push(mallory);
    }
    let mut back = Plain::hello(&fleet, 0, "alice", Some(&session)).await;
    assert_eq!(back.session, session);
    assert_eq!(back.restored().await, json!({ "found": true, "repeats": true, "channels": both() }));
    for mut other in others {
        other.client.send_text(r#"{"type":"ping"}"#).await;
        while other.next().await["type"] != "pong" {}
    }
}

/// With a token in the upgrade the session is open, and has told its name, before another one is named.
#[tokio::test]
async fn who_names_a_foreign_session_later_is_told_which_goes_on() {
    let fleet = Fleet::start(1, None, "");
    let alice = Plain::subscribed(&fleet, 0, "alice").await;
    let mut bob = fleet.client(0, "bob").await;
    let hello = json!({ "restore": true, "session_id": alice.session, "channels": [{ "channel": "collection:42:*" }] });
    bob.send_text(&json!({ "type": "hello", "payload": hello, "correlation_id": "h1" }).to_string()).await;
    let restored = bob.expect("restored").await;
    assert_eq!((&restored["payload"]["found"], &restored["correlation_id"]), (&json!(false), &json!("h1")));
    let own = restored["payload"]["session_id"].as_str().unwrap().to_owned();
    assert_ne!(own, alice.session);
    bob.expect("subscribed").await;
    drop(bob);
    let mut bob = Plain::hello(&fleet, 0, "bob", Some(&own)).await;
    let channels = json!(["system:ready", "collection:42:*"]);
    assert_eq!(bob.restored().await, json!({ "found": true, "repeats": true, "channels": channels }));
}

/// The token came with the upgrade, as browsers send it, and the session was there before the client wanted it kept.
#[tokio::test]
async fn a_token_in_the_upgrade_keeps_nobody_from_having_a_record() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(1, Some(&redis.url()), "");
    let token = fleet.token("acme", "alice", &["collection:*"]);
    let mut client = Client::connect(fleet.gateway(0).listen_addr(), "/ws", Some(&token)).await;
    let session = client.expect("welcome").await["payload"]["session_id"].as_str().unwrap().to_owned();
    listed(&redis, "alice", 1).await;
    client.send_text(r#"{"type":"hello","payload":{"restore":true}}"#).await;
    client.subscribe("collection:42:*", None).await;
    drop(client);
    kept(&redis, 1).await;
    let mut back = Plain::hello(&fleet, 0, "alice", Some(&session)).await;
    assert_eq!(back.restored().await, json!({ "found": true, "repeats": true, "channels": ["collection:42:*"] }));
}
