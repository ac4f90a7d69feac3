//! The instances that are alive, and the connections of each.
//!
//! ```text
//!   shards ─ connect, disconnect ─▶ Directory ─┐
//!   shards ─ enter, exit ─────────▶ Presence ──┤
//!                                              ▼
//!                                      ┌───────────────┐  heartbeats, rows   ┌───────┐
//!                                      │ HeartbeatTask │ ══════════════════▶ │ Store │ ◀══ other instances
//!                                      └───────────────┘ ◀══════════════════ └───────┘
//!                                       │             │   replies, peers'     (memory or Redis)
//!                                       ▼             ▼   heartbeats
//!                                     Lease         Roster    (pure: handed the time, no I/O)
//!   gateway ◀─ LeaseState, Peers ───────┴─────────────┘
//! ```
//!
//! The three types that matter: [`HeartbeatTask`] runs everything and returns a [`HeartbeatHandle`]; [`LeaseState`]
//! says whether this instance may act as the owner of its connections; [`Directory`] lists the connections of this
//! instance. Each change of rows in the [`Store`] carries the lease's token. The store refuses an outdated token, and
//! checks the owner's limits: a [`SessionClose`] names a session that has to go. [`Presence`] does the same for the
//! members of scopes, for families that have presence. A session whose client asked for it leaves a [`SessionRecord`]
//! ([`Restores`]), and any instance can continue the session. [`RevocationLog`] has the tokens, sessions and users that no
//! instance accepts any more.
//!
//! No module imports one that is listed above it in [the dependency order](#dependency-order).
//!
//! # Dependency order
//!
//! `heartbeat`, `store`, `presence`, `roster`, `lease`, `directory`, `session_command`, `instance_command`,
//! `session_close`, `revocation`, `restores`, `session_record`, `clock_offset`, `presence_event`, `member`, `connection_row`,
//! `connection_limits`, `registration`, `timings`, `load`, `instance`, `error`.
//!
//! This crate does not know about sockets or messages.
#![warn(missing_docs)]

mod clock_offset;
mod connection_limits;
mod connection_row;
mod directory;
mod error;
mod heartbeat;
mod instance;
mod instance_command;
mod lease;
mod load;
mod member;
mod presence;
mod presence_event;
mod registration;
mod restores;
mod revocation;
mod roster;
mod session_close;
mod session_command;
mod session_record;
mod store;
mod timings;

pub use connection_limits::{ConnectionLimits, OnExcess};
pub use connection_row::{ConnectionRow, RowChange};
pub use directory::Directory;
pub use error::{Fault, Refusal, StoreError};
pub use heartbeat::{HeartbeatConfig, HeartbeatHandle, HeartbeatTask, Peers};
pub use instance::{Incarnation, Instance, Status};
pub use instance_command::{InstanceCommand, NoticeTarget};
pub use lease::{LeaseState, Loss, Token};
pub use load::{Duty, Heartbeat, Load};
pub use member::{Member, MemberChange, MemberInfo, MemberList};
pub use presence::Presence;
pub use presence_event::{PresenceBatch, PresenceCursor, PresenceEvent, PresenceSnapshot, PresenceTransition};
pub use registration::{Registration, RegistrationNumber};
pub use restores::{LookupResult, RecordLookup, RestoreRequest, RestoreResult, Restores};
pub use revocation::{Revocation, RevocationSubject};
pub use roster::{Peer, PeerHeartbeat};
pub use session_close::{CloseReason, SessionClose};
pub use session_command::SessionCommand;
pub use session_record::{ClosedSessionRecord, SessionRecord};
pub use store::{
    Acquired, Connected, DirectoryReply, LeaseRenewal, MEMBER_CHANGES_MAX, MemoryStore, PresenceReader,
    ROW_CHANGES_MAX, RedisStore, RedisStoreConfig, RevocationCursor, RevocationLog, RevocationPage, Store,
};
pub use timings::{BadTimings, Timings};
