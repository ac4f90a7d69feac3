//! Reads every Rust file of the repository.

use std::fs;
use std::path::Path;

use super::Source;
use crate::failure::Failure;

/// Reads every `.rs` file below `root`, in the order of the paths. Skips directories that are built, fetched or hidden.
pub(super) fn rust_files(root: &Path) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        let reading = || format!("reading {}", dir.display());
        for entry in fs::read_dir(&dir).map_err(Failure::during(reading()))? {
            let entry = entry.map_err(Failure::during(reading()))?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if name.starts_with('.') || name == "target" || name == "node_modules" {
                continue;
            }
            if entry.file_type().map_err(Failure::during(reading()))?.is_dir() {
                waiting.push(path);
            } else if name.ends_with(".rs") {
                let text =
                    fs::read_to_string(&path).map_err(Failure::during(format_args!("reading {}", path.display())))?;
                let relative = path.strip_prefix(root).expect("the walk began at the root");
                sources.push(Source::new(relative.to_string_lossy(), text));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}
