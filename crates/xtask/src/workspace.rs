//! Where things are: the repository and its build output.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The repository's root: two levels above this crate.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate lies in crates/xtask")
}

/// Where cargo builds, and where everything that a command makes goes.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The cargo that started us, so that one toolchain does everything.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
