//! What the instance knows of itself: its phase, its broker, its lease, and whether its threads run.

mod instance_health;
pub(crate) mod instance_state;
pub(crate) mod watchdog;

pub(crate) use instance_health::{Health, NoAnswer};
