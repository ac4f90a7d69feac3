//! The paths of the repository and of its build output.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The repository's root: two levels above this crate.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate lies in crates/xtask")
}

/// The directory for everything that cargo builds and that a command writes.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The cargo that started this program, so that all steps use one toolchain.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
