//! Lane `browser`: Chromium drives the page; `node --test` is the runner, playwright-core from npm the driver.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::failure::Failure;
use crate::step::Step;
use crate::{npm, package, program, workspace};

/// The tests and their package-lock.json.
const TESTS: &str = "crates/gateway/tests/browser";

pub(super) fn run() -> Result<(), Failure> {
    let tests = workspace::root().join(TESTS);
    require_tests(&tests)?;
    package::ensure(&[package::CHROMIUM, package::REDIS, package::HAPROXY])?;
    let modules = npm::install(&tests, &workspace::target().join("browser"))?;
    // An `import` looks nowhere but beside the tests.
    link_modules(&modules, &tests.join("node_modules"))?;
    // What the tests start is what a person starts; built here, where the compiler can be seen working.
    Step::cargo(&["build", "--release", "--package", "tidegate-gateway"]).run()?;
    let chromium =
        program::find(package::CHROMIUM.program).ok_or_else(|| Failure::new("chromium is not on this machine"))?;
    Step::new("node")
        .args(["--test", "--test-reporter=spec"])
        .dir(&tests)
        // Not TIDEGATE_…: a gateway that the tests start would refuse variables it does not know.
        .env("BROWSER_CHROMIUM", chromium)
        .env("BROWSER_TARGET", workspace::target())
        .run()
}

/// `node --test` is content with a directory without tests; we are not.
fn require_tests(tests: &Path) -> Result<(), Failure> {
    let names = fs::read_dir(tests).map_err(Failure::during(format_args!("reading {TESTS}")))?;
    let is_test = |name: &str| name.contains(".test.");
    match names.flatten().any(|entry| is_test(&entry.file_name().to_string_lossy())) {
        true => Ok(()),
        false => Err(Failure::new(format!("{TESTS} holds no test"))),
    }
}

fn link_modules(modules: &Path, link: &Path) -> Result<(), Failure> {
    if fs::read_link(link).is_ok_and(|to| to == modules) {
        return Ok(());
    }
    match fs::symlink_metadata(link) {
        // A person's own `npm ci`.
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => fs::remove_file(link).map_err(Failure::during(format_args!("removing {}", link.display())))?,
        Err(_) => {}
    }
    symlink(modules, link).map_err(Failure::during(format_args!("linking {}", link.display())))
}
