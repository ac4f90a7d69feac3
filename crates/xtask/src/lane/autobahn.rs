//! Lane `autobahn`: the codec, as the gateway's echo example serves it, against the Autobahn cases of `kosoku`.

use crate::failure::Failure;
use crate::step::Step;
use crate::{package, workspace};

/// The Autobahn case definitions as a plain Python 3 package. Pinned: a new release may judge differently.
const KOSOKU: &str = "kosoku==0.1.0";

pub(super) fn run() -> Result<(), Failure> {
    package::ensure(&[package::PYTHON])?;
    let python = python_with_kosoku()?;
    Step::cargo(&["build", "--package", "tidegate-gateway", "--example", "echo"]).run()?;
    Step::new(python)
        .args(["crates/gateway/tests/autobahn/run.py"])
        .env("TIDEGATE_ECHO", workspace::target().join("debug/examples/echo"))
        .run()
}

/// A virtual environment under `target/`, so that nothing is installed into the machine's own Python.
fn python_with_kosoku() -> Result<std::path::PathBuf, Failure> {
    let venv = workspace::target().join("venv");
    let python = venv.join("bin/python");
    let pinned =
        format!("import importlib.metadata as m; assert m.version('kosoku') == '{}'", &KOSOKU["kosoku==".len()..]);
    if python.is_file() && Step::new(&python).args(["-c", &pinned]).succeeds() {
        return Ok(python);
    }
    let make = || Step::new("python3").args(["-m", "venv", "--clear"]).args([&venv]).run();
    // Debian's python3 comes without `venv`; the package is named when, and only when, it is missing.
    make().or_else(|_| package::install(package::PYTHON.packages).and_then(|()| make()))?;
    Step::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", KOSOKU]).run()?;
    Ok(python)
}
