//! Lane `rust`: every test that cargo knows. The conformance suites start a Redis of their own.

use crate::failure::Failure;
use crate::package;
use crate::step::Step;

pub(super) fn run() -> Result<(), Failure> {
    package::ensure(&[package::REDIS])?;
    // `--no-fail-fast`: one run names every test that fails.
    Step::cargo(&["test", "--workspace", "--no-fail-fast"]).run()
}
