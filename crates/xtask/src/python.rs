//! A Python interpreter with packages from PyPI, in its own virtual environment. Nothing is installed into the
//! Python of the machine.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::package;
use crate::step::Step;

/// Returns the interpreter that has these requirements (`name==version`). Creates it below `venv` if it does not exist.
pub(crate) fn with(requirements: &[&str], venv: &Path) -> Result<PathBuf, Failure> {
    package::ensure(&[package::PYTHON])?;
    let mut are_pinned = String::from("import importlib.metadata as m\n");
    for requirement in requirements {
        let (name, version) = requirement
            .split_once("==")
            .ok_or_else(|| Failure::new(format!("{requirement} is not pinned: a new release may judge differently")))?;
        are_pinned += &format!("assert m.version('{name}') == '{version}'\n");
    }
    let python = venv.join("bin/python");
    if python.is_file() && Step::new(&python).args(["-c", &are_pinned]).succeeds() {
        return Ok(python);
    }
    let make = || Step::new("python3").args(["-m", "venv", "--clear"]).args([venv]).run();
    // Debian's python3 has no `venv`. The package is installed or named only if the module is missing.
    make().or_else(|_| package::install(package::PYTHON.packages).and_then(|()| make()))?;
    let pip = Step::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(requirements).run()?;
    Ok(python)
}
