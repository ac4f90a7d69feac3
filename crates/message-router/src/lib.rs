//! Keeps this instance's subscriptions equal to what its sessions want.

mod broker;

pub use broker::{Broker, BrokerError, Command, Entry, Event, History, Publish, Ticket};
