//! A file for a test.

use std::path::PathBuf;

/// A file that is gone when the test ends.
pub(crate) struct TempFile(pub(crate) PathBuf);

impl TempFile {
    /// `name` is one that no other test uses.
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-config-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("the temporary directory takes files");
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
