//! URLs, right and wrong, and whom they lead to.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

fn sentinels(url: &str) -> (Target, Sentinels) {
    let target = Target::parse(url).unwrap();
    let Topology::Sentinel(sentinels) = target.topology().clone() else { panic!("{url} names Sentinels") };
    (target, sentinels)
}

#[test]
fn one_server_is_taken_apart() {
    let target = Target::parse("redis://alice:p%40ss@example.com:7000/3").unwrap();
    assert_eq!(target.to_string(), "example.com:7000");
    assert_eq!(target.settings().username(), Some("alice"));
    assert_eq!(target.settings().password(), Some("p@ss"));
    assert_eq!(target.settings().db(), 3);
    assert_eq!(Target::parse("valkey://localhost").unwrap().to_string(), "localhost:6379");
}

#[test]
fn sentinels_are_taken_apart() {
    let (target, found) =
        sentinels("redis+sentinel://alice:p%40ss@s1,s2:7000,[::1]/main/3?sentinel_user=watch&sentinel_password=w%40");
    assert_eq!(target.to_string(), "main by s1:26379,s2:7000,[::1]:26379");
    assert_eq!((target.settings().username(), target.settings().password()), (Some("alice"), Some("p@ss")));
    assert_eq!(target.settings().db(), 3);
    assert_eq!((found.settings.username(), found.settings.password()), (Some("watch"), Some("w@")));
    let (target, found) = sentinels("valkey+sentinel://:word@s1:7000/main");
    assert_eq!((target.settings().username(), target.settings().password()), (None, Some("word")));
    assert_eq!(target.settings().db(), 0);
    assert_eq!(found.settings.password(), None, "a Sentinel is not told the password of Redis");
}

#[test]
fn a_cluster_is_taken_apart() {
    let target = Target::parse("valkey+cluster://alice:p%40ss@n1:7000,n2/").unwrap();
    assert_eq!(target.to_string(), "n1:7000,n2:6379");
    assert_eq!((target.settings().username(), target.settings().password()), (Some("alice"), Some("p@ss")));
    assert!(matches!(target.topology(), Topology::Cluster(_)));
}

/// The machine of the first one may be gone, and the registry has a second for all of it.
#[tokio::test]
async fn a_server_of_a_cluster_that_is_silent_is_not_waited_for() {
    let listen = async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Node::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        (listener, address)
    };
    let ((_silent, first), (answering, second)) = (listen().await, listen().await);
    tokio::spawn(async move {
        let (mut stream, _) = answering.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        let line = "67ed 10.0.0.1:7000@17000 myself,master - 0 0 3 connected 0-16383\n";
        stream.write_all(format!("${}\r\n{line}\r\n", line.len()).as_bytes()).await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
    });
    let target = Target::parse("redis+cluster://unused").unwrap();
    let (asked, deadline) = (Instant::now(), MAP_DEADLINE * 20);
    let map = target.ask_for_map_within(&[first.clone(), second], deadline).await.unwrap();
    assert_eq!(map.primaries[0].node.port, 7000);
    assert!(asked.elapsed() < deadline / 2, "the first one was waited for");
    let error = target.ask_for_map_within(&[first], Duration::from_millis(50)).await.unwrap_err();
    assert!(error.to_string().contains("no node of the Redis Cluster answers: 127.0.0.1"), "{error}");
}

#[test]
fn what_is_not_supported_says_so() {
    for url in ["rediss://h", "valkeys://h", "rediss+sentinel://h/m", "valkeys+cluster://h"] {
        assert_eq!(Target::parse(url).unwrap_err(), BadRedisUrl::Tls, "{url}");
    }
    assert_eq!(Target::parse("unix:///run/redis.sock").unwrap_err(), BadRedisUrl::Unix);
    for url in ["localhost:6379", "localhost", "http://localhost", "sentinel://h/m", "redis+other://h"] {
        assert_eq!(Target::parse(url).unwrap_err(), BadRedisUrl::Scheme, "{url}");
    }
    for url in ["redis://", "redis://host:port", "redis://h/db", "redis://a,b"] {
        assert!(matches!(Target::parse(url), Err(BadRedisUrl::Standalone(_))), "{url}");
    }
}

#[test]
fn a_wrong_url_says_what_is_missing() {
    let cases = [
        ("redis+sentinel://h", "the name of the master is missing"),
        ("redis+sentinel:///main", "names no host"),
        ("redis+sentinel://h,/main", "URL did not parse"),
        ("redis+sentinel://h:x/main", "URL did not parse"),
        ("redis+sentinel://h/main/x", "Invalid database number"),
        ("redis+sentinel://h/main?sentinel_user=a", "needs sentinel_password"),
        ("redis+sentinel://h/main?password=a", "sentinel_password=…"),
        ("redis+sentinel://u:p/w@h/main", "%2F"),
        ("redis+cluster://h/1", "database 0 alone"),
        ("redis+cluster://", "names no host"),
        ("redis+cluster://h,i:99999", "URL did not parse"),
        ("redis+cluster://h?x=1", "nothing is expected behind ?"),
        ("redis://a,b", "redis+sentinel:// or redis+cluster://"),
    ];
    for (url, says) in cases {
        let error = Target::parse(url).unwrap_err().to_string();
        assert!(error.contains(says), "{url}: {error}");
    }
}

#[test]
fn no_password_is_shown() {
    let wrong = [
        "redis://alice:hidden@[broken/3",
        "redis+sentinel://alice:hidden@h",
        "redis+sentinel://alice:hid/den@h/main",
        "redis+sentinel://h:x/main?sentinel_password=hidden",
        "redis+sentinel://h/main?sentinel_password=hidden&other=hidden",
        "redis+cluster://alice:hidden@h:x",
        "hidden",
    ];
    for url in wrong {
        let error = Target::parse(url).unwrap_err().to_string();
        assert!(!error.contains("hid"), "{error}");
    }
    for url in
        ["redis://a:hidden@h", "redis+sentinel://:hidden@h/m?sentinel_password=hidden", "redis+cluster://:hidden@h"]
    {
        let target = Target::parse(url).unwrap();
        assert!(!format!("{target:?} {target}").contains("hidden"));
    }
}
