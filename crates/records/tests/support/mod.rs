//! Dead letters and stores for the tests of this crate.

use std::time::Duration;

use keyspace::{Keyspace, Library};
use records::{Body, Bounds, DeadLetter, Loading, Reason, RedisStore, RedisStoreConfig};
use redis_topology::Target;
use test_support::RedisServer;
use wire::{Families, InstanceId, Position, TenantId, Timestamp, UserId};

pub(crate) const BOUNDS: Bounds = Bounds { entries_max: 1_000, ttl: Duration::from_secs(600) };

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

pub(crate) fn acme() -> TenantId {
    tenant("acme")
}

pub(crate) fn dead_letter(tenant_name: &str, number: u64) -> DeadLetter {
    let scope = Families::default().parse_scope(&format!("{tenant_name}/collection:1")).unwrap();
    let position = Position::new(7, number);
    DeadLetter {
        dedup_key: format!("{number}").into(),
        reason: Reason::Poison,
        instance: InstanceId::parse("gw-1").unwrap(),
        scope,
        topic: "ops".into(),
        user: Some(UserId::parse("alice").unwrap()),
        position: Some(position),
        time: Timestamp(1_795_176_000_000),
        detail: "it does not begin with {".into(),
        size: 13,
        body: Body::Message(b"\x00no message \xff".to_vec().into()),
    }
}

pub(crate) fn redis_store(server: &RedisServer, bounds: Bounds) -> RedisStore {
    let families = Families::default();
    RedisStore::new(RedisStoreConfig {
        target: Target::parse(&server.url()).unwrap(),
        connections_max: 10,
        keyspace: Keyspace::default(),
        library: Library::new(families.iter().map(|(_, shape)| (shape, 60_000, 100))),
        loading: Loading::Replace,
        deadline: Duration::from_secs(30),
        bounds,
    })
}
