//! Lane `chaos`: faults in a real cluster. Each fault is proven to have taken effect, and the history checker judges
//! each run.

use crate::chaos;
use crate::failure::Failure;

pub(super) fn run() -> Result<(), Failure> {
    chaos::lane()
}
