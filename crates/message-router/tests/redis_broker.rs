//! The Redis broker in cases that only Redis has: outages, half-dead connections, the wrong server, another library.
//! The cases that every broker must pass are in `broker_conformance.rs`.

#[path = "redis_broker/expiry.rs"]
mod expiry;
#[path = "redis_broker/foreign.rs"]
mod foreign;
#[path = "redis_broker/publishing.rs"]
mod publishing;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use keyspace::{Function, Keyspace, Library};
use message_router::{
    Broker, BrokerError, Command, Draft, Event, Gap, Joiner, Output, Policies, Publish, RedisBroker, RedisBrokerConfig,
    Router, RouterConfig, ShardIndex, Stored, Ticket, judge,
};
use redis::cmd;
use redis_topology::Target;
use test_support::{RedisServer, ReservedPort};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use wire::{Envelope, GapReason, InstanceId, Position, Scope};

/// Longer than anything here takes on a loaded machine. A broken broker would wait for ever.
const DEADLINE: Duration = Duration::from_secs(30);
/// For tests of silent connections. In other tests a slow answer of a busy machine must not count as silence.
const PROBE_INTERVAL_MS: u64 = 500;
const MESSAGE: &[u8] = br#"{"type":"t"}"#;

fn run<T>(test: impl Future<Output = T>) -> T {
    // The gateway runs it in the same way: on one thread, with futures that are not `Send`.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(test)
}

fn library() -> Library {
    let policies = Policies::default();
    let families: Vec<_> = policies.families().iter().map(|(_, shape)| shape.clone()).collect();
    Library::new(families.iter().map(|shape| (shape, 3_600_000, 1_000)))
}

fn config(url: &str) -> RedisBrokerConfig {
    let instance = InstanceId::parse("gw-1").unwrap();
    let mut config = RedisBrokerConfig::new(Target::parse(url).unwrap(), Keyspace::default(), instance, library());
    config.probe_interval_ms = 60_000;
    config.reply_deadline_ms = 60_000;
    config.backoff_min_ms = 10;
    config.backoff_max_ms = 100;
    config
}

fn probing(url: &str) -> RedisBrokerConfig {
    let mut config = config(url);
    config.probe_interval_ms = PROBE_INTERVAL_MS;
    config
}

fn scope(name: &str) -> Scope {
    Policies::default().families().parse_scope(&format!("acme/{name}")).unwrap()
}

async fn next(broker: &mut RedisBroker) -> Event {
    timeout(DEADLINE, broker.next_event()).await.expect("the broker has something to tell")
}

async fn up(config: RedisBrokerConfig) -> RedisBroker {
    let mut broker = RedisBroker::new(config);
    let event = next(&mut broker).await;
    assert!(matches!(event, Event::Up), "{event:?}");
    broker
}

async fn down(broker: &mut RedisBroker) -> String {
    loop {
        match next(broker).await {
            Event::Down(reason) => return reason,
            Event::Up => panic!("it came up"),
            _ => {}
        }
    }
}

async fn up_again(broker: &mut RedisBroker) {
    while !matches!(next(broker).await, Event::Up) {}
}

async fn subscribe(broker: &mut RedisBroker, scope: &Scope) {
    broker.command(Command::Subscribe(scope.clone()));
    loop {
        match next(broker).await {
            Event::Subscribed(confirmed) if confirmed == *scope => return,
            Event::Down(reason) => panic!("{reason}"),
            _ => {}
        }
    }
}

fn send(broker: &mut RedisBroker, ticket: u64, scope: &Scope) {
    let messages = vec![Draft::new("topic", MESSAGE.to_vec())];
    broker.command(Command::Publish(Publish {
        ticket: Ticket(ticket),
        scope: scope.clone(),
        messages,
        replicated: false,
    }));
}

/// Publishes one message, and skips messages that arrive meanwhile.
async fn publish(broker: &mut RedisBroker, scope: &Scope) -> Result<Position, BrokerError> {
    send(broker, 1, scope);
    loop {
        if let Event::Published { ticket: Ticket(1), result } = next(broker).await {
            return result.map(|stored| stored.position);
        }
    }
}

/// Publishes one message and receives it, in either order, and accepts no other event.
async fn publish_and_receive(broker: &mut RedisBroker, scope: &Scope) -> Position {
    send(broker, 1, scope);
    let (mut published, mut received) = (None, None);
    while published.is_none() || received.is_none() {
        match next(broker).await {
            Event::Published { ticket: Ticket(1), result } => published = Some(result.unwrap().position),
            Event::Message { scope: name, envelope } if received.is_none() => {
                assert_eq!(name, scope.as_str());
                received = Some(Envelope::parse(&envelope).unwrap().first);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(published, received);
    received.unwrap()
}

#[test]
fn a_published_message_is_received_and_read() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut broker = up(config(&server.url())).await;
        let scope = scope("user:7");
        subscribe(&mut broker, &scope).await;
        let received = publish_and_receive(&mut broker, &scope).await;
        assert_eq!(received.offset, 1);
        // A second message would arrive before the answer to a command that is sent now.
        let ticket = Ticket(9);
        let after = Some(Position::new(received.generation, 0));
        broker.command(Command::Read { ticket, scope: scope.clone(), after, entries_max: 9 });
        let Event::History { ticket: Ticket(9), result } = next(&mut broker).await else { panic!("received twice") };
        let history = result.unwrap();
        assert_eq!((history.top, history.entries.len(), history.more), (received, 1, false));
        assert_eq!((&*history.entries[0].topic, &*history.entries[0].message), ("topic", MESSAGE));
    });
}

/// Many changes in one pass become few commands and keep their order: the last change of a scope holds.
#[test]
fn a_thousand_changes_at_once_take_effect_in_order() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut broker = up(config(&server.url())).await;
        let scopes: Vec<Scope> = (0..1_300).map(|id| scope(&format!("user:{id}"))).collect();
        for scope in &scopes {
            broker.command(Command::Subscribe(scope.clone()));
        }
        for scope in &scopes[..3] {
            broker.command(Command::Unsubscribe(scope.clone()));
        }
        broker.command(Command::Subscribe(scopes[1].clone()));
        let wanted: Vec<&Scope> = scopes.iter().chain([&scopes[1]]).collect();
        for scope in wanted {
            let Event::Subscribed(confirmed) = next(&mut broker).await else { panic!("not a confirmation") };
            assert_eq!(confirmed, *scope);
        }
        let mut redis = server.connect();
        let names: Vec<String> = scopes[..4].iter().map(|scope| Keyspace::default().channel(scope)).collect();
        let counts: BTreeMap<String, u32> = cmd("PUBSUB").arg("NUMSUB").arg(&names).query(&mut redis).unwrap();
        assert_eq!(names.iter().map(|name| counts[name]).collect::<Vec<_>>(), [0, 1, 0, 1]);
        let info: String = cmd("INFO").arg("commandstats").query(&mut redis).unwrap();
        let calls = |name: &str| -> u32 {
            let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls="))).unwrap();
            line.split(',').next().unwrap().parse().unwrap()
        };
        // 512 channels per command, one more for the scope that is subscribed again, one for the probe.
        assert_eq!((calls("subscribe"), calls("unsubscribe")), (5, 1));
    });
}

#[test]
fn killed_subscriptions_are_reported_and_the_broker_reconnects() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut broker = up(config(&server.url())).await;
        let scope = scope("user:7");
        for _ in 0..3 {
            subscribe(&mut broker, &scope).await;
            let killed: u32 = cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").query(&mut server.connect()).unwrap();
            assert_eq!(killed, 1);
            let reason = down(&mut broker).await;
            assert!(reason.contains("the subscriber's connection broke"), "{reason}");
            up_again(&mut broker).await;
            assert!(publish(&mut broker, &scope).await.is_ok());
        }
    });
}

/// The command connection alone breaks. Nothing can be published, so the whole connection pair ends, without waiting
/// for a probe.
#[test]
fn a_killed_command_connection_ends_the_connection_pair() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut broker = up(config(&server.url())).await;
        cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").exec(&mut server.connect()).unwrap();
        down(&mut broker).await;
        up_again(&mut broker).await;
        assert!(publish(&mut broker, &scope("user:7")).await.is_ok());
    });
}

/// The socket is open and Redis works, but the subscriber receives nothing. PING would not notice it.
#[test]
fn a_subscriber_that_receives_nothing_is_noticed() {
    run(async {
        let server = RedisServer::start(&[]);
        let proxy = Proxy::before(server.port()).await;
        let mut broker = up(probing(&proxy.url())).await;
        subscribe(&mut broker, &scope("user:7")).await;
        // The subscriber's connection is the first one.
        proxy.silence(0);
        let started = Instant::now();
        let reason = down(&mut broker).await;
        assert!(reason.contains("the subscriber receives nothing"), "{reason}");
        // Scheduling may be slow here, but the deadline of the calls must not be what noticed it.
        assert!(started.elapsed() < DEADLINE, "{:?}", started.elapsed());
        up_again(&mut broker).await;
    });
}

#[test]
fn a_frozen_redis_is_down_within_three_probes_and_up_when_it_goes_on() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut broker = up(probing(&server.url())).await;
        let scope = scope("user:7");
        server.freeze();
        let started = Instant::now();
        send(&mut broker, 7, &scope);
        broker.command(Command::Read { ticket: Ticket(8), scope: scope.clone(), after: None, entries_max: 0 });
        let reason = down(&mut broker).await;
        assert!(reason.contains("does not answer"), "{reason}");
        // Scheduling may be slow here, but the deadline of the calls must not be what noticed it.
        assert!(started.elapsed() < DEADLINE, "{:?}", started.elapsed());
        let (mut unknown, mut unavailable) = (0, 0);
        for _ in 0..2 {
            match next(&mut broker).await {
                Event::Published { ticket: Ticket(7), result: Err(BrokerError::Unknown) } => unknown += 1,
                Event::History { ticket: Ticket(8), result: Err(BrokerError::Unavailable(_)) } => unavailable += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((unknown, unavailable), (1, 1), "each question has one answer");
        let refused = publish(&mut broker, &scope).await;
        assert!(matches!(refused, Err(BrokerError::Unavailable(_))), "{refused:?}");
        server.thaw();
        up_again(&mut broker).await;
        assert!(publish(&mut broker, &scope).await.is_ok());
    });
}

#[test]
fn an_answer_that_does_not_come_in_time_is_unknown() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut hurried = config(&server.url());
        hurried.reply_deadline_ms = 3_000;
        let mut broker = up(hurried).await;
        server.freeze();
        let (scope, started) = (scope("user:7"), Instant::now());
        send(&mut broker, 7, &scope);
        assert!(broker.try_next_event().is_none(), "it is under way now");
        send(&mut broker, 8, &scope);
        for _ in 0..2 {
            match next(&mut broker).await {
                Event::Published { ticket: Ticket(7), result } => assert_eq!(result, Err(BrokerError::Unknown)),
                // It waited in the queue after the first one, so it is known not to be stored.
                Event::Published { ticket: Ticket(8), result } => {
                    assert!(matches!(result, Err(BrokerError::Unavailable(_))), "{result:?}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(started.elapsed() < Duration::from_secs(6), "one deadline for both: {:?}", started.elapsed());
        server.thaw();
        // The first one was carried out in fact.
        assert_eq!(publish(&mut broker, &scope).await.unwrap().offset, 2);
    });
}

#[test]
fn a_restarted_redis_is_found_and_its_library_loaded() {
    run(async {
        let mut server = RedisServer::start(&[]);
        let mut broker = up(config(&server.url())).await;
        let scope = scope("user:7");
        let before = publish(&mut broker, &scope).await.unwrap();
        server.crash_and_restart();
        down(&mut broker).await;
        up_again(&mut broker).await;
        let after = publish(&mut broker, &scope).await.unwrap();
        assert_ne!(after.generation, before.generation);
    });
}

/// An instance that received a message which Redis has lost records the loss. Another instance, which did not receive
/// it, then reports a gap to clients that resume.
#[test]
fn a_loss_seen_by_one_instance_is_reported_by_every_instance() {
    run(async {
        let mut server = RedisServer::start(&[]);
        let mut broker = up(config(&server.url())).await;
        let scope = scope("user:7");
        let kept = publish(&mut broker, &scope).await.unwrap();
        cmd("SAVE").exec(&mut server.connect()).unwrap();
        let gone = publish(&mut broker, &scope).await.unwrap();
        server.crash_and_restart();
        let mut witness = up(config(&server.url())).await;
        let mut other = up(config(&server.url())).await;
        let look = async |other: &mut RedisBroker| {
            other.command(Command::Read { ticket: Ticket(8), scope: scope.clone(), after: Some(kept), entries_max: 9 });
            let Event::History { ticket: Ticket(8), result } = next(other).await else { panic!("not the answer") };
            judge(kept, &result.unwrap())
        };
        assert_eq!(look(&mut other).await, Ok(()), "Redis does not know that it had more");
        witness.command(Command::Lost { ticket: Ticket(9), scope: scope.clone(), position: gone });
        let answer = next(&mut witness).await;
        assert!(matches!(answer, Event::LossNoted { ticket: Ticket(9), result: Ok(()) }), "{answer:?}");
        assert_eq!(look(&mut other).await, Err(GapReason::Failover));
        publish(&mut other, &scope).await.unwrap();
        assert_eq!(look(&mut other).await, Err(GapReason::Failover));
    });
}

#[test]
fn a_flushed_library_is_loaded_by_the_call_that_misses_it() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut broker = up(config(&server.url())).await;
        let scope = scope("user:7");
        subscribe(&mut broker, &scope).await;
        let first = publish(&mut broker, &scope).await.unwrap();
        cmd("FUNCTION").arg("FLUSH").exec(&mut server.connect()).unwrap();
        for ticket in 1..=50 {
            send(&mut broker, ticket, &scope);
        }
        let mut offsets = Vec::new();
        while offsets.len() < 50 {
            match next(&mut broker).await {
                Event::Published { result, .. } => offsets.push(result.unwrap().position.offset),
                Event::Message { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        offsets.sort_unstable();
        assert_eq!(offsets, (first.offset + 1..=first.offset + 50).collect::<Vec<_>>());
        let info: String = cmd("INFO").arg("commandstats").query(&mut server.connect()).unwrap();
        assert!(info.contains("cmdstat_function|load:calls=2,"), "fifty calls load it once: {info}");
    });
}

#[test]
fn a_demoted_redis_refuses_and_ends_the_connection_pair() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut broker = up(config(&server.url())).await;
        let mut redis = server.connect();
        let nobody = ReservedPort::take().unwrap();
        cmd("REPLICAOF").arg("127.0.0.1").arg(nobody.number()).exec(&mut redis).unwrap();
        let refused = publish(&mut broker, &scope("user:7")).await;
        assert!(matches!(&refused, Err(BrokerError::Unavailable(why)) if why.contains("READONLY")), "{refused:?}");
        assert!(down(&mut broker).await.contains("READONLY"));
        cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut redis).unwrap();
        up_again(&mut broker).await;
        assert!(publish(&mut broker, &scope("user:7")).await.is_ok());
    });
}

/// The probe takes the same way as a publish; a bare PUBLISH would not notice this.
#[test]
fn a_redis_that_takes_no_writes_ends_the_connection_pair() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut broker = up(probing(&server.url())).await;
        let mut redis = server.connect();
        let mut replicas = |least: u32| {
            cmd("CONFIG").arg("SET").arg("min-replicas-to-write").arg(least).exec(&mut redis).unwrap();
        };
        replicas(1);
        let reason = down(&mut broker).await;
        assert!(reason.contains("NOREPLICAS"), "{reason}");
        replicas(0);
        up_again(&mut broker).await;
    });
}

/// A full Redis takes no message and delivers those that it has: the broker stays up.
#[test]
fn a_full_redis_refuses_publishes_and_stays_up() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut broker = up(probing(&server.url())).await;
        let scope = scope("user:7");
        subscribe(&mut broker, &scope).await;
        let before = publish_and_receive(&mut broker, &scope).await;
        let mut redis = server.connect();
        let mut limit = |bytes: u32| cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec(&mut redis).unwrap();
        limit(1);
        let refused = publish(&mut broker, &scope).await;
        assert!(matches!(&refused, Err(BrokerError::Unavailable(why)) if why.starts_with("OOM")), "{refused:?}");
        // Longer than two missed probes take; nothing happens.
        let quiet = timeout(Duration::from_millis(5 * PROBE_INTERVAL_MS), broker.next_event()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        limit(0);
        assert_eq!(publish_and_receive(&mut broker, &scope).await, before.next());
    });
}

#[test]
fn calls_beyond_the_bound_are_refused_at_once() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut tight = config(&server.url());
        tight.in_flight_bytes_max = 4_096;
        let mut broker = up(tight).await;
        let scope = scope("user:7");
        for ticket in 0..20 {
            send(&mut broker, ticket, &scope);
        }
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..20 {
            match next(&mut broker).await {
                Event::Published { result: Ok(_), .. } => taken += 1,
                Event::Published { result: Err(BrokerError::Unavailable(_)), .. } => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((taken, refused), (7, 13));
        assert!(publish(&mut broker, &scope).await.is_ok(), "room is given back");
    });
}

#[test]
fn two_instances_of_one_library_do_not_fight_and_a_newer_one_is_left_alone() {
    run(async {
        let server = RedisServer::start(&[]);
        let _first = up(config(&server.url())).await;
        let _second = up(config(&server.url())).await;
        let loads = || {
            let info: String = cmd("INFO").arg("commandstats").query(&mut server.connect()).unwrap();
            let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_function|load:calls=")).unwrap();
            line.split(',').next().unwrap().parse::<u32>().unwrap()
        };
        assert_eq!(loads(), 1);
        let newer = library().source().replace("PRECEDENCE=5,", "PRECEDENCE=6,");
        assert_ne!(newer, library().source());
        cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(newer).exec(&mut server.connect()).unwrap();
        let _third = up(config(&server.url())).await;
        assert_eq!(loads(), 2);
    });
}

/// Instances with other families have another library. The one with the highest precedence is loaded, until no instance
/// has it any more.
#[test]
fn the_families_of_the_living_instance_with_the_highest_precedence_are_in_force() {
    let test = async {
        let server = RedisServer::start(&[]);
        let precedent = |library: Library, precedence| {
            let mut config = config(&server.url());
            config.library = library.with_precedence(precedence);
            config.probe_interval_ms = 50;
            config
        };
        let digest = || {
            let version = Function::VERSION;
            let mut ask = cmd(version.command());
            let answer = ask.arg(version.name).arg(0).query::<(u32, String, u64)>(&mut server.connect());
            answer.expect("a library is loaded").1
        };
        let (first, second) = (library(), Library::new([]));
        let mut newer = up(precedent(second.clone(), 2)).await;
        assert_eq!(digest(), second.digest());
        // An instance that was started earlier connects again and leaves the library as it is.
        let mut older = up(precedent(first.clone(), 1)).await;
        assert_eq!(digest(), second.digest());
        let refused = publish(&mut older, &scope("user:7")).await;
        assert!(
            matches!(&refused, Err(BrokerError::Unavailable(why)) if why.contains("no channel family")),
            "{refused:?}"
        );

        // An older gateway version loads the older library over it: the newer instance puts its own back.
        cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(first.source()).exec(&mut server.connect()).unwrap();
        while digest() != second.digest() {
            tokio::select! { event = newer.next_event() => panic!("{event:?}"), () = sleep(Duration::from_millis(10)) => {} }
        }
        // The newer one ends, and the older ones put theirs back.
        drop(newer);
        while digest() != first.digest() {
            tokio::select! { event = older.next_event() => panic!("{event:?}"), () = sleep(Duration::from_millis(10)) => {} }
        }
        assert!(publish(&mut older, &scope("user:7")).await.is_ok());
    };
    run(async { timeout(DEADLINE, test).await.expect("the library is replaced in time") });
}

/// The broker is down from the beginning, gives the reason in a sentence, and keeps trying.
#[test]
fn an_unsuitable_redis_is_reported_with_a_reason() {
    run(async {
        let reason = |config: RedisBrokerConfig| async { down(&mut RedisBroker::new(config)).await };
        let nobody = ReservedPort::take().unwrap();
        let reason_given = reason(config(&format!("redis://{}/", nobody.address()))).await;
        assert!(reason_given.contains("cannot connect to Redis at 127.0.0.1"), "{reason_given}");

        let reason_given = reason(config("redis://redis.invalid/")).await;
        assert!(reason_given.contains("cannot find the Redis host \"redis.invalid\""), "{reason_given}");

        for (hello_reply, sentence) in [
            ("%2\r\n$7\r\nversion\r\n$6\r\n6.2.14\r\n$5\r\nproto\r\n:3\r\n", "its version is 6.2.14"),
            ("-ERR unknown command 'HELLO'\r\n", "this is no Redis, or one before version 7"),
            ("HTTP/1.1 400 Bad Request\r\n\r\n", "what is not RESP"),
            ("-LOADING Redis is loading the dataset in memory\r\n", "LOADING"),
        ] {
            let port = impostor(hello_reply).await;
            let reason_given = reason(config(&format!("redis://127.0.0.1:{port}/"))).await;
            assert!(reason_given.contains(sentence), "{reason_given}");
        }

        let server = RedisServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
        let reason_given = reason(config(&server.url())).await;
        assert!(reason_given.contains("maxmemory-policy allkeys-lru"), "{reason_given}");
        cmd("CONFIG").arg("SET").arg("maxmemory-policy").arg("noeviction").exec(&mut server.connect()).unwrap();
        up(config(&server.url())).await;

        cmd("CONFIG").arg("SET").arg("requirepass").arg("secret").exec(&mut server.connect()).unwrap();
        let reason_given = reason(config(&server.url())).await;
        assert!(reason_given.contains("NOAUTH"), "{reason_given}");
        let reason_given = reason(config(&format!("redis://:wrong@127.0.0.1:{}/", server.port()))).await;
        assert!(reason_given.contains("WRONGPASS"), "{reason_given}");
        assert!(!reason_given.contains("wrong@"), "{reason_given}");
        up(config(&format!("redis://:secret@127.0.0.1:{}/3", server.port()))).await;
    });
}

/// `docs/redis.md` prints these lines; their rights must be enough.
#[test]
fn the_documented_acl_is_enough() {
    run(async {
        let server = RedisServer::start(&[]);
        let doc = include_str!("../../../docs/redis.md");
        for user in ["ACL SETUSER gateway ", "ACL SETUSER publisher "] {
            let line = doc.lines().find(|line| line.starts_with(user)).expect("the line is documented");
            let line = line.replace("TENANT", "acme");
            let words: Vec<_> = line.split(' ').skip(1).collect();
            cmd("ACL").arg(words).exec(&mut server.connect()).unwrap();
        }
        let url = format!("redis://gateway:PASSWORD@127.0.0.1:{}/", server.port());
        let mut all = config(&url);
        (all.asks_replicas, all.replica_deadline_ms) = (true, 10);
        let mut broker = up(all).await;
        let scope = scope("user:7");
        subscribe(&mut broker, &scope).await;
        let position = publish_and_receive(&mut broker, &scope).await;
        assert!(!publishing::publish_replicated(&mut broker, &self::scope("user:9")).await.replicated);
        let id = Draft { id: Some("a".into()), ..Draft::new("", MESSAGE.to_vec()) };
        let (scope_8, messages) = (self::scope("user:8"), vec![id]);
        broker.command(Command::Publish(Publish { ticket: Ticket(1), scope: scope_8, messages, replicated: false }));
        let Event::Published { result, .. } = next(&mut broker).await else { panic!("not an answer") };
        assert!(result.is_ok(), "{result:?}");
        broker.command(Command::Read { ticket: Ticket(2), scope, after: Some(position), entries_max: 1 });
        let Event::History { result, .. } = next(&mut broker).await else { panic!("not an answer") };
        assert_eq!(result.unwrap().top, position);

        let publisher =
            redis::Client::open(format!("redis://publisher:PASSWORD@127.0.0.1:{}/", server.port())).unwrap();
        let keys = ["tidegate:{acme/user:8}:stream", "tidegate:{acme/user:8}:meta"];
        let mut call = cmd("FCALL");
        call.arg("tidegate_publish").arg(2).arg(&keys).arg("").arg(MESSAGE);
        call.exec(&mut publisher.get_connection().unwrap()).unwrap();
        let mut once = cmd("FCALL");
        once.arg("tidegate_publish_once").arg(4).arg(&keys);
        once.arg(&["tidegate:{acme/user:8}:ids:0", "tidegate:{acme/user:8}:ids:1"]).arg("").arg(MESSAGE).arg("b");
        once.exec(&mut publisher.get_connection().unwrap()).unwrap();
        // The upkeep of a family is permitted as well.
        cmd("HSET").arg(keys[1]).arg("d").arg(0).arg("k").arg("1:1-1").exec(&mut server.connect()).unwrap();
        call.exec(&mut publisher.get_connection().unwrap()).unwrap();
        let mut publisher = publisher.get_connection().unwrap();
        for (command, function) in [("FCALL_RO", "tidegate_read"), ("FCALL", "tidegate_open")] {
            cmd(command).arg(function).arg(2).arg(&keys).arg(&["", "0"]).exec(&mut publisher).unwrap();
        }
        let receipts = ["receipts", "receipts:times", "meta"].map(|key| format!("tidegate:{{acme/user:8}}:{key}"));
        cmd("FCALL_RO").arg("tidegate_receipts").arg(3).arg(&receipts).arg("9").exec(&mut publisher).unwrap();
        let log: Vec<redis::Value> = cmd("ACL").arg("LOG").query(&mut server.connect()).unwrap();
        assert!(log.is_empty(), "{log:?}");
        is_denied_what_is_not_its_own(&mut publisher, &keys);
    });
}

/// The publisher of one tenant gets neither another tenant nor the registry nor what only gateways call.
fn is_denied_what_is_not_its_own(publisher: &mut redis::Connection, keys: &[&str; 2]) {
    let other = ["tidegate:{globex/user:8}:stream", "tidegate:{globex/user:8}:meta"];
    let denied: [&[&str]; 21] = [
        &["FCALL", "tidegate_publish", "2", other[0], other[1], "", r#"{"type":"t"}"#],
        &["FCALL", "tidegate_relay", "2", other[0], other[1], "", r#"{"type":"t"}"#],
        &["FCALL", "tidegate_open", "2", other[0], other[1], "", "0"],
        &["FCALL_RO", "tidegate_read", "2", other[0], other[1], "0-0", "9"],
        &["HSET", other[1], "g", "x"],
        &["XADD", other[0], "*", "t", "1"],
        &["PUBLISH", "tidegate:{globex/user:8}", "x"],
        &["PUBLISH", "tidegate:probe:gw-1", "x"],
        &["HSET", "tidegate:{registry}:peers", "evil", "garbage"],
        &["HGET", "tidegate:{registry}:peers", "gw-1"],
        &["FCALL", "tidegate_lost", "2", keys[0], keys[1], "7-1"],
        &["FCALL", "tidegate_registry_reap", "1", "tidegate:{registry}:peers", "x"],
        &["FCALL", "tidegate_registry_kick", "1", "tidegate:{registry}:peers", "acme/alice", ""],
        &["FCALL_RO", "tidegate_registry_who", "1", "tidegate:{registry}:peers", "acme/alice"],
        &["FCALL", "tidegate_probe", "0", "tidegate:probe:gw-1", "x"],
        &["SUBSCRIBE", "tidegate:{acme/user:8}"],
        &["FUNCTION", "FLUSH"],
        &["FUNCTION", "LOAD", "REPLACE", "#!lua name=tidegate"],
        &["KEYS", "*"],
        &["UNLINK", keys[0]],
        &["CONFIG", "GET", "*"],
    ];
    for words in denied {
        let answer = cmd(words[0]).arg(&words[1..]).query::<redis::Value>(publisher);
        let refused = answer.expect_err(&words.join(" ")).to_string();
        assert!(refused.contains("NOPERM") || refused.to_lowercase().contains("permission"), "{words:?}: {refused}");
    }
}

/// Answers the first bytes of each connection with `hello_reply`, and sends nothing else.
async fn impostor(hello_reply: &'static str) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = [0; 1024];
            if stream.read(&mut question).await.is_ok_and(|bytes| bytes > 0) {
                // The broker may close the connection at any time.
                let _ = stream.write_all(hello_reply.as_bytes()).await;
                let _ = stream.read(&mut question).await;
            }
        }
    });
    port
}

/// Passes bytes between the broker and Redis, until it is told to drop the answers on one connection.
struct Proxy {
    port: u16,
    silenced: tokio::sync::watch::Sender<Option<usize>>,
}

impl Proxy {
    async fn before(redis: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (silenced, watched) = tokio::sync::watch::channel(None);
        tokio::task::spawn_local(async move {
            for number in 0.. {
                let Ok((near, _)) = listener.accept().await else { return };
                let far = tokio::net::TcpStream::connect(("127.0.0.1", redis)).await.unwrap();
                let mut watched = watched.clone();
                tokio::task::spawn_local(async move {
                    let (mut near_read, mut near_write) = near.into_split();
                    let (mut far_read, mut far_write) = far.into_split();
                    tokio::spawn(async move { tokio::io::copy(&mut near_read, &mut far_write).await });
                    tokio::select! {
                        _ = tokio::io::copy(&mut far_read, &mut near_write) => {}
                        _ = watched.wait_for(|silenced| *silenced == Some(number)) => {
                            // The socket stays open; the answers of Redis are dropped.
                            let _ = tokio::io::copy(&mut far_read, &mut tokio::io::sink()).await;
                            drop(near_write);
                        }
                    }
                });
            }
        });
        Self { port, silenced }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    fn silence(&self, number: usize) {
        self.silenced.send(Some(number)).expect("connections watch");
    }
}

/// The stream and its metadata are erased while a member is in the scope. Nothing is published, and no connection
/// breaks.
#[test]
fn an_erased_scope_is_reported_by_the_next_check() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut broker = up(config(&server.url())).await;
        let scope = scope("user:7");
        let mut router = Router::new(RouterConfig { check_interval_ms: 1_000, ..RouterConfig::default() });
        let mut out = Vec::new();
        router.handle(Event::Up, 0, &mut out);
        router.join(ShardIndex(0), Joiner(1), scope.clone(), None, &mut out);
        let meta = Keyspace::default().meta(&scope);
        let (mut now_ms, mut gaps) = (0, Vec::new());
        let erasures = [
            cmd("FLUSHALL"),
            cmd("PEXPIRE").arg(&meta).arg(1).clone(),
            cmd("DEL").arg(&meta).arg(Keyspace::default().stream(&scope)).clone(),
            // The offset is set back, as by a failover to a replica that lacks the last write.
            cmd("HSET").arg(&meta).arg(&["o", "0"]).clone(),
        ];
        for erase in &erasures {
            let mut seen = Position::default();
            send(&mut broker, 1, &scope);
            let mut is_published = false;
            while !is_published || seen.offset != 1 {
                let commands = take(&mut out, &mut seen, &mut gaps);
                commands.into_iter().for_each(|command| broker.command(command));
                match next(&mut broker).await {
                    Event::Published { .. } => is_published = true,
                    event => router.handle(event, now_ms, &mut out),
                }
                take(&mut out, &mut seen, &mut gaps).into_iter().for_each(|command| broker.command(command));
            }
            assert_eq!(gaps, [], "nothing is missing yet");
            erase.exec(&mut server.connect()).unwrap();
            // A check before the expiry would extend it.
            while matches!(cmd("PTTL").arg(&meta).query::<i64>(&mut server.connect()), Ok(0..=1)) {}
            while gaps.is_empty() {
                now_ms += 1_000;
                router.sweep(now_ms, &mut out);
                take(&mut out, &mut seen, &mut gaps).into_iter().for_each(|command| broker.command(command));
                router.handle(next(&mut broker).await, now_ms, &mut out);
                take(&mut out, &mut seen, &mut gaps).into_iter().for_each(|command| broker.command(command));
            }
            let gap = gaps.pop().unwrap();
            assert_eq!((gap.reason, gap.upto.offset, gap.certain), (GapReason::UnknownPosition, 0, false));
        }
    });
}

/// Returns the commands that the router requests, and notes the other outputs.
fn take(out: &mut Vec<Output>, seen: &mut Position, gaps: &mut Vec<Gap>) -> Vec<Command> {
    let mut commands = Vec::new();
    for output in out.drain(..) {
        match output {
            Output::Command(command) => commands.push(command),
            Output::Deliver { envelope, .. } => *seen = Envelope::parse(&envelope).unwrap().first,
            Output::Gap { gap, .. } => gaps.push(gap),
            Output::Joined { joined, .. } => *seen = joined.upto.unwrap(),
            Output::Replay { entries, .. } => *seen = entries.last().unwrap().position,
            Output::Degraded { .. } | Output::Local { .. } | Output::Isolated { .. } => {}
        }
    }
    commands
}
