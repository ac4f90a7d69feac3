//! Lane `observe`: the shipped rules and dashboards, and a few faults in a live cluster.

use crate::failure::Failure;
use crate::observe::{self, Length};

pub(super) fn run() -> Result<(), Failure> {
    observe::run(Length::Short)
}
