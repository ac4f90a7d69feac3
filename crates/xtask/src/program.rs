//! Finds a program on this machine.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Debian installs servers (haproxy) in directories that are not in an ordinary user's PATH.
const SERVER_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The path of `program`, if it is installed on this machine.
pub(crate) fn find(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let program = Path::new(program.as_ref());
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SERVER_DIRS.iter().map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_name_and_by_path() {
        let sh = find("sh").expect("every Unix has sh");
        assert_eq!(find(&sh), Some(sh));
        assert_eq!(find("no-such-program"), None);
        assert_eq!(find("/no/such/program"), None);
    }
}
