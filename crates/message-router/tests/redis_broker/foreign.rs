//! Keys and channels into which another program writes: the scope is refused and named, and no other scope is affected.

use super::*;

/// Bytes without a meaning, numbers out of range, and text of another form.
const FOREIGN: [&[u8]; 9] = [
    b"",
    b"garbage",
    b"\xff\xfe\x00",
    b"-1",
    b"1e999",
    b"99999999999999999999999999",
    b"18446744073709551615",
    b"5:99999999999999999999999999-1 -1:x",
    b"7-99999999999999999999999999+ 0",
];

/// Uses the scope in every way, and then another one, which works.
async fn use_both(broker: &mut RedisBroker, bad: &Scope, good: &Scope, number: u64, why: &str) {
    let after = Some(Position::new(1, 0));
    let id = Some(format!("id-{number}").into());
    let messages = vec![Draft { id, ..Draft::new("topic", MESSAGE.to_vec()) }, Draft::new("", MESSAGE.to_vec())];
    let publish = Publish { ticket: Ticket(number), scope: bad.clone(), messages, replicated: false };
    broker.command(Command::Publish(publish));
    broker.command(Command::Read { ticket: Ticket(number + 1), scope: bad.clone(), after, entries_max: 9 });
    let position = Position::new(1, 1);
    broker.command(Command::Lost { ticket: Ticket(number + 2), scope: bad.clone(), position });
    broker.command(Command::Tops {
        ticket: Ticket(number + 3),
        scopes: vec![bad.clone(), good.clone()],
        renew: vec![],
    });
    send(broker, number + 4, good);
    broker.command(Command::Read { ticket: Ticket(number + 5), scope: good.clone(), after, entries_max: 9 });
    for _ in 0..6 {
        match next(broker).await {
            Event::Down(reason) => panic!("{why}: {reason}"),
            Event::Tops { result, .. } => assert!(matches!(result.as_deref(), Ok([_, Some(_)])), "{why}: {result:?}"),
            Event::Published { ticket, result } if ticket.0 == number + 4 => {
                assert!(result.is_ok(), "{why}: {result:?}")
            }
            Event::History { ticket, result } if ticket.0 == number + 5 => assert!(result.is_ok(), "{why}: {result:?}"),
            Event::Published { .. } | Event::History { .. } | Event::LossNoted { .. } => {}
            other => panic!("{why}: {other:?}"),
        }
    }
}

#[test]
fn what_another_program_writes_into_a_scope_costs_that_scope_alone() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut redis = server.connect();
        let mut broker = up(config(&server.url())).await;
        let (bad, good, keys) = (scope("user:7"), scope("user:8"), Keyspace::default());
        publish(&mut broker, &good).await.unwrap();
        let mut number = 10;
        let [even, odd] = keys.ids(&bad);
        let names = [keys.stream(&bad), keys.meta(&bad), even, odd];
        let kinds =
            [&["SET", "x"][..], &["HSET", "x", "y"], &["SADD", "x"], &["XADD", "18446744073709551615-1", "t", "c"]];
        for key in &names {
            for kind in kinds {
                cmd("UNLINK").arg(&names).exec(&mut redis).unwrap();
                publish(&mut broker, &bad).await.unwrap();
                cmd("UNLINK").arg(key).exec(&mut redis).unwrap();
                cmd(kind[0]).arg(key).arg(&kind[1..]).exec(&mut redis).unwrap();
                number += 10;
                use_both(&mut broker, &bad, &good, number, &format!("{key} {kind:?}")).await;
            }
        }
        for field in ["r", "g", "o", "e", "d", "k", "i", "b", "x"] {
            for foreign in FOREIGN {
                cmd("UNLINK").arg(&names).exec(&mut redis).unwrap();
                number += 10;
                use_both(&mut broker, &bad, &good, number, "untouched").await;
                cmd("HSET").arg(keys.meta(&bad)).arg(field).arg(foreign).exec(&mut redis).unwrap();
                // Upkeep is due, and a generation begins: every field is used.
                if field != "d" {
                    cmd("HSET").arg(keys.meta(&bad)).arg(&["d", "0"]).exec(&mut redis).unwrap();
                }
                let why = format!("{field} {:?}", String::from_utf8_lossy(foreign));
                use_both(&mut broker, &bad, &good, number + 10, &why).await;
                cmd("DEBUG").arg("CHANGE-REPL-ID").exec(&mut redis).unwrap();
                use_both(&mut broker, &bad, &good, number + 20, &why).await;
                number += 30;
            }
        }
        for foreign in FOREIGN {
            cmd("UNLINK").arg(&names).exec(&mut redis).unwrap();
            publish(&mut broker, &bad).await.unwrap();
            for key in &names[2..] {
                cmd("HSET").arg(key).arg(format!("id-{}", number + 10)).arg(foreign).exec(&mut redis).unwrap();
            }
            for fields in [&[b"t", foreign, b"c", b"", b"m", b"{}"][..], &[b"t", b"5"], &[b"x", foreign]] {
                cmd("XADD").arg(&names[0]).arg("*").arg(fields).exec(&mut redis).unwrap();
            }
            number += 10;
            use_both(&mut broker, &bad, &good, number, &format!("{:?}", String::from_utf8_lossy(foreign))).await;
        }
        // The refusal names the key. Without it the scope works again.
        cmd("HSET").arg(&names[1]).arg(&["g", "1", "o", "garbage"]).exec(&mut redis).unwrap();
        let refused = publish(&mut broker, &bad).await;
        assert!(matches!(&refused, Err(BrokerError::Wrong(why)) if why.contains(&names[1])), "{refused:?}");
        cmd("UNLINK").arg(&names).exec(&mut redis).unwrap();
        assert!(publish(&mut broker, &bad).await.is_ok());
    });
}

/// A payload that no publish can have is passed over while it arrives.
#[test]
fn a_bare_publish_of_any_size_leaves_the_connection_up() {
    run(async {
        let server = RedisServer::start(&["--client-output-buffer-limit", "pubsub 0 0 0"]);
        let mut broker = up(probing(&server.url())).await;
        let scope = scope("user:7");
        subscribe(&mut broker, &scope).await;
        let channel = Keyspace::default().channel(&scope);
        let mut redis = server.connect();
        for size in [17 << 20, 70 << 20, 200 << 20] {
            let publish = channel.clone();
            let payload = vec![b'x'; size];
            let heard: i64 = cmd("PUBLISH").arg(publish).arg(payload).query(&mut redis).unwrap();
            assert_eq!(heard, 1);
        }
        // What follows arrives, and nothing went down meanwhile.
        send(&mut broker, 1, &scope);
        let mut received = false;
        while !received {
            match next(&mut broker).await {
                Event::Message { envelope, .. } => received = Envelope::parse(&envelope).is_ok(),
                Event::Published { result, .. } => assert!(result.is_ok(), "{result:?}"),
                other => panic!("{other:?}"),
            }
        }
    });
}
