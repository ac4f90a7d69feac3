//! A Python interpreter with one package from PyPI, in its own virtual environment. Nothing is installed into the
//! Python of the machine.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::package;
use crate::step::Step;

/// Returns the interpreter that has `requirement` (`name==version`). Creates it below `venv` if it does not exist.
pub(crate) fn with(requirement: &str, venv: &Path) -> Result<PathBuf, Failure> {
    package::ensure(&[package::PYTHON])?;
    let (name, version) = requirement
        .split_once("==")
        .ok_or_else(|| Failure::new(format!("{requirement} is not pinned: a new release may judge differently")))?;
    let python = venv.join("bin/python");
    let is_pinned = format!("import importlib.metadata as m; assert m.version('{name}') == '{version}'");
    if python.is_file() && Step::new(&python).args(["-c", &is_pinned]).succeeds() {
        return Ok(python);
    }
    let make = || Step::new("python3").args(["-m", "venv", "--clear"]).args([venv]).run();
    // Debian's python3 has no `venv`. The package is installed or named only if the module is missing.
    make().or_else(|_| package::install(package::PYTHON.packages).and_then(|()| make()))?;
    Step::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]).run()?;
    Ok(python)
}
