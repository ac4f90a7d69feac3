//! Calls follow redirections, load the library where it is missing, and report errors in Redis' own words.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyspace::{Function, Keyspace, Library, PublishCall, PublishItem, Slot};
use redis::cmd;
use redis_topology::{CallError, CommandClient, CommandError, LibraryLoader, Loading, Pools, Target};
use test_support::RedisServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wire::{Families, FamilyShape, Position};

const DEADLINE: Duration = Duration::from_secs(30);

fn library(entries_max: u64) -> Library {
    let user = FamilyShape { name: "user".into(), keyed: true };
    Library::new([(&user, 60_000, entries_max)])
}

fn client(url: &str, loader: LibraryLoader) -> CommandClient {
    CommandClient::new(Pools::new(Target::parse(url).unwrap(), 1, DEADLINE), loader, DEADLINE)
}

fn loader(loading: Loading) -> LibraryLoader {
    LibraryLoader::new(library(10), loading)
}

async fn digest(server: &RedisServer) -> Option<String> {
    let version = Function::VERSION;
    let mut ask = cmd(version.command());
    let answer =
        ask.arg(version.name).arg(0).query_async::<(u32, String, u64)>(&mut server.connect_async().await).await;
    answer.ok().map(|(_, digest, _)| digest)
}

/// A node of a cluster that answers each call with the next of these; the words of each call and of what went before it.
async fn node(answers: Vec<String>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let words = Arc::clone(&heard);
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                let mut answer = String::new();
                for command in text.split('*').skip(1) {
                    let parts: Vec<_> = command.lines().skip(1).filter(|line| !line.starts_with('$')).collect();
                    answer += &match parts[0] {
                        "FCALL" => answers.next().expect("it is called no more often"),
                        "PING" => format!("+{}\r\n", parts[1]),
                        _ => "+OK\r\n".into(),
                    };
                    words.lock().unwrap().push(parts[0].to_owned());
                }
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    (address, heard)
}

async fn publish(url: &str) -> Result<Vec<(Position, bool)>, CallError> {
    let (keys, scope) = (Keyspace::default(), Families::default().parse_scope("acme/user:7").unwrap());
    let item = PublishItem { topic: "", message: b"{}", id: None };
    let call = PublishCall::new(&keys, &scope, false);
    client(url, loader(Loading::FillGap)).publish(keys.slot(&scope), &call, [item].into_iter()).await
}

#[tokio::test]
async fn a_publish_goes_where_a_cluster_sends_it() {
    let stored = "$4\r\n7-42\r\n".to_owned();
    let (new, _) = node(vec![stored.clone()]).await;
    let (old, _) = node(vec![format!("-MOVED 1 {new}\r\n")]).await;
    assert_eq!(publish(&format!("redis://{old}")).await, Ok(vec![(Position::new(7, 42), false)]));

    // The new one has this key already, and not yet the slot: it must be told that it is asked for one on its way.
    let (new, heard) = node(vec![stored.clone()]).await;
    let (old, _) = node(vec![format!("-ASK 1 {new}\r\n")]).await;
    assert_eq!(publish(&format!("redis://{old}")).await, Ok(vec![(Position::new(7, 42), false)]));
    assert_eq!(*heard.lock().unwrap(), ["ASKING", "FCALL"]);

    let (old, heard) = node(vec!["-TRYAGAIN Multiple keys request\r\n".into(), stored]).await;
    assert_eq!(publish(&format!("redis://{old}")).await, Ok(vec![(Position::new(7, 42), false)]));
    assert_eq!(*heard.lock().unwrap(), ["FCALL", "UNWATCH", "PING", "FCALL"]);
}

/// Functions of the registry use keys that they do not declare.
#[tokio::test]
async fn other_calls_wait_until_a_slot_has_moved() {
    let (old, _) = node(vec!["-ASK 1 127.0.0.1:1\r\n".into(), "$2\r\nok\r\n".into()]).await;
    let client = client(&format!("redis://{old}"), loader(Loading::FillGap));
    assert_eq!(client.ask::<String>(Slot::of("a"), cmd("FCALL").arg("x")).await, Ok("ok".into()));
}

#[tokio::test]
async fn an_answer_of_another_shape_is_none() {
    let (address, _) = node(vec!["+7-0\r\n".into()]).await;
    assert!(matches!(publish(&format!("redis://{address}")).await, Err(CallError::Malformed(_))));
}

#[tokio::test]
async fn a_gateway_replaces_a_library_and_a_tool_only_fills_a_gap() {
    let server = RedisServer::start(&[]);
    let mut redis = server.connect_async().await;
    let (own, other) = (library(10), library(20));
    assert_eq!(loader(Loading::FillGap).load(&mut redis).await, Ok(true));
    assert_eq!(digest(&server).await.as_deref(), Some(own.digest()));
    assert_eq!(loader(Loading::FillGap).load(&mut redis).await, Ok(true), "somebody else was quicker");

    cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(other.source()).exec_async(&mut redis).await.unwrap();
    assert_eq!(loader(Loading::FillGap).load(&mut redis).await, Ok(false));
    assert_eq!(digest(&server).await.as_deref(), Some(other.digest()), "it is the gateways'");
    assert_eq!(loader(Loading::Replace).load(&mut redis).await, Ok(false), "nobody's precedence is higher");
    let preferred = LibraryLoader::new(own.clone().with_precedence(1), Loading::Replace);
    assert_eq!(preferred.load(&mut redis).await, Ok(true));
    assert_eq!(digest(&server).await.as_deref(), Some(own.digest()));

    let newer = other.source().replacen("PRECEDENCE=", "PRECEDENCE=9", 1);
    cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(newer).exec_async(&mut redis).await.unwrap();
    assert_eq!(loader(Loading::Replace).load(&mut redis).await, Ok(false));
    assert_eq!(digest(&server).await.as_deref(), Some(other.digest()), "a newer one serves older gateways");
}

/// `docs/redis.md` gives publishers no right to ask for the version.
#[tokio::test]
async fn a_user_who_may_only_publish_can_fill_a_gap() {
    let server = RedisServer::start(&[]);
    let mut redis = server.connect_async().await;
    let rights = ["on", ">p", "~*", "-@all", "+ping", "+unwatch", "+info", "+fcall", "+function|load"];
    cmd("ACL").arg("SETUSER").arg("publisher").arg(&rights).exec_async(&mut redis).await.unwrap();
    let url = format!("redis://publisher:p@127.0.0.1:{}/", server.port());
    let client = client(&url, loader(Loading::FillGap));
    let refused = client.ask::<String>(Slot::of("a"), cmd("FCALL").arg("tidegate_publish").arg(0)).await;
    assert!(matches!(&refused, Err(CallError::Rejected(text)) if text.contains("keys are needed")), "{refused:?}");
    assert_eq!(digest(&server).await.as_deref(), Some(library(10).digest()));
    // The connection is tried by UNWATCH and PING before it is used again, and by nothing that this user may not send.
    let again = client.ask::<String>(Slot::of("a"), cmd("FCALL").arg("tidegate_publish").arg(0)).await;
    assert_eq!(again, refused);
    let log: Vec<redis::Value> = cmd("ACL").arg("LOG").query_async(&mut redis).await.unwrap();
    assert_eq!(log.len(), 1, "the question for the version alone: {log:?}");
}

#[tokio::test]
async fn of_a_pipeline_the_first_error_is_reported() {
    let server = RedisServer::start(&[]);
    let mut redis = server.connect_async().await;
    cmd("SET").arg("text").arg("x").exec_async(&mut redis).await.unwrap();
    let mut pipeline = redis::pipe();
    pipeline.cmd("PING").cmd("HGET").arg("text").arg("f").cmd("FCALL").arg("nothing").arg(0);
    let error = pipeline.exec_async(&mut redis).await.unwrap_err();
    let expected = "WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(CommandError::from(error), CommandError::Refused(expected.into()));
}
