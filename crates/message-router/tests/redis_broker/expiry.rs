//! How long the metadata of a scope is kept while gateways use the scope.

use super::*;

const HOUR_MS: u64 = Keyspace::UNUSED_KEPT_MS;
const MINUTE_MS: u64 = 60_000;

fn kept_ms(server: &RedisServer, scope: &Scope) -> u64 {
    cmd("PTTL").arg(Keyspace::default().meta(scope)).query(&mut server.connect()).expect("it expires")
}

fn keep(server: &RedisServer, scope: &Scope, ms: u64) {
    cmd("PEXPIRE").arg(Keyspace::default().meta(scope)).arg(ms).exec(&mut server.connect()).unwrap();
}

async fn tops(broker: &mut RedisBroker, scopes: &[Scope], renew: &[(usize, u64)]) -> Vec<Option<Position>> {
    broker.command(Command::Tops { ticket: Ticket(7), scopes: scopes.to_vec(), renew: renew.to_vec() });
    let Event::Tops { result, .. } = next(broker).await else { panic!("not the answer") };
    result.unwrap()
}

async fn read(broker: &mut RedisBroker, scope: &Scope) -> Position {
    broker.command(Command::Read { ticket: Ticket(8), scope: scope.clone(), after: None, entries_max: 0 });
    let Event::History { result, .. } = next(broker).await else { panic!("not the answer") };
    result.unwrap().top
}

#[test]
fn exactly_the_renewed_scopes_are_kept_for_longer() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut broker = up(config(&server.url())).await;
        let scopes = ["user:1", "user:2", "user:3"].map(scope);
        for scope in &scopes {
            publish(&mut broker, scope).await.unwrap();
        }
        let full = kept_ms(&server, &scopes[0]);
        tops(&mut broker, &scopes, &[(0, HOUR_MS)]).await;
        assert!(kept_ms(&server, &scopes[0]) > full - MINUTE_MS, "what is kept for longer stays so");
        scopes.iter().for_each(|scope| keep(&server, scope, MINUTE_MS));
        let answer = tops(&mut broker, &scopes, &[(0, HOUR_MS), (2, Keyspace::META_KEPT_MS)]).await;
        assert!(answer.iter().all(|top| top.is_some_and(|top| top.offset == 1)), "{answer:?}");
        let kept = scopes.each_ref().map(|scope| kept_ms(&server, scope));
        assert!((HOUR_MS - MINUTE_MS..=HOUR_MS).contains(&kept[0]), "{kept:?}");
        assert!(kept[1] <= MINUTE_MS, "{kept:?}");
        assert!((Keyspace::META_KEPT_MS - MINUTE_MS..=Keyspace::META_KEPT_MS).contains(&kept[2]), "{kept:?}");
    });
}

/// A subscriber who stays for a moment only is seen by no comparison: its read alone keeps the scope for another hour.
#[test]
fn a_read_keeps_a_scope_without_a_message_for_another_hour() {
    run(async {
        let server = RedisServer::start(&[]);
        let mut broker = up(config(&server.url())).await;
        let (unused, used) = (scope("user:1"), scope("user:2"));
        let begun = read(&mut broker, &unused).await;
        assert!((HOUR_MS - MINUTE_MS..=HOUR_MS).contains(&kept_ms(&server, &unused)));
        keep(&server, &unused, MINUTE_MS);
        assert_eq!(read(&mut broker, &unused).await, begun);
        assert!((HOUR_MS - MINUTE_MS..=HOUR_MS).contains(&kept_ms(&server, &unused)));
        publish(&mut broker, &used).await.unwrap();
        read(&mut broker, &used).await;
        assert!(kept_ms(&server, &used) > Keyspace::META_KEPT_MS, "a read shortens nothing");
    });
}
