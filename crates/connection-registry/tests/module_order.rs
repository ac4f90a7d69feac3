//! Modules of this crate import in one direction: as `lib.rs` lists them.

use std::fs;
use std::path::{Path, PathBuf};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// Product files below a directory.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name == "tests" || name == "random" {
            continue;
        }
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// Top-level modules that a file imports, its tests left out. A top-level module reaches them by `super` too.
fn imports(text: &str, is_top: bool) -> Vec<String> {
    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let code = product.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let name = |rest: &str| rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap().to_owned();
    let root = if is_top { "super::" } else { "crate::" };
    let paths = code.split("crate::").skip(1).chain(code.split(root).skip(1));
    paths.map(name).filter(|name| !name.is_empty()).collect()
}

#[test]
fn no_module_imports_one_that_is_listed_above_it() {
    let library = fs::read_to_string(format!("{SOURCES}/lib.rs")).unwrap();
    let listed = library.split("# Dependency order").nth(1).unwrap().split("This crate").next().unwrap();
    let order: Vec<&str> = listed.split('`').skip(1).step_by(2).collect();
    let declared = library.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let declared: Vec<&str> = declared.filter(|name| *name != "random").collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, declared, "`lib.rs` lists its modules");

    let place =
        |name: &str| order.iter().position(|listed| *listed == name).unwrap_or_else(|| panic!("{name}: unknown"));
    let mut found = Vec::new();
    files(Path::new(SOURCES), &mut found);
    for path in found.iter().filter(|path| !path.ends_with("lib.rs")) {
        let relative = path.strip_prefix(SOURCES).unwrap();
        let top = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = place(top.strip_suffix(".rs").unwrap_or(top));
        let is_top = relative.components().count() == 1;
        for imported in imports(&fs::read_to_string(path).unwrap(), is_top) {
            assert!(place(&imported) >= module, "{} imports {imported}, which is listed above it", relative.display());
        }
    }
}
