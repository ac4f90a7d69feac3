//! A Python with one package from PyPI, in a virtual environment of its own, so that nothing is installed into the
//! machine's Python.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::package;
use crate::step::Step;

/// The interpreter that has `requirement` (`name==version`), made below `venv` if it is not there.
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
    // Debian's python3 comes without `venv`; the package is named when, and only when, it is missing.
    make().or_else(|_| package::install(package::PYTHON.packages).and_then(|()| make()))?;
    Step::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]).run()?;
    Ok(python)
}
