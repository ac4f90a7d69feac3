//! How many may connect, counted over all instances; and who is where.

use crate::cli::{ask, listed, listed_as};
use crate::client::Client;
use crate::fleet::Fleet;
use crate::frames::Frames;
use crate::receiver::{Kept, Receiver, Transport};
use test_support::RedisServer;

const TWO_EACH: &str = "[limits]\nconnections_per_user = 2\n";
const TWO_NEWEST: &str = "[limits]\nconnections_per_user = 2\non_excess = \"close_oldest\"\n";

async fn connect(fleet: &Fleet, index: usize, user: &str) -> Client {
    let token = fleet.token("acme", user, &["system:*"]);
    let mut client = Client::connect(fleet.gateway(index).listen_addr(), "/ws", Some(&token)).await;
    client.expect("welcome").await;
    client
}

/// The close code, and the code of the error before it, if there was one.
async fn closed(client: &mut impl Frames) -> (u64, Option<String>) {
    let mut error = None;
    loop {
        let frame = client.frame().await;
        match frame["type"].as_str().unwrap() {
            "close" => return (frame["code"].as_u64().unwrap(), error),
            "error" => error = frame["payload"]["code"].as_str().map(str::to_owned),
            "degraded" | "bye" | "welcome" | "subscribed" => {}
            _ => panic!("neither an error nor the end: {frame}"),
        }
    }
}

#[tokio::test]
async fn a_user_has_no_more_connections_than_it_may_on_any_instance() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), TWO_EACH);
    let _first = connect(&fleet, 0, "alice").await;
    listed(&redis, "alice", 1).await;
    let mut second = connect(&fleet, 1, "alice").await;
    listed(&redis, "alice", 2).await;
    for index in [0, 1] {
        let mut third = connect(&fleet, index, "alice").await;
        assert_eq!(closed(&mut third).await, (4005, Some("too_many_connections".into())), "on instance {index}");
    }
    let _other = connect(&fleet, 0, "bob").await;
    listed(&redis, "bob", 1).await;
    // Whoever was there stays, and who leaves makes room.
    second.subscribe("system:news", None).await;
    drop(second);
    listed(&redis, "alice", 1).await;
    let mut again = connect(&fleet, 0, "alice").await;
    again.subscribe("system:news", None).await;
    listed(&redis, "alice", 2).await;
}

#[tokio::test]
async fn the_oldest_goes_where_the_operator_chose_so() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), TWO_NEWEST);
    let mut first = connect(&fleet, 0, "alice").await;
    listed(&redis, "alice", 1).await;
    let mut second = connect(&fleet, 1, "alice").await;
    listed(&redis, "alice", 2).await;
    let mut third = connect(&fleet, 1, "alice").await;
    assert_eq!(closed(&mut first).await, (4504, None), "it is on the other instance");
    listed(&redis, "alice", 2).await;
    let mut fourth = connect(&fleet, 1, "alice").await;
    assert_eq!(closed(&mut second).await, (4504, None), "it is on the same instance");
    third.subscribe("system:news", None).await;
    fourth.subscribe("system:news", None).await;
}

#[tokio::test]
async fn without_redis_one_process_keeps_the_limit_itself() {
    let fleet = Fleet::start(1, None, TWO_EACH);
    let mut kept = [connect(&fleet, 0, "alice").await, connect(&fleet, 0, "alice").await];
    for client in &mut kept {
        client.subscribe("system:news", None).await;
    }
    let mut third = connect(&fleet, 0, "alice").await;
    assert_eq!(closed(&mut third).await, (4005, Some("too_many_connections".into())));
}

/// Each instance for itself; and when Redis is back, all of them together.
#[tokio::test]
async fn while_redis_is_away_each_instance_keeps_the_limit_alone() {
    let mut redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), TWO_EACH);
    let mut clients = vec![connect(&fleet, 0, "alice").await];
    listed(&redis, "alice", 1).await;
    redis.crash();
    clients[0].expect("degraded").await;
    clients.push(connect(&fleet, 0, "alice").await);
    clients.push(connect(&fleet, 1, "alice").await);
    clients.push(connect(&fleet, 1, "alice").await);
    for index in [0, 1] {
        let mut third = connect(&fleet, index, "alice").await;
        assert_eq!(closed(&mut third).await, (4005, Some("too_many_connections".into())), "on instance {index}");
    }
    for client in &mut clients {
        // Whoever was within the limit is there, Redis or not.
        client.send_text(r#"{"type":"ping","correlation_id":"there"}"#).await;
        while client.next().await["type"] != "pong" {}
    }
    redis.restart();
    listed(&redis, "alice", 2).await;
}

#[tokio::test]
async fn an_operator_finds_a_user_and_disconnects_it() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), "");
    assert_eq!(ask("who", &redis, &["alice"]), (vec![], 1));
    let mut first = connect(&fleet, 0, "alice").await;
    let mut second = connect(&fleet, 1, "alice").await;
    let mut bob = connect(&fleet, 1, "bob").await;
    let lines = listed(&redis, "alice", 2).await;
    assert!(lines.iter().any(|line| line.ends_with("gw-0")) && lines.iter().any(|line| line.ends_with("gw-1")));

    let on_first = lines.iter().find(|line| line.ends_with("gw-0")).unwrap();
    let session = on_first.split(' ').nth(1).unwrap();
    assert_eq!(ask("kick", &redis, &["alice", "--session", session]), (vec![on_first.clone()], 0));
    assert_eq!(closed(&mut first).await, (4505, None));
    let left = listed(&redis, "alice", 1).await;
    assert_eq!(ask("kick", &redis, &["alice"]), (left, 0));
    assert_eq!(closed(&mut second).await, (4505, None));
    bob.subscribe("system:news", None).await;
    assert_eq!(ask("kick", &redis, &["alice", "--session", "nonsense"]).1, 64);
}

/// Says hello with a token and a session id; gives the session id of the welcome.
async fn hello(fleet: &Fleet, index: usize, user: &str, session: Option<&str>) -> (Client, String) {
    let token = fleet.token("acme", user, &["system:*"]);
    let mut client = Client::connect(fleet.gateway(index).listen_addr(), "/ws", None).await;
    let session = session.map(|id| format!(r#","session_id":"{id}""#)).unwrap_or_default();
    client.send_text(&format!(r#"{{"type":"hello","payload":{{"token":"{token}"{session}}}}}"#)).await;
    let welcome = client.expect("welcome").await;
    let session = welcome["payload"]["session_id"].as_str().unwrap().to_owned();
    (client, session)
}

#[tokio::test]
async fn one_session_from_two_sockets_is_the_newer_one() {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), TWO_EACH);
    let (mut first, session) = hello(&fleet, 0, "alice", None).await;
    let mut lines = listed(&redis, "alice", 1).await;
    // On the same instance, several times so that both shards have their turn, and then on the other.
    for index in [0, 0, 0, 1] {
        let (mut next, same) = hello(&fleet, index, "alice", Some(&session)).await;
        assert_eq!(same, session);
        assert_eq!(closed(&mut first).await, (4504, None));
        next.subscribe("system:news", None).await;
        first = next;
        // Instances know which one is newer as well as they know Redis' clock: within ms, or as it was told.
        let (before, gateway) = (lines, format!("gw-{index}"));
        let is_it = |line: &String| line.contains(&session) && line.ends_with(&gateway);
        lines = listed_as(&redis, "alice", |lines| matches!(lines, [line] if is_it(line)) && lines != before).await;
    }

    // Nobody takes over what belongs to another user.
    let (mut thief, own) = hello(&fleet, 1, "mallory", Some(&session)).await;
    assert_ne!(own, session);
    thief.subscribe("system:more", None).await;
    first.subscribe("system:more", None).await;
}

over_both_transports!(nobody_is_refused_for_its_own_ghost, a_session_that_comes_back_is_counted_once);

/// A client of the first or second gateway, and the session of its welcome.
async fn arrive(kept: Kept, fleet: &Fleet, index: usize) -> (Receiver, String) {
    let mut client = kept.connect(fleet.gateway(index).listen_addr()).await;
    let session = client.expect("welcome").await["payload"]["session_id"].as_str().unwrap().to_owned();
    client.until_subscribed().await;
    (client, session)
}

async fn nobody_is_refused_for_its_own_ghost(transport: Transport) {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), TWO_EACH);
    let token = fleet.token("acme", "alice", &["system:*"]);
    let new = || Kept::nothing(transport, &token, &["system:news"]);
    let first = arrive(new(), &fleet, 0).await;
    let second = arrive(new(), &fleet, 0).await;
    listed(&redis, "alice", 2).await;
    // The line to the first instance is cut, and that instance has not noticed: its sockets stay, here unread.
    let mut back = Vec::new();
    for (unread, session) in [&first, &second] {
        let (client, same) = arrive(unread.kept(), &fleet, 1).await;
        assert_eq!(same, *session);
        let is_here = |line: &String| line.contains(session.as_str()) && line.ends_with("gw-1");
        listed_as(&redis, "alice", |lines| lines.len() == 2 && lines.iter().any(is_here)).await;
        back.push(client);
    }
    let mut third = new().connect(fleet.gateway(1).listen_addr()).await;
    assert_eq!(closed(&mut third).await, (4005, Some("too_many_connections".into())));
}

/// On one instance, and again: the newer connection of a session goes on, and the older one is told so.
async fn a_session_that_comes_back_is_counted_once(transport: Transport) {
    let redis = RedisServer::start(&[]);
    let fleet = Fleet::start(2, Some(&redis.url()), TWO_EACH);
    let token = fleet.token("acme", "alice", &["system:*"]);
    let new = || Kept::nothing(transport, &token, &["system:news"]);
    let (mut client, session) = arrive(new(), &fleet, 0).await;
    let (_other, _) = arrive(new(), &fleet, 0).await;
    listed(&redis, "alice", 2).await;
    for index in [0, 0, 0, 1] {
        let (next, same) = arrive(client.kept(), &fleet, index).await;
        assert_eq!(same, session);
        assert_eq!(closed(&mut client).await, (4504, None));
        let gateway = format!("gw-{index}");
        let is_it = |line: &String| line.contains(&session) && line.ends_with(&gateway);
        listed_as(&redis, "alice", |lines| lines.len() == 2 && lines.iter().any(is_it)).await;
        client = next;
    }
}
