//! Installs the npm packages that a package-lock.json names.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::package;
use crate::step::Step;

/// Runs `npm ci` below `home`, with the package.json and the lock file of `package`, unless they are installed already.
/// Returns the directory of the modules.
pub(crate) fn install(package: &Path, home: &Path) -> Result<PathBuf, Failure> {
    package::ensure(&[package::NODE, package::NPM])?;
    let lock = package.join("package-lock.json");
    let wanted = fs::read(&lock).map_err(Failure::during(format_args!("reading {}", lock.display())))?;
    // This file is written after `npm ci` succeeded. An equal lock file shows that the modules are complete.
    let stamp = home.join("installed.json");
    let modules = home.join("node_modules");
    if !modules.is_dir() || fs::read(&stamp).ok().as_deref() != Some(&wanted) {
        fs::create_dir_all(home).map_err(Failure::during(format_args!("making {}", home.display())))?;
        for name in ["package.json", "package-lock.json"] {
            fs::copy(package.join(name), home.join(name)).map_err(Failure::during(format_args!("copying {name}")))?;
        }
        Step::new("npm").args(["ci", "--no-audit", "--no-fund"]).dir(home).run()?;
        fs::write(&stamp, wanted).map_err(Failure::during(format_args!("writing {}", stamp.display())))?;
    }
    Ok(modules)
}

/// As [`install`], and links the modules into `package`: Node resolves an `import` only beside the importing file.
pub(crate) fn install_and_link(package: &Path, home: &Path) -> Result<(), Failure> {
    let modules = install(package, home)?;
    link_modules(&modules, &package.join("node_modules"))
}

fn link_modules(modules: &Path, link: &Path) -> Result<(), Failure> {
    if fs::read_link(link).is_ok_and(|to| to == modules) {
        return Ok(());
    }
    match fs::symlink_metadata(link) {
        // The modules were installed by a `npm ci` of the user.
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => fs::remove_file(link).map_err(Failure::during(format_args!("removing {}", link.display())))?,
        Err(_) => {}
    }
    symlink(modules, link).map_err(Failure::during(format_args!("linking {}", link.display())))
}
