//! Which instances are alive, and who is connected to them.
//!
//! ```text
//!   shards ─ connect, disconnect ─▶ Directory ─┐
//!   shards ─ enter, exit ──────────▶ Presence ──┤
//!                                              ▼
//!                    ┌───────┐   beat, rows  ┌───────┐ ◀── other instances
//!                    │ heart │ ════════════▶ │ Store │     (memory or Redis)
//!                    └───────┘ ◀════════════ └───────┘
//!                     │     │   answers, beats of the peers
//!               Lease ▼     ▼ Roster                    (pure: told the time, do no I/O)
//!   gateway ◀─ LeaseState   Peers                       (watched)
//! ```
//!
//! The three types that matter: [`Heart`] runs it all and gives a [`HeartHandle`]; [`LeaseState`] says whether this
//! instance may act as the owner of its connections; [`Directory`] is who is connected here. Each change of rows in
//! the [`Store`] carries the lease's token and is refused there when the token is stale, and is held there against the
//! limits of its owner: [`Closing`] says who has to go. [`Presence`] is the same for the members of scopes, for families
//! that have it. A session whose client asked for it leaves a [`SessionRecord`] ([`Restores`]), and any instance can take
//! it up.
//!
//! This crate does not know about sockets or messages.
#![warn(missing_docs)]

mod dating;
mod directory;
mod error;
mod heart;
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

pub use directory::{Directory, Row, RowChange, Seat, SeatNumber};
pub use error::{Fault, Refusal, StoreError};
pub use heart::{Heart, HeartConfig, HeartHandle, Peers};
pub use instance::{Incarnation, Instance, Status};
pub use lease::{LeaseState, Loss, Token};
pub use limits::{Addressee, Closing, ConnectionLimits, Errand, Listed, OnExcess, Order, Renewed, Why};
pub use load::{Duty, Load, Pulse};
pub use member::{Mark, Member, MemberChange, MemberInfo, MemberList, MemberNews, Roll, Turn, Turnover};
pub use presence::Presence;
pub use restores::{Ask, Kept, Question, Restored, Restores};
pub use roster::{Beat, Peer};
pub use session_record::{LeftRecord, SessionRecord};
pub use store::{
    Acquired, Connected, MEMBER_CHANGES_MAX, MemoryStore, ROW_CHANGES_MAX, RedisStore, RedisStoreConfig, Rolls, Store,
};
pub use timings::{BadTimings, Timings};
