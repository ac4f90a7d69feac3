//! A separate wall clock for one process, by libfaketime. It jumps, while the monotonic clock is correct.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

#[derive(Debug)]
pub(crate) struct WallClock {
    /// The file with the offset. The process reads it from time to time.
    file: PathBuf,
}

impl WallClock {
    pub(crate) fn new(file: PathBuf) -> Result<Self, Failure> {
        let clock = Self { file };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets the clock to this many hours from the true time.
    pub(crate) fn set(&self, hours: i64) -> Result<(), Failure> {
        // The file is replaced in one step, because the process may be reading it.
        let new = self.file.with_extension("new");
        let failed = || Failure::io(self.file.display().to_string());
        fs::write(&new, format!("{hours:+}h\n")).map_err(failed())?;
        fs::rename(&new, &self.file).map_err(failed())
    }

    /// The words before a program's name that give it this clock.
    pub(crate) fn prefix(&self) -> Result<Vec<String>, Failure> {
        let library = library()?;
        // Redis' own allocator asks for the time while libfaketime starts and cannot answer. The allocator of libc does
        // not.
        let libc = library.parent().and_then(Path::parent).map(|dir| dir.join("libc.so.6")).unwrap_or_default();
        Ok(vec![
            "env".into(),
            format!("LD_PRELOAD={}:{}", library.display(), libc.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file.display()),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
            // Number of seconds until libfaketime reads the file again.
            "FAKETIME_CACHE_DURATION=1".into(),
        ])
    }
}

/// The path in Debian: `/usr/lib/ARCHITECTURE/faketime`.
fn library() -> Result<PathBuf, Failure> {
    let directories = fs::read_dir("/usr/lib").map_err(Failure::io("/usr/lib"))?.flatten();
    let mut files = directories.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    files.find(|file| file.is_file()).ok_or_else(|| Failure::Process("please install libfaketime".into()))
}
