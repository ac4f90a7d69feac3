//! The objects of the heartbeat task, each on its own, on a store in memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use wire::{InstanceId, SessionId, TenantId, Timestamp, UserId};

use super::command_sender::CommandSender;
use super::lease_keeper::{LeaseKeeper, LeaseReply};
use crate::connection_limits::{ConnectionLimits, OnExcess};
use crate::connection_row::ConnectionRow;
use crate::directory::Directory;
use crate::instance::{Incarnation, Instance};
use crate::load::{Duty, Load};
use crate::session_command::SessionCommand;
use crate::store::MemoryStore;
use crate::timings::Timings;

mod command_sender;
mod directory_sync;
mod lease_keeper;
mod peer_watch;
mod presence_sync;
mod session_record_sync;
mod wakeup_listener;

const TIMINGS: Timings = Timings {
    heartbeat: Duration::from_secs(2),
    lease: Duration::from_secs(6),
    reap: Duration::from_secs(8),
    call: Duration::from_secs(1),
    rows: Duration::from_secs(60),
    grace: Duration::from_millis(10),
    record: Duration::from_secs(60),
};

const ANY_NUMBER: ConnectionLimits =
    ConnectionLimits { per_user_max: 0, per_tenant_max: 0, on_excess: OnExcess::Reject };

const LOAD: Load = Load { connections: 0, connects_per_second: 0, duty: Duty::Full };

fn store() -> MemoryStore {
    MemoryStore::new(ANY_NUMBER, TIMINGS)
}

fn instance(id: &str) -> Instance {
    Instance { id: InstanceId::parse(id).unwrap(), incarnation: Incarnation::new(1, 2), address: "127.0.0.1:1".into() }
}

/// A keeper that does not hold its lease yet.
fn new_keeper(id: &str) -> LeaseKeeper {
    LeaseKeeper::new(instance(id), None, Duration::ZERO).0
}

/// A keeper that holds its lease.
async fn keeper(id: &str, store: &MemoryStore) -> LeaseKeeper {
    let mut keeper = new_keeper(id);
    assert!(matches!(keeper.request(store, LOAD).await, Ok(LeaseReply::Granted { .. })));
    keeper
}

/// A directory, the sender of its commands, and their receiver.
fn commands() -> (Arc<Directory>, CommandSender, mpsc::UnboundedReceiver<SessionCommand>) {
    let (directory, (sender, receiver)) = (Arc::<Directory>::default(), mpsc::unbounded_channel());
    (Arc::clone(&directory), CommandSender::new(directory, sender), receiver)
}

fn session(number: u128) -> SessionId {
    SessionId::from_random(number)
}

fn row(user: &str) -> ConnectionRow {
    let user = UserId::parse(user).unwrap();
    ConnectionRow { tenant: TenantId::default(), user, shard: 0, connected_at: Timestamp(1_000) }
}
