//! Lane `browser`: Chromium opens the page. `node --test` runs the tests, and playwright-core from npm drives Chromium.

use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::step::Step;
use crate::{npm, package, program, workspace};

/// The directory of the tests and their package-lock.json.
const TESTS: &str = "crates/gateway/tests/browser";

pub(super) fn run() -> Result<(), Failure> {
    let tests = workspace::root().join(TESTS);
    require_tests(&tests)?;
    package::ensure(&[package::CHROMIUM, package::REDIS, package::HAPROXY])?;
    npm::install_and_link(&tests, &workspace::target().join("browser"))?;
    // The tests start the same release build as a user. It is built here, where the compiler's output is visible.
    Step::cargo(&["build", "--release", "--package", "tidegate-gateway"]).run()?;
    let chromium =
        program::find(package::CHROMIUM.program).ok_or_else(|| Failure::new("chromium is not on this machine"))?;
    Step::new("node")
        .args(["--test", "--test-reporter=spec"])
        .dir(&tests)
        // The name does not begin with TIDEGATE_: a gateway that the tests start would refuse an unknown TIDEGATE_
        // variable.
        .env("BROWSER_CHROMIUM", chromium)
        .env("BROWSER_TARGET", workspace::target())
        .run()
}

/// Fails if the directory has no tests. `node --test` would pass.
fn require_tests(tests: &Path) -> Result<(), Failure> {
    let names = fs::read_dir(tests).map_err(Failure::during(format_args!("reading {TESTS}")))?;
    let is_test = |name: &str| name.contains(".test.");
    match names.flatten().any(|entry| is_test(&entry.file_name().to_string_lossy())) {
        true => Ok(()),
        false => Err(Failure::new(format!("{TESTS} holds no test"))),
    }
}
