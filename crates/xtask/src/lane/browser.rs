//! Lane `browser`: Chromium drives the page; `node --test` is the runner, playwright-core from npm the driver.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::step::Step;
use crate::{package, workspace};

/// The tests and their package-lock.json.
const TESTS: &str = "crates/gateway/tests/browser";

pub(super) fn run() -> Result<(), Failure> {
    let tests = workspace::root().join(TESTS);
    require_tests(&tests)?;
    package::ensure(&[package::NODE, package::NPM, package::CHROMIUM, package::REDIS, package::HAPROXY])?;
    let modules = install_modules(&tests)?;
    Step::cargo(&["build", "--package", "tidegate-gateway"]).run()?;
    let chromium =
        package::find(package::CHROMIUM.program).ok_or_else(|| Failure::new("chromium is not on this machine"))?;
    Step::new("node")
        .args(["--test", "--test-reporter=spec"])
        .dir(&tests)
        .env("NODE_PATH", modules)
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

/// `npm ci` under `target/`, so that nothing grows in the source tree; the tests find it by NODE_PATH.
fn install_modules(tests: &Path) -> Result<PathBuf, Failure> {
    let home = workspace::target().join("browser");
    let installed = home.join("node_modules");
    let lock = tests.join("package-lock.json");
    let wanted = fs::read(&lock).map_err(Failure::during(format_args!("reading {}", lock.display())))?;
    // Copied after `npm ci` succeeded: an equal lock says that the modules are complete.
    let stamp = home.join("installed.json");
    if installed.is_dir() && fs::read(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(installed);
    }
    fs::create_dir_all(&home).map_err(Failure::during("making target/browser"))?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(tests.join(name), home.join(name)).map_err(Failure::during(format_args!("copying {name}")))?;
    }
    Step::new("npm").args(["ci", "--no-audit", "--no-fund"]).dir(&home).run()?;
    fs::write(&stamp, wanted).map_err(Failure::during("writing target/browser/installed.json"))?;
    Ok(installed)
}
