//! One shard: a thread that owns its connections, their sessions and their outboxes.

mod arrivals;
pub(crate) mod catch_up_page;
pub(crate) mod conflation;
pub(crate) mod delivery_confirmation;
pub(crate) mod departures;
pub(crate) mod handoff;
pub(crate) mod hub;
pub(crate) mod join;
pub(crate) mod members;
pub(crate) mod outbox;
pub(crate) mod publish_reply;
pub(crate) mod registrations;
pub(crate) mod requests;
pub(crate) mod reservation;
pub(crate) mod shared;
pub(crate) mod table;
pub(crate) mod wheel;
pub(crate) mod worker;
