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
        stream.write_all(b"*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n+10.0.0.1\r\n:7000\r\n+67ed\r\n").await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        stream.write_all(b"-NOPERM this user has no permissions to run the 'cluster|nodes' command\r\n").await.unwrap();
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
        assert!(Target::asks_for_tls(url), "{url}");
        let no_certificates = TlsFiles { ca: Some(b"none".to_vec()), client: None };
        let parsed = Target::parse_with(url, &no_certificates);
        assert!(matches!(parsed, Err(BadRedisUrl::Tls(_))), "{url}: {parsed:?}");
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
        ("redis+sentinel://h,/main", "a comma too many"),
        ("redis+sentinel://h:x/main", "a port is a number"),
        ("redis+sentinel://h/main/x", "the database behind the / is a number"),
        ("redis+sentinel://h/main?sentinel_user=a", "needs sentinel_password"),
        ("redis+sentinel://h/main?x=a", "only sentinel_user=… and sentinel_password=…"),
        ("redis+sentinel://u:p/w@h/main", "%2F"),
        ("redis+cluster://h/1", "database 0 alone"),
        ("redis+cluster://", "names no host"),
        ("redis+cluster://h,i:99999", "a port is a number from 1 to 65535"),
        ("redis+cluster://h?x=1", "nothing is expected behind ?"),
        ("redis://a,b", "redis+sentinel:// or redis+cluster://"),
    ];
    for (url, says) in cases {
        let error = Target::parse(url).unwrap_err().to_string();
        assert!(error.contains(says), "{url}: {error}");
    }
}

/// What each form has in common: user, password, hosts, and no word that nobody reads.
#[test]
fn nothing_in_a_url_is_passed_over() {
    let forms = ["redis://@h:7000/3", "redis+sentinel://@h:7000/main/3", "redis+cluster://@h:7000"];
    let refused = [
        ("default:57#Wc903z", "", "%23"),
        ("default:57/Wc903z", "", "%2F"),
        ("default:57?Wc903z", "", "%3F"),
        ("default:57@Wc903z", "", "%40"),
        ("default:57%Wc903z", "", "%25"),
        ("default:57%", "", "%25"),
        ("default:57%e9", "", "not UTF-8"),
        ("default:57 Wc903z", "", "%20"),
        ("default:57\tWc903z", "", "white space"),
        ("default:57\u{feff}Wc903z", "", "white space"),
        ("57Wc903z", "", "USER:PASSWORD"),
        ("default:", "", "is empty"),
        (":", "", "is empty"),
        ("", "", "USER:PASSWORD"),
        ("a:57", "?db=5790", "written /3 behind the host"),
        ("a:57", "?password=5790", "before the host"),
        ("a:57", "?ssl=true", "rediss://"),
        ("a:57", "?5790", "is expected behind ?"),
        ("a:57", "?protocol=resp3", "is expected behind ?"),
        ("a:57", "?", "is expected behind ?"),
        ("a:57", "#5790", "%23"),
    ];
    for form in forms {
        for (user, end, says) in refused {
            let url = form.replace('@', &format!("{user}@")) + end;
            let error = Target::parse(&url).expect_err(&url).to_string();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("57") && !error.contains("903"), "{url}: {error}");
        }
        for (user, name, password) in [
            ("alice:p%40ss%23%2F%3F%25%20", Some("alice"), "p@ss#/?% "),
            (":a:b+c", None, "a:b+c"),
            ("%C3%A9:p\u{e9}", Some("\u{e9}"), "p\u{e9}"),
        ] {
            for (before, behind) in [("", ""), (" ", "\r\n")] {
                let url = before.to_owned() + &form.replace('@', &format!("{user}@")) + behind;
                let target = Target::parse(&url).unwrap_or_else(|error| panic!("{url}: {error}"));
                let settings = target.settings();
                assert_eq!((settings.username(), settings.password()), (name, Some(password)), "{url}");
                assert!(target.to_string().contains("h:7000"), "{url}: {target}");
            }
        }
    }
}

#[test]
fn hosts_ports_and_databases_are_exact() {
    let schemes = [("redis://", ""), ("redis+sentinel://", "/main"), ("redis+cluster://", "")];
    for (scheme, path) in schemes {
        for host in [
            "",
            ":6379",
            "h:",
            "h:0",
            "h:65536",
            "h:+1",
            "h:6379x",
            "::1",
            "[::1",
            "[h]",
            "[::1]x",
            "[fe80::1%251]",
            "h%2e",
            "b\u{fc}cher",
        ] {
            let url = format!("{scheme}{host}{path}");
            assert!(Target::parse(&url).is_err(), "{url}");
        }
        for (host, shown) in
            [("[::1]:7", "[::1]:7"), ("10.0.0.1:65535", "10.0.0.1:65535"), ("a-b.c_d.:1", "a-b.c_d.:1")]
        {
            let target = Target::parse(&format!("{scheme}{host}{path}")).unwrap();
            assert!(target.to_string().ends_with(shown), "{target}");
        }
    }
    for database in ["x", "-1", "+1", "1.0", "0/", "1/2", "/1", "%31", "2147483648"] {
        assert!(Target::parse(&format!("redis://h/{database}")).is_err(), "{database}");
        assert!(Target::parse(&format!("redis+sentinel://h/main/{database}")).is_err(), "{database}");
    }
    assert_eq!(Target::parse("redis://h/").unwrap().settings().db(), 0);
    assert_eq!(Target::parse("redis://h/15").unwrap().settings().db(), 15);
    for url in ["redis+sentinel://h/ma%69n", "redis+sentinel://h/m?sentinel_user=a&sentinel_user=b&sentinel_password=c"]
    {
        assert!(Target::parse(url).is_err(), "{url}");
    }
    for url in ["redis+sentinel://h/m?sentinel_password=", "redis+sentinel://h/m?sentinel_user=&sentinel_password=x"] {
        assert!(Target::parse(url).is_err(), "{url}");
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
