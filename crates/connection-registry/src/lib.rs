//! Which instances are alive, and who is connected to them.
//!
//! ```text
//!   shards ─ connect, disconnect ─▶ Directory ─┐
//!   shards ─ enter, exit ──────────▶ Presence ──┤
//!                                              ▼
//!                    ┌───────┐   heartbeat, rows  ┌───────┐ ◀── other instances
//!                    │ heartbeat  │ ════════════▶ │ Store │     (memory or Redis)
//!                    └───────┘ ◀════════════ └───────┘
//!                     │     │   answers, heartbeats of the peers
//!               Lease ▼     ▼ Roster                    (pure: told the time, do no I/O)
//!   gateway ◀─ LeaseState   Peers                       (watched)
//! ```
//!
//! The three types that matter: [`HeartbeatTask`] runs it all and gives a [`HeartbeatHandle`]; [`LeaseState`] says whether this
//! instance may act as the owner of its connections; [`Directory`] is who is connected here. Each change of rows in
//! the [`Store`] carries the lease's token and is refused there when the token is stale, and is held there against the
//! limits of its owner: [`SessionClose`] says who has to go. [`Presence`] is the same for the members of scopes, for families
//! that have it. A session whose client asked for it leaves a [`SessionRecord`] ([`Restores`]), and any instance can take
//! it up.
//!
//! This crate does not know about sockets or messages.
#![warn(missing_docs)]

mod clock_offset;
mod directory;
mod error;
mod heartbeat;
mod instance;
mod lease;
mod limits;
mod load;
mod member;
mod presence;
#[cfg(test)]
mod random;
mod restores;
mod roster;
mod session_record;
mod store;
mod timings;

pub use directory::{ConnectionRow, Directory, Registration, RegistrationNumber, RowChange};
pub use error::{Fault, Refusal, StoreError};
pub use heartbeat::{HeartbeatConfig, HeartbeatHandle, HeartbeatTask, Peers};
pub use instance::{Incarnation, Instance, Status};
pub use lease::{LeaseState, Loss, Token};
pub use limits::{
    CloseReason, ConnectionLimits, DirectoryReply, InstanceCommand, LeaseRenewal, NoticeTarget, OnExcess, SessionClose,
    SessionCommand,
};
pub use load::{Duty, Heartbeat, Load};
pub use member::{
    Member, MemberChange, MemberInfo, MemberList, PresenceBatch, PresenceCursor, PresenceEvent, PresenceSnapshot,
    PresenceTransition,
};
pub use presence::Presence;
pub use restores::{LookupResult, RecordLookup, RestoreRequest, RestoreResult, Restores};
pub use roster::{Peer, PeerHeartbeat};
pub use session_record::{ClosedSessionRecord, SessionRecord};
pub use store::{
    Acquired, Connected, MEMBER_CHANGES_MAX, MemoryStore, PresenceReader, ROW_CHANGES_MAX, RedisStore,
    RedisStoreConfig, Store,
};
pub use timings::{BadTimings, Timings};
