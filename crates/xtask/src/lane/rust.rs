//! Lane `rust`: all tests of the cargo workspace. The conformance suites start their own Redis.

use crate::failure::Failure;
use crate::package;
use crate::step::Step;

pub(super) fn run() -> Result<(), Failure> {
    package::ensure(&[package::REDIS])?;
    // The TLS feature is on, as in every debug build of the lanes, so that nothing is built twice. With
    // `--no-fail-fast`, one run names every test that fails.
    Step::cargo(&["test", "--workspace", "--features", "tidegate-gateway/tls", "--no-fail-fast"]).run()
}
