//! Lane `examples`: runs the examples of the documents exactly as printed, with `node --test`.

use std::fs;

use crate::failure::Failure;
use crate::step::Step;
use crate::{npm, package, python, workspace};

/// The directory of the tests and the dependencies of the examples: package-lock.json, requirements.txt, go.mod,
/// go.sum.
const TESTS: &str = "crates/gateway/tests/examples";

pub(super) fn run() -> Result<(), Failure> {
    package::ensure(&[package::REDIS, package::HAPROXY, package::GO])?;
    let tests = workspace::root().join(TESTS);
    let home = workspace::target().join("examples");
    npm::install(&tests, &home)?;
    let requirement = read(&tests.join("requirements.txt"))?;
    python::with(&[requirement.trim()], &home.join("venv"))?;
    let go = home.join("go");
    fs::create_dir_all(&go).map_err(Failure::during("making target/examples/go"))?;
    for name in ["go.mod", "go.sum"] {
        fs::write(go.join(name), read(&tests.join(name))?).map_err(Failure::during(format_args!("writing {name}")))?;
    }
    // The tests start the same release build as a user. It is built here, where the compiler's output is visible.
    Step::cargo(&["build", "--release", "--package", "tidegate-gateway"]).run()?;
    Step::new("node")
        .args(["--test", "--test-reporter=spec", "publish.test.js"])
        .dir(&tests)
        // The name does not begin with TIDEGATE_: a gateway that the tests start would refuse an unknown TIDEGATE_
        // variable.
        .env("BROWSER_TARGET", workspace::target())
        .env("EXAMPLES_HOME", home)
        .run()
}

fn read(file: &std::path::Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(Failure::during(format_args!("reading {}", file.display())))
}
