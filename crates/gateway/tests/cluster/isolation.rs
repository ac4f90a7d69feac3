//! Without Redis: what stays within an instance, what is refused, and what everybody is told afterwards.

use serde_json::{Value, json};

use crate::client::Client;
use crate::fleet::Fleet;
use crate::frames::Frames;
use crate::receiver::{Kept, Receiver, Transport};
use test_support::RedisServer;

const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// What the client reads up to this, this included.
async fn until(client: &mut impl Frames, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut frames = Vec::new();
    while !frames.last().is_some_and(&is_it) {
        frames.push(client.frame().await);
    }
    frames
}

fn is_degraded(frame: &Value, degraded: bool) -> bool {
    frame["type"] == "degraded" && frame["payload"]["degraded"] == degraded
}

async fn member(fleet: &Fleet, index: usize, user: &str, channels: &[&str]) -> Client {
    let mut client = fleet.client(index, user).await;
    for channel in channels {
        client.subscribe(channel, None).await;
    }
    client
}

/// The same of one that only receives.
async fn degraded_receiver(transport: Transport, fleet: &Fleet, channel: &str) -> Receiver {
    let token = fleet.token("acme", "late", &["collection:*"]);
    let mut client = Kept::nothing(transport, &token, &[channel]).connect(fleet.gateway(0).listen_addr()).await;
    let (mut is_told, mut is_subscribed) = (false, false);
    while !(is_told && is_subscribed) {
        let frame = client.next().await;
        is_told |= is_degraded(&frame, true);
        if frame["type"] == "subscribed" {
            assert_eq!(frame["payload"]["degraded"], true, "{frame}");
            is_subscribed = true;
        }
    }
    client
}

/// One who comes to the first gateway while Redis is away.
async fn degraded_member(fleet: &Fleet, channel: &str) -> Client {
    let token = fleet.token("acme", "late", &["collection:*"]);
    let mut client = Client::connect(fleet.gateway(0).listen_addr(), "/ws", Some(&token)).await;
    client.expect("welcome").await;
    while !is_degraded(&client.next().await, true) {}
    client.send_text(&format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#)).await;
    assert_eq!(client.expect("subscribed").await["payload"]["degraded"], true);
    client
}

fn level(ack: &Value) -> (&str, &str) {
    (ack["type"].as_str().unwrap(), ack["payload"]["level"].as_str().unwrap_or_default())
}

fn gaps(frames: &[Value]) -> Vec<Value> {
    frames.iter().filter(|frame| frame["type"] == "gap").cloned().collect()
}

over_both_transports!(without_redis_an_instance_serves_its_own_and_tells_of_it_when_redis_is_back);

async fn without_redis_an_instance_serves_its_own_and_tells_of_it_when_redis_is_back(transport: Transport) {
    let mut redis = RedisServer::start(DURABLE);
    let fleet = Fleet::start(3, Some(&redis.url()), "");
    let channels = ["collection:42:ops", "collection:7:ops"];
    let mut here = Receiver::subscribed(transport, &fleet, 0, "here", &channels).await;
    let mut there = Receiver::subscribed(transport, &fleet, 1, "there", &channels).await;
    let mut elsewhere = Receiver::subscribed(transport, &fleet, 2, "elsewhere", &channels).await;
    let mut publisher = fleet.client(0, "publisher").await;
    for channel in channels {
        assert_eq!(level(&publisher.publish(channel, 1).await), ("ack", "durable"));
    }
    let mut position_now = String::new();
    for client in [&mut here, &mut there, &mut elsewhere] {
        position_now = position_in(&[client.next().await, client.next().await], "collection:42:ops");
    }

    redis.crash();
    for client in [&mut here, &mut there, &mut elsewhere] {
        assert!(is_degraded(&client.next().await, true));
    }
    assert!(is_degraded(&publisher.next().await, true));
    for n in [2, 3] {
        let ack = publisher.publish("collection:42:ops", n).await;
        assert_eq!((level(&ack), ack.get("position")), (("ack", "local"), None), "{ack}");
    }
    for n in [2, 3] {
        let frame = here.expect("n").await;
        assert_eq!((&frame["payload"], frame.get("position")), (&json!(n), None), "{frame}");
    }
    let refused = publisher.publish("system:news", 1).await;
    assert_eq!(refused["payload"]["code"], "unavailable", "{refused}");
    assert_eq!(
        (&refused["payload"]["retryable"], &refused["payload"]["retry_after_ms"]),
        (&json!(true), &json!(1_000))
    );
    // One who comes while Redis is away hears what stays here too.
    let mut late = degraded_receiver(transport, &fleet, "collection:42:*").await;
    assert_eq!(level(&publisher.publish("collection:42:ops", 4).await), ("ack", "local"));
    for client in [&mut here, &mut late] {
        assert_eq!(client.expect("n").await["payload"], 4);
    }

    redis.restart();
    until(&mut publisher, |frame| is_degraded(frame, false)).await;
    assert_eq!(level(&publisher.publish("collection:42:ops", 5).await), ("ack", "durable"));
    let events = until(&mut here, |frame| frame["payload"] == 5).await;
    let own = gaps(&events);
    assert_eq!(own.len(), 1, "of the scope in which something stayed here, and of no other: {events:?}");
    let expected = json!({ "after": position_now, "upto": position_now, "reason": "isolated", "certain": false });
    assert_eq!((&own[0]["channel"], &own[0]["payload"]), (&"collection:42:ops".into(), &expected));
    assert!(events.iter().any(|frame| is_degraded(frame, false)), "{events:?}");
    let events = until(&mut late, |frame| frame["payload"] == 5).await;
    let confirmed = events.iter().position(|frame| frame["type"] == "subscribed").expect("it is confirmed now");
    assert_eq!(gaps(&events[..confirmed])[0]["payload"]["upto"], Value::Null, "{events:?}");
    assert_eq!(gaps(&events).len(), 1, "{events:?}");
    for client in [&mut there, &mut elsewhere] {
        let events = until(client, |frame| frame["payload"] == 5).await;
        assert_eq!(
            events.iter().filter(|frame| frame["type"] == "n").count(),
            1,
            "it stayed on its instance: {events:?}"
        );
        assert_eq!(gaps(&events), Vec::<Value>::new(), "nothing stayed on its instance, and Redis lost nothing");
        assert!(events.iter().any(|frame| is_degraded(frame, false)), "{events:?}");
    }
    // Nothing of it is in the history.
    let mut again = fleet.client(0, "again").await;
    again.subscribe("collection:42:*", Some(&position_now)).await;
    assert_eq!(again.messages(1).await.0, [5]);
}

/// The position of the message of this channel.
fn position_in(frames: &[Value], channel: &str) -> String {
    let own = frames.iter().find(|frame| frame["channel"] == channel).expect("it came");
    own["position"].as_str().expect("it is stored").to_owned()
}

#[tokio::test]
async fn a_redis_that_hangs_isolates_too_and_what_was_under_way_is_unknown() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start_watchful(1, &redis.url());
    let mut client = member(&fleet, 0, "alice", &["collection:42:ops"]).await;
    redis.freeze();
    let unknown = client.publish("collection:42:ops", 1).await;
    assert_eq!(unknown["payload"]["code"], "unknown", "sent before anybody knew: never turned into a local one");
    // The answer may come before or after the news.
    let local = loop {
        let answer = client.publish("collection:42:ops", 2).await;
        if answer["type"] == "ack" {
            break answer;
        }
        assert_eq!(answer["payload"]["retryable"], true, "{answer}");
    };
    assert_eq!(level(&local), ("ack", "local"));
    redis.thaw();
    let events = until(&mut client, |frame| frame["type"] == "gap").await;
    assert_eq!(events.last().unwrap()["payload"]["reason"], "isolated", "{events:?}");
    assert_eq!(level(&client.publish("collection:42:ops", 3).await), ("ack", "durable"));
}

/// Publishes under an id and waits for the answer: its level or code, and whether it was published before.
async fn publish_as(client: &mut Client, id: &str, n: u64) -> (String, bool) {
    let publish = json!({ "type": "publish", "channel": "collection:42:ops", "event": "n", "id": id, "payload": n });
    client.send_text(&publish.to_string()).await;
    let answers = until(client, |frame| frame["type"] == "ack" || frame["type"] == "error").await;
    let payload = &answers.last().unwrap()["payload"];
    let word = payload["level"].as_str().or(payload["code"].as_str()).unwrap();
    (word.to_owned(), payload["duplicate"] == true)
}

#[tokio::test]
async fn an_id_holds_without_redis_too() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start_watchful(1, &redis.url());
    let mut publisher = fleet.client(0, "alice").await;
    let mut member = member(&fleet, 0, "bob", &["collection:42:ops"]).await;
    redis.freeze();
    assert_eq!(publish_as(&mut publisher, "first", 1).await.0, "unknown");
    while !is_degraded(&member.next().await, true) {}
    assert_eq!(publish_as(&mut publisher, "first", 1).await.0, "unavailable", "Redis may have it");
    assert_eq!(publish_as(&mut publisher, "second", 2).await, ("local".into(), false));
    assert_eq!(publish_as(&mut publisher, "second", 2).await, ("local".into(), true));
    redis.thaw();
    until(&mut publisher, |frame| is_degraded(frame, false)).await;
    assert_eq!(publish_as(&mut publisher, "first", 1).await.0, "durable");
    assert_eq!(publish_as(&mut publisher, "last", 3).await, ("durable".into(), false));
    let received = until(&mut member, |frame| frame["payload"] == 3).await;
    let mut received: Vec<_> =
        received.iter().filter(|frame| frame["type"] == "n").map(|frame| &frame["payload"]).collect();
    assert_eq!(received.pop(), Some(&json!(3)));
    assert_eq!(received, [&json!(2), &json!(1)], "each once");
}

#[tokio::test]
async fn a_family_without_history_is_told_too_and_every_subscription_by_itself() {
    let mut redis = RedisServer::start(DURABLE);
    let settings = "[[families]]\nname = \"room\"\nhistory_entries_max = 0\non_isolation = \"local\"\n\
                    [[families]]\nname = \"collection\"\non_isolation = \"read_only\"\n";
    let fleet = Fleet::start(1, Some(&redis.url()), settings);
    let token = fleet.token("acme", "alice", &["room:*", "collection:*"]);
    let mut client = Client::connect(fleet.gateway(0).listen_addr(), "/ws", Some(&token)).await;
    client.expect("welcome").await;
    for channel in ["room:1:chat", "room:1:*", "collection:42:ops"] {
        client.subscribe(channel, None).await;
    }
    redis.crash();
    while !is_degraded(&client.next().await, true) {}
    assert_eq!(client.publish("collection:42:ops", 1).await["payload"]["code"], "unavailable");
    assert_eq!(level(&client.publish("room:1:chat", 2).await), ("ack", "local"));
    redis.restart();
    let mut events = until(&mut client, |frame| frame["type"] == "gap").await;
    events.push(client.expect("gap").await);
    assert_eq!(events.iter().filter(|frame| frame["type"] == "n").count(), 1, "once, for both: {events:?}");
    let channels: Vec<_> = gaps(&events).iter().map(|gap| gap["channel"].as_str().unwrap().to_owned()).collect();
    assert_eq!(channels, ["room:1:chat", "room:1:*"]);
}

#[tokio::test]
async fn an_instance_that_never_saw_redis_says_so_and_serves_its_own() {
    let nobody = test_support::ReservedPort::take().unwrap();
    let fleet = Fleet::start(1, Some(&format!("redis://{}/", nobody.address())), "");
    let mut client = degraded_member(&fleet, "collection:42:ops").await;
    assert_eq!(level(&client.publish("collection:42:ops", 1).await), ("ack", "local"));
    assert_eq!(client.expect("n").await["payload"], 1);
}
