//! Lane `examples`: what the documents show is run as it stands there, by `node --test`.

use std::fs;

use crate::failure::Failure;
use crate::step::Step;
use crate::{npm, package, python, workspace};

/// The tests, and what the examples import: package-lock.json, requirements.txt, go.mod and go.sum.
const TESTS: &str = "crates/gateway/tests/examples";

pub(super) fn run() -> Result<(), Failure> {
    package::ensure(&[package::REDIS, package::HAPROXY, package::GO])?;
    let tests = workspace::root().join(TESTS);
    let home = workspace::target().join("examples");
    npm::install(&tests, &home)?;
    let requirement = read(&tests.join("requirements.txt"))?;
    python::with(requirement.trim(), &home.join("venv"))?;
    let go = home.join("go");
    fs::create_dir_all(&go).map_err(Failure::during("making target/examples/go"))?;
    for name in ["go.mod", "go.sum"] {
        fs::write(go.join(name), read(&tests.join(name))?).map_err(Failure::during(format_args!("writing {name}")))?;
    }
    // What the tests start is what a person starts; built here, where the compiler can be seen working.
    Step::cargo(&["build", "--release", "--package", "tidegate-gateway"]).run()?;
    Step::new("node")
        .args(["--test", "--test-reporter=spec", "publish.test.js"])
        .dir(&tests)
        // Not TIDEGATE_…: a gateway that the tests start would refuse variables it does not know.
        .env("BROWSER_TARGET", workspace::target())
        .env("EXAMPLES_HOME", home)
        .run()
}

fn read(file: &std::path::Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(Failure::during(format_args!("reading {}", file.display())))
}
