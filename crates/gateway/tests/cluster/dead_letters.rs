//! A message that nobody can deliver is kept once, however many instances and clients come upon it.

use std::time::{Duration, Instant};

use keyspace::{Function, Keyspace};
use test_support::RedisServer;
use tokio::time::sleep;
use wire::{Families, TenantId};

use crate::client::{Client, DEADLINE};
use crate::fleet::Fleet;
use crate::metrics::{metric, until};

/// What another language stores, past every check: `message` in collection 42 of tenant acme.
fn store(redis: &RedisServer, message: &str) -> String {
    let scope = Families::default().parse_scope("acme/collection:42").unwrap();
    let keys = Keyspace::default();
    let mut publish = redis::cmd("FCALL");
    publish.arg(Function::RELAY.name).arg(2).arg(keys.stream(&scope)).arg(keys.meta(&scope));
    publish.arg("ops").arg(message).query(&mut redis.connect()).expect("it is taken")
}

/// The dead letters of tenant acme: position and message.
fn dead_letters(redis: &RedisServer) -> Vec<(String, Option<String>)> {
    let key = Keyspace::default().dead_letters(&TenantId::parse("acme").unwrap());
    let entries: Vec<(String, Vec<(String, String)>)> =
        redis::cmd("XRANGE").arg(key).arg("-").arg("+").query(&mut redis.connect()).unwrap();
    let field = |fields: &[(String, String)], name: &str| {
        fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone())
    };
    let dead_letter = |(_, fields): &(String, Vec<(String, String)>)| {
        (field(fields, "position").expect("it was stored"), field(fields, "message"))
    };
    entries.iter().map(dead_letter).collect()
}

async fn subscribers(fleet: &Fleet) -> Vec<Client> {
    let mut clients = Vec::new();
    for index in 0..fleet.gateways.len() {
        let mut client = fleet.client(index, "alice").await;
        client.subscribe("collection:42:*", None).await;
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn a_poison_message_is_one_dead_letter_of_three_instances() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(3, Some(&redis.url()), "");
    let mut clients = subscribers(&fleet).await;
    let before = store(&redis, r#"{"type":"n","payload":1}"#);
    let poison = store(&redis, "{\"type\":\"n\",\"payload\":}");
    store(&redis, r#"{"type":"n","payload":2}"#);
    for client in &mut clients {
        assert_eq!(client.messages(2).await.0, [1, 2], "the channel goes on");
    }
    // All three have told of it: one wrote, two were told that it is known.
    until(&fleet, "tidegate_dead_letters_total", 1).await;
    until(&fleet, "tidegate_dead_letters_known_total", 2).await;
    let expected = vec![(poison, Some("{\"type\":\"n\",\"payload\":}".to_owned()))];
    assert_eq!(dead_letters(&redis), expected);

    // Who resumes over it comes upon it again.
    let mut late = fleet.client(0, "bob").await;
    late.subscribe("collection:42:*", Some(&before)).await;
    assert_eq!(late.messages(1).await.0, [2]);
    assert_eq!(metric(&fleet, "tidegate_messages_bad_total").await, 4, "three instances, and one resume");
    assert_eq!(dead_letters(&redis), expected);
    assert_eq!(metric(&fleet, "tidegate_dead_letters_known_total").await, 2, "nobody asked Redis again");
}

#[tokio::test]
async fn a_redacted_family_keeps_the_fact_and_not_the_words() {
    let redis = RedisServer::start(&[]);
    let fleet =
        Fleet::start(1, Some(&redis.url()), "[[families]]\nname = \"collection\"\nredact_dead_letters = true\n");
    let _clients = subscribers(&fleet).await;
    let poison = store(&redis, "{\"pin\":4711}");
    until(&fleet, "tidegate_dead_letters_total", 1).await;
    assert_eq!(dead_letters(&redis), [(poison, None)]);
    let key = Keyspace::default().dead_letters(&TenantId::parse("acme").unwrap());
    let all: Vec<u8> = redis::cmd("DUMP").arg(key).query(&mut redis.connect()).unwrap();
    assert!(!String::from_utf8_lossy(&all).contains("pin"), "not even in the sentence of the parser");
}

/// A full Redis delivers and takes nothing: the dead letter waits until it can be kept.
#[tokio::test]
async fn dead_letters_wait_while_redis_takes_none() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(1, Some(&redis.url()), "");
    let _clients = subscribers(&fleet).await;
    let config = |memory: &str| {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(memory).exec(&mut redis.connect()).unwrap();
    };
    let poison = store(&redis, "{\"type\":\"n\"");
    until(&fleet, "tidegate_dead_letters_total", 1).await;
    // The next one is in the same breath made and locked out.
    let second = {
        let scope = Families::default().parse_scope("acme/collection:42").unwrap();
        let keys = Keyspace::default();
        let mut both = redis::pipe();
        both.atomic().cmd("FCALL").arg(Function::RELAY.name).arg(2).arg(keys.stream(&scope)).arg(keys.meta(&scope));
        both.arg("ops").arg("{\"type\":");
        both.cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").ignore();
        let (position,): (String,) = both.query(&mut redis.connect()).unwrap();
        position
    };
    until(&fleet, "tidegate_messages_bad_total", 2).await;
    let deadline = Instant::now() + DEADLINE;
    while !redis::cmd("INFO").arg("errorstats").query::<String>(&mut redis.connect()).unwrap().contains("errorstat_OOM")
    {
        assert!(Instant::now() < deadline, "nobody has tried to keep it");
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(metric(&fleet, "tidegate_dead_letters_total").await, 1, "Redis takes nothing");
    config("0");
    until(&fleet, "tidegate_dead_letters_total", 2).await;
    let positions: Vec<String> = dead_letters(&redis).into_iter().map(|(position, _)| position).collect();
    assert_eq!(positions, [poison, second]);
    assert_eq!(metric(&fleet, "tidegate_dead_letters_dropped_total").await, 0);
}

/// What an instance took while Redis was away is written down when Redis is back; of a family without history, nothing.
#[tokio::test]
async fn what_stayed_on_an_instance_becomes_dead_letters_when_redis_is_back() {
    let mut redis = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let rooms = "[[families]]\nname = \"room\"\nhistory_entries_max = 0\non_isolation = \"local\"\n";
    let fleet = Fleet::start(2, Some(&redis.url()), rooms);
    let token = fleet.token("acme", "alice", &["collection:*", "room:*", "system:*"]);
    let mut client = Client::connect(fleet.gateway(0).listen_addr(), "/ws", Some(&token)).await;
    client.expect("welcome").await;
    client.subscribe("system:ready", None).await;
    redis.crash();
    while client.next().await["type"] != "degraded" {}
    // Nobody is subscribed there: it reaches nobody at all.
    for n in 1..=2 {
        assert_eq!(client.publish("collection:42:ops", n).await["payload"]["level"], "local");
        assert_eq!(client.publish("room:1", n).await["payload"]["level"], "local");
    }
    assert_eq!(metric(&fleet, "tidegate_dead_letters_total").await, 0);
    redis.restart();
    until(&fleet, "tidegate_dead_letters_total", 2).await;
    let key = Keyspace::default().dead_letters(&TenantId::parse("acme").unwrap());
    let entries: Vec<(String, std::collections::HashMap<String, String>)> =
        redis::cmd("XRANGE").arg(key).arg("-").arg("+").query(&mut redis.connect()).unwrap();
    for ((_, fields), n) in entries.iter().zip(1..) {
        let message = format!(r#"{{"type":"n","payload":{n}}}"#);
        let expected = [
            ("reason", "isolated"),
            ("instance", "gw-0"),
            ("user", "alice"),
            ("channel", "collection:42:ops"),
            ("message", &message),
        ];
        for (name, value) in expected {
            assert_eq!(fields.get(name).map(String::as_str), Some(value), "{fields:?}");
        }
        assert_eq!(fields.get("position"), None);
    }
    assert_eq!(entries.len(), 2);
}
