//! Publishing through the Redis broker: order, refusals and replicas.

use super::*;

/// A publish that finds no library loads it and is sent again. Later publishes must not be stored before it.
#[test]
fn a_flushed_library_does_not_change_the_order() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut broker = up(config(&server.url())).await;
        let mut redis = server.connect();
        let (scope, mut stored) = (scope("user:7"), Vec::new());
        let take = |stored: &mut Vec<_>, event| match event {
            Event::Published { ticket, result } => stored.push((ticket.0, result.unwrap().position.offset)),
            other => panic!("{other:?}"),
        };
        for sent in 1..=2_000_usize {
            if sent % 200 == 1 {
                while stored.len() < sent - 1 {
                    take(&mut stored, next(&mut broker).await);
                }
                cmd("FUNCTION").arg("FLUSH").exec(&mut redis).unwrap();
            }
            // Publishes arrive at every moment while the library is loaded.
            send(&mut broker, sent as u64, &scope);
            while let Some(event) = broker.try_next_event() {
                take(&mut stored, event);
            }
            tokio::task::yield_now().await;
        }
        while stored.len() < 2_000 {
            take(&mut stored, next(&mut broker).await);
        }
        stored.sort_unstable();
        assert!(stored.iter().all(|(ticket, offset)| ticket == offset), "{stored:?}");
    });
}

/// How long a publish waits for a replica. The test waits once for this long while the replica is frozen; twenty
/// publishes in a row that do not ask for replicas must not wait at all.
const REPLICA_DEADLINE: Duration = Duration::from_secs(1);

pub(crate) async fn publish_replicated(broker: &mut RedisBroker, scope: &Scope) -> Stored {
    let messages = vec![Draft::new("topic", MESSAGE.to_vec())];
    broker.command(Command::Publish(Publish { ticket: Ticket(1), scope: scope.clone(), messages, replicated: true }));
    loop {
        if let Event::Published { ticket: Ticket(1), result } = next(broker).await {
            return result.unwrap();
        }
    }
}

fn follow(replica: &RedisServer, primary: &RedisServer) {
    let mut redis = replica.connect();
    cmd("REPLICAOF").arg("127.0.0.1").arg(primary.port()).exec(&mut redis).unwrap();
    let deadline = Instant::now() + DEADLINE;
    loop {
        let info: String = cmd("INFO").arg("replication").query(&mut redis).unwrap();
        if info.contains("master_link_status:up") {
            return;
        }
        assert!(Instant::now() < deadline, "the replica did not follow: {info}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn replicated_is_reported_only_when_a_replica_has_the_message() {
    run(async {
        let server = RedisServer::start(&["--repl-diskless-sync-delay", "0"]);
        let replica = RedisServer::start(&[]);
        let mut asking = config(&server.url());
        asking.asks_replicas = true;
        asking.replica_deadline_ms = REPLICA_DEADLINE.as_millis() as u64;
        let mut broker = up(asking).await;
        let scope = scope("user:7");
        // There is no replica yet.
        let alone = publish_replicated(&mut broker, &scope).await;
        assert_eq!(alone, Stored::at(Position::new(alone.position.generation, 1)));

        follow(&replica, &server);
        let deadline = Instant::now() + DEADLINE;
        while !publish_replicated(&mut broker, &scope).await.replicated {
            assert!(Instant::now() < deadline, "the replica has it, and nobody says so");
        }
        // The replica really has the messages.
        let length = |server: &RedisServer| -> u64 {
            cmd("XLEN").arg(Keyspace::default().stream(&scope)).query(&mut server.connect()).unwrap()
        };
        assert_eq!(length(&replica), length(&server));

        // All earlier writes have been acknowledged, so that the next WAIT is about the next write.
        let acknowledged = || -> bool {
            let info: String = cmd("INFO").arg("replication").query(&mut server.connect()).unwrap();
            let offset = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:")).unwrap();
            info.contains(&format!("offset={offset},"))
        };
        while !acknowledged() {
            assert!(Instant::now() < deadline, "the replica does not acknowledge");
            std::thread::sleep(Duration::from_millis(10));
        }
        replica.freeze();
        let frozen = publish_replicated(&mut broker, &scope).await;
        assert!(!frozen.replicated, "{frozen:?}");
        // Publishes that do not ask for replicas do not wait.
        let started = Instant::now();
        for _ in 0..20 {
            assert!(publish(&mut broker, &scope).await.is_ok());
        }
        assert!(started.elapsed() < 10 * REPLICA_DEADLINE, "{:?}", started.elapsed());
        replica.thaw();
        while !publish_replicated(&mut broker, &scope).await.replicated {
            assert!(Instant::now() < deadline + DEADLINE, "the replica goes on, and nobody says so");
        }
    });
}

#[test]
fn a_connection_that_ends_during_wait_leaves_the_publish_stored() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut asking = config(&server.url());
        asking.asks_replicas = true;
        asking.replica_deadline_ms = 60_000;
        let mut broker = up(asking).await;
        let scope = scope("user:7");
        let messages = vec![Draft::new("topic", MESSAGE.to_vec())];
        let publish = Publish { ticket: Ticket(1), scope: scope.clone(), messages, replicated: true };
        broker.command(Command::Publish(publish));
        let mut redis = server.connect();
        // WAIT is under way and will not be answered.
        let blocked = |redis: &mut redis::Connection| -> bool {
            let info: String = cmd("INFO").arg("clients").query(redis).unwrap();
            info.contains("blocked_clients:1")
        };
        while !blocked(&mut redis) {
            let quiet = timeout(Duration::from_millis(10), broker.next_event()).await;
            assert!(quiet.is_err(), "{quiet:?}");
        }
        cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).exec(&mut redis).unwrap();
        let mut publish_result = None;
        while publish_result.is_none() {
            if let Event::Published { ticket: Ticket(1), result } = next(&mut broker).await {
                publish_result = Some(result.expect("it was stored"));
            }
        }
        assert_eq!(publish_result.map(|stored| (stored.position.offset, stored.replicated)), Some((1, false)));
    });
}

/// Each refusal says whether nothing was stored and a retry may succeed, or whether that is unknown.
#[test]
fn a_refusal_says_whether_anything_was_stored() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut redis = server.connect();
        let mut broker = up(config(&server.url())).await;
        let (scope, mut offset) = (scope("user:7"), 0);
        for (setting, wrong, right, code) in
            [("maxmemory", "1", "0", "OOM"), ("min-replicas-to-write", "1", "0", "NOREPLICAS")]
        {
            let mut set = |value: &str| cmd("CONFIG").arg("SET").arg(setting).arg(value).exec(&mut redis).unwrap();
            offset += 1;
            assert_eq!(publish(&mut broker, &scope).await.unwrap().offset, offset);
            set(wrong);
            match publish(&mut broker, &scope).await {
                Err(BrokerError::Unavailable(why)) => assert!(why.starts_with(code), "{why}"),
                other => panic!("{code}: {other:?}"),
            }
            set(right);
            // Nothing was stored, and offsets continue without a hole.
            broker = up(config(&server.url())).await;
        }
        // The library of other families does not know this scope. The gateway will load its own.
        let rooms = Library::new([]);
        cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(rooms.source()).exec(&mut redis).unwrap();
        let refused = publish(&mut broker, &scope).await;
        let is_passing = matches!(&refused, Err(BrokerError::Unavailable(why)) if why.contains("no channel family"));
        assert!(is_passing, "{refused:?}");
        cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(library().source()).exec(&mut redis).unwrap();

        // The call fails half-way: the message is stored and not published.
        let mut broker = up(config(&server.url())).await;
        cmd("ACL").arg(&["SETUSER", "default", "-publish"]).exec(&mut redis).unwrap();
        assert_eq!(publish(&mut broker, &scope).await, Err(BrokerError::Unknown));
        cmd("ACL").arg(&["SETUSER", "default", "+publish"]).exec(&mut redis).unwrap();
        let mut broker = up(config(&server.url())).await;
        assert_eq!(publish(&mut broker, &scope).await.unwrap().offset, offset + 2);
    });
}
