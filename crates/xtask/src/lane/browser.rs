//! Lane `browser`: Chromium drives the page; `node --test` is the runner, playwright-core from npm the driver.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::failure::Failure;
use crate::step::Step;
use crate::{package, workspace};

/// The tests and their package-lock.json.
const TESTS: &str = "crates/gateway/tests/browser";

pub(super) fn run() -> Result<(), Failure> {
    let tests = workspace::root().join(TESTS);
    require_tests(&tests)?;
    package::ensure(&[package::NODE, package::NPM, package::CHROMIUM, package::REDIS, package::HAPROXY])?;
    install_modules(&tests)?;
    // What the tests start is what a person starts; built here, where the compiler can be seen working.
    Step::cargo(&["build", "--release", "--package", "tidegate-gateway"]).run()?;
    let chromium =
        package::find(package::CHROMIUM.program).ok_or_else(|| Failure::new("chromium is not on this machine"))?;
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

/// `npm ci` under `target/`; the tests see it through a link beside them, because an `import` looks nowhere else.
fn install_modules(tests: &Path) -> Result<(), Failure> {
    let home = workspace::target().join("browser");
    let lock = tests.join("package-lock.json");
    let wanted = fs::read(&lock).map_err(Failure::during(format_args!("reading {}", lock.display())))?;
    // Written after `npm ci` succeeded: an equal lock says that the modules are complete.
    let stamp = home.join("installed.json");
    let modules = home.join("node_modules");
    if !modules.is_dir() || fs::read(&stamp).ok().as_deref() != Some(&wanted) {
        fs::create_dir_all(&home).map_err(Failure::during("making target/browser"))?;
        for name in ["package.json", "package-lock.json"] {
            fs::copy(tests.join(name), home.join(name)).map_err(Failure::during(format_args!("copying {name}")))?;
        }
        Step::new("npm").args(["ci", "--no-audit", "--no-fund"]).dir(&home).run()?;
        fs::write(&stamp, wanted).map_err(Failure::during("writing target/browser/installed.json"))?;
    }
    link_modules(&modules, &tests.join("node_modules"))
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
