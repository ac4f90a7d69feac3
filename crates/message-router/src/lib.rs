//! Subscribes this instance to the scopes that its sessions need, and keeps every scope without a hole.
//!
//! ```text
//!   join(shard, scope, after) ─▶ ┌────────┐ ─▶ Command::Subscribe, Unsubscribe ─▶ ┌────────┐
//!   leave(shard, scope)       ─▶ │        │ ─▶ Command::Read, Tops, Lost        ─▶ │        │ ═▶ Redis
//!   publish(messages)         ─▶ │ Router │ ─▶ Command::Publish                 ─▶ │ Broker │
//!   sweep(now)                ─▶ │        │ ◀─ Event::Subscribed, Message       ◀─ │        │ ◀═ Redis
//!                                └───┬────┘ ◀─ Event::History, Tops, LossNoted  ◀─ └────────┘
//!                                    └──▶ Output::Joined, Deliver, Replay, Gap, Local, Isolated, Degraded ─▶ shards
//! ```
//!
//! [`Router`] counts which shards need which scope, checks once per instance and scope that messages are contiguous,
//! and never uses the network. A [`Broker`] talks to Redis and counts nothing. After an outage the router reads the
//! missed messages of a scope once and hands them to all of its shards; only what cannot be read is reported as a
//! [`Gap`]. A scope that no shard needs stays subscribed for `linger_ms`, because a page reload leaves and rejoins
//! within a second.
//!
//! [`Policies`] holds the rules of each family of channels: retention, lane, binary messages and others.
//!
//! This crate knows no client sockets, sessions or users, and does not look at topics or at the content of messages.

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
