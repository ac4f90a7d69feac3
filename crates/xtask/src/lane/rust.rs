//! Lane `rust`: every test that cargo knows. The conformance suites start a Redis of their own.

use crate::failure::Failure;
use crate::package;
use crate::step::Step;

pub(super) fn run() -> Result<(), Failure> {
    package::ensure(&[package::REDIS])?;
    // With TLS, as every debug build of the lanes, so that nothing is built twice. `--no-fail-fast`: one run names every
    // test that fails.
    Step::cargo(&["test", "--workspace", "--features", "tidegate-gateway/tls", "--no-fail-fast"]).run()
}
