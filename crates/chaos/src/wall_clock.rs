//! A wall clock of one process' own, by libfaketime: it jumps, and the monotonic clock goes on.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

#[derive(Debug)]
pub(crate) struct WallClock {
    /// The offset that the process reads from time to time.
    file: PathBuf,
}

impl WallClock {
    pub(crate) fn new(file: PathBuf) -> Result<Self, Failure> {
        let clock = Self { file };
        clock.set(0)?;
        Ok(clock)
    }

    /// So many hours from the true time.
    pub(crate) fn set(&self, hours: i64) -> Result<(), Failure> {
        // In one step: the process may be reading.
        let new = self.file.with_extension("new");
        let failed = || Failure::io(self.file.display().to_string());
        fs::write(&new, format!("{hours:+}h\n")).map_err(failed())?;
        fs::rename(&new, &self.file).map_err(failed())
    }

    /// What stands before a program's name, so that it has this clock.
    pub(crate) fn prefix(&self) -> Result<Vec<String>, Failure> {
        let library = library()?;
        // Redis' own allocator asks for the time while libfaketime begins, which cannot answer yet: libc's does not.
        let libc = library.parent().and_then(Path::parent).map(|dir| dir.join("libc.so.6")).unwrap_or_default();
        Ok(vec![
            "env".into(),
            format!("LD_PRELOAD={}:{}", library.display(), libc.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file.display()),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
            // Seconds until it reads again.
            "FAKETIME_CACHE_DURATION=1".into(),
        ])
    }
}

/// Where Debian keeps it: `/usr/lib/ARCHITECTURE/faketime`.
fn library() -> Result<PathBuf, Failure> {
    let directories = fs::read_dir("/usr/lib").map_err(Failure::io("/usr/lib"))?.flatten();
    let mut files = directories.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    files.find(|file| file.is_file()).ok_or_else(|| Failure::Process("please install libfaketime".into()))
}
