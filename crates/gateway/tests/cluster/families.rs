//! Gateways with different families: a rolling update that adds one.

use std::time::{Duration, Instant};

use redis::cmd;
use serde_json::json;
use test_support::RedisServer;
use tidegate_gateway::Gateway;

use crate::client::DEADLINE;
use crate::fleet::{Fleet, config};

const ROOMS: &str = "[[families]]\nname = \"room\"\n";

/// One more gateway with further lines in its configuration file.
fn add_configured(fleet: &mut Fleet, settings: &str) {
    let name = format!("gw-{}", fleet.gateways.len());
    let settings = format!("{}{settings}", fleet.settings);
    let gateway = Gateway::start(config(&name, &fleet.broker, &settings)).expect("the addresses are free");
    fleet.gateways.push(Some(gateway));
}

/// An instance that does not know the new family connects again, and ends. The instances that know it serve it.
#[tokio::test]
async fn an_added_family_outlives_the_instances_that_do_not_know_it() {
    let server = RedisServer::start(&[]);
    let mut fleet = Fleet::start_watchful(1, &server.url());
    drop(fleet.client(0, "alice").await);
    add_configured(&mut fleet, ROOMS);
    let token = fleet.token("acme", "bob", &["room:*", "system:*"]);
    let mut bob = crate::client::Client::connect(fleet.gateway(1).listen_addr(), "/ws", Some(&token)).await;
    bob.expect("welcome").await;
    bob.subscribe("room:1", None).await;
    assert_eq!(bob.publish("room:1", 1).await["type"], "ack");

    let mut redis = server.connect();
    let clients: String = cmd("CLIENT").arg("LIST").query(&mut redis).unwrap();
    let is_of_first = |line: &&str| line.contains("name=tidegate:gw-0:");
    for client in clients.lines().filter(is_of_first) {
        let id = client.split(' ').next().and_then(|field| field.strip_prefix("id=")).unwrap();
        cmd("CLIENT").arg("KILL").arg("ID").arg(id).exec(&mut redis).unwrap();
    }
    let begun = Instant::now();
    let is_back = |clients: &str| clients.lines().filter(is_of_first).any(|line| line.contains("sub=1"));
    while !is_back(&cmd("CLIENT").arg("LIST").query::<String>(&mut redis).unwrap()) {
        assert!(begun.elapsed() < DEADLINE, "the first instance connects again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fleet.kill(0);
    assert_eq!(bob.publish("room:1", 1).await["type"], "ack");
    let answer: redis::RedisResult<String> = cmd("FCALL")
        .arg(&["tidegate_publish", "2", "tidegate:{acme/room:1}:stream", "tidegate:{acme/room:1}:meta", ""])
        .arg(json!({"type": "t"}).to_string())
        .query(&mut redis);
    assert!(answer.is_ok(), "{answer:?}");
}
