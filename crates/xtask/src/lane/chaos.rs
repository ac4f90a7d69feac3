//! Lane `chaos`: faults in a real cluster, each proven to have been there, each judged by the history checker.

use crate::chaos;
use crate::failure::Failure;

pub(super) fn run() -> Result<(), Failure> {
    chaos::lane()
}
