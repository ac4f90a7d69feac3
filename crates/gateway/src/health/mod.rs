//! The health of the instance: its phase, its broker, its lease, and whether its event loops run.

mod instance_health;
pub(crate) mod instance_state;
pub(crate) mod watchdog;

pub(crate) use instance_health::{Health, NoAnswer};
