//! Keeps this instance's subscriptions equal to what its sessions want, and every scope without a hole.
//!
//! ```text
//!   join(shard, scope, after) ─▶ ┌────────┐ ─▶ Command::Subscribe, Read ─▶ broker ═▶ Redis
//!   leave(shard, scope)       ─▶ │ Router │ ─▶ Command::Unsubscribe     ─▶ broker ═▶ Redis
//!   sweep(now)                ─▶ └────────┘
//!   Output::Deliver ◀──────────────┘ │ ▲ ◀─ Event::Message, History    ◀─ broker ◀═ Redis
//!   Output::Joined, Replay, Gap ◀────┘ └─── what one Redis call stored and published
//! ```
//!
//! [`Router`] counts interest, checks contiguity once per instance and scope, and never touches the network; a
//! [`Broker`] talks to Redis and never counts. After an outage the router reads what was missed, once, and hands
//! it to everybody; only what cannot be read is told as a [`Gap`]. A scope nobody wants is left subscribed for
//! `linger_ms`, because page reloads leave and rejoin within a second.
//!
//! [`Policies`] says what holds for each family of channels: retention, lane, binary messages.
//!
//! This crate does not know about sockets, sessions, users or topics, and reads no message.

mod broker;
mod history;
mod route;
mod router;
mod stream;

pub use broker::memory::{MemoryBroker, MemoryConfig, MemoryStore};
pub use broker::redis::{RedisBroker, RedisBrokerConfig};
pub use broker::{Broker, BrokerError, Command, Draft, Entry, Event, History, Publish, Stored, Ticket};
pub use history::{Entries, Gap, judge};
pub use route::{Acknowledge, FamilyPolicy, HISTORY_ENTRIES_DEFAULT, OnIsolation, OnSlow, Policies};
pub use router::{
    Joined, Joiner, Output, Positions, Router, RouterConfig, RouterCounts, ShardIndex, ShardSet, Start, Taken,
};
