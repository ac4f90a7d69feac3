//! Modules of a crate import in one direction, and the folders of the gateway have levels.
//!
//! A module is a file or folder directly below `src`. In the gateway, a file or folder directly below such a folder is
//! also a module. Every path outside of tests counts as an import: in `use`, in a type, in a call.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Source};

/// The folders of the gateway, the lowest first. A folder imports only from the folders before it.
const LEVELS: [&str; 13] = [
    "host",
    "auth",
    "health",
    "metrics",
    "transport",
    "protocol",
    "config",
    "session",
    "shard",
    "dispatch",
    "http",
    "instance",
    "cli",
];

const GATEWAY: &str = "crates/gateway/src/";

/// The path of a module below `src`, one name for each folder.
type Module = Vec<String>;

/// All imports of one crate: the importing module, the imported module, and one place of the import.
type Imports<'s> = BTreeMap<(Module, Module), (&'s Source, usize)>;

pub(super) fn import_in_one_direction(sources: &[Source]) -> Vec<Finding> {
    let mut crates: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !is_of_tests(source)) {
        if let Some((root, _)) = source.path.split_once("/src/") {
            crates.entry(root).or_default().push(source);
        }
    }
    let mut findings = Vec::new();
    for (root, sources) in crates {
        let imports = imports_of(root, &sources);
        let depths: &[usize] = if root == "crates/gateway" { &[1, 2] } else { &[1] };
        findings.extend(depths.iter().flat_map(|depth| cycles(&imports, *depth)));
        if root == "crates/gateway" {
            findings.extend(levels(&imports));
        }
    }
    findings
}

/// Test code may import what it tests.
fn is_of_tests(source: &Source) -> bool {
    source.is_test() || source.path.starts_with("crates/gateway/src/simulation/")
}

fn levels(imports: &Imports<'_>) -> Vec<Finding> {
    let level = |module: &Module| LEVELS.iter().position(|name| module.first().is_some_and(|first| first == name));
    let mut findings = Vec::new();
    for ((from, to), (source, line)) in imports {
        match (level(from), level(to)) {
            (Some(own), Some(other)) if other > own => {
                findings
                    .push(source.error(*line, format!("`{}` is below `{}` and does not import it", from[0], to[0])));
            }
            (None, _) if from.len() > 1 => {
                let what = format!("`{}` has no level: put it into LEVELS in tidy/modules.rs", from[0]);
                findings.push(source.error(*line, what));
            }
            _ => {}
        }
    }
    findings
}

/// One finding for each module that imports itself through other modules.
fn cycles(imports: &Imports<'_>, depth: usize) -> Vec<Finding> {
    let cut = |module: &Module| module[..depth.min(module.len())].to_vec();
    let mut edges: BTreeMap<Module, BTreeMap<Module, (&Source, usize)>> = BTreeMap::new();
    for ((from, to), (source, line)) in imports {
        let (from, to) = (cut(from), cut(to));
        if !from.is_empty() && !to.is_empty() && !from.starts_with(&to) && !to.starts_with(&from) {
            edges.entry(from).or_default().entry(to).or_insert((source, *line));
        }
    }
    let reached = |start: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
        while let Some(module) = next.pop() {
            for to in edges.get(module).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(to) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let mut findings = Vec::new();
    for (from, to) in &edges {
        for (to, (source, line)) in to {
            if reached(to).contains(from) {
                let what = format!(
                    "`{}` and `{}` import each other, perhaps by way of others",
                    from.join("::"),
                    to.join("::")
                );
                findings.push(source.error(*line, what));
            }
        }
    }
    findings
}

fn imports_of<'s>(root: &str, sources: &[&'s Source]) -> Imports<'s> {
    let module_of = |source: &Source| -> Module {
        let below = source.path[root.len() + "/src/".len()..].trim_end_matches(".rs");
        let parts = below.split('/').filter(|part| !["lib", "main", "mod"].contains(part));
        parts.map(str::to_owned).collect()
    };
    let modules: BTreeSet<Module> = sources.iter().map(|source| module_of(source)).collect();
    let mut imports = Imports::new();
    for source in sources {
        let own = module_of(source);
        for (at, path) in paths(&source.code) {
            let mut path: Vec<&str> = path;
            let mut target: Module = match path.remove(0) {
                "crate" => Vec::new(),
                _ => own[..own.len().saturating_sub(1)].to_vec(),
            };
            while path.first() == Some(&"super") {
                target.pop();
                path.remove(0);
            }
            target.extend(path.into_iter().map(str::to_owned));
            while !target.is_empty() && !modules.contains(&target) {
                target.pop();
            }
            if !target.is_empty() && target != own {
                imports.entry((own.clone(), target)).or_insert((source, source.line_of(at)));
            }
        }
    }
    imports
}

/// The paths that begin with `crate` or `super`, with their offsets. Each part of a brace group is followed separately.
fn paths(code: &str) -> Vec<(usize, Vec<&str>)> {
    let code = code.split("#[cfg(test)]").next().unwrap_or(code);
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            follow(&code[at..], &mut Vec::new(), &mut |path| found.push((at, path.to_vec())));
        }
    }
    found
}

/// Reads one path and returns the text after it.
fn follow<'c>(code: &'c str, prefix: &mut Vec<&'c str>, found: &mut impl FnMut(&[&'c str])) -> &'c str {
    let code = code.trim_start();
    if let Some(mut rest) = code.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            match rest.as_bytes().first() {
                None => return rest,
                Some(b'}') => return &rest[1..],
                Some(b',') => rest = &rest[1..],
                Some(_) => {
                    let behind = follow(rest, prefix, found);
                    // Text that is not a path, for example `as name` or `*`, is skipped.
                    let skip = behind.find([',', '}', '{']).unwrap_or(behind.len());
                    rest = &behind[skip..];
                }
            }
        }
    }
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len());
    let (name, rest) = code.split_at(end);
    if name.is_empty() {
        return rest;
    }
    prefix.push(name);
    let rest = match rest.strip_prefix("::") {
        Some(rest) => follow(rest, prefix, found),
        None => {
            found(prefix);
            rest
        }
    };
    prefix.pop();
    rest
}

/// The gateway has a limited number of folders, so that a newcomer can remember them.
pub(super) fn gateway_has_few_folders(sources: &[Source]) -> Vec<Finding> {
    let entry = |source: &Source| {
        source.path.strip_prefix(GATEWAY).and_then(|below| below.split('/').next()).map(str::to_owned)
    };
    let entries: BTreeSet<String> =
        sources.iter().filter_map(entry).filter(|entry| entry != "lib.rs" && entry != "main.rs").collect();
    match sources.first() {
        Some(first) if entries.len() > 14 => {
            vec![
                first.error(
                    0,
                    format!("{GATEWAY} has {} entries beside lib.rs and main.rs: 14 are enough", entries.len()),
                ),
            ]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(*path, *text)).collect();
        import_in_one_direction(&sources).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn modules_that_import_each_other_are_found_however_the_path_is_written() {
        let one = ("crates/a/src/one.rs", "//! One.\nuse crate::{three, two::{Thing, self}};\n");
        assert!(found(&[one, ("crates/a/src/two.rs", ""), ("crates/a/src/three.rs", "")]).is_empty());
        for back in
            ["use crate::one;", "fn f() { crate::one::g() }", "use super::one::G;", "use crate::{four, one as o};"]
        {
            let two = ("crates/a/src/two.rs", back);
            assert_eq!(found(&[one, two, ("crates/a/src/four.rs", "")]).len(), 2, "{back}");
        }
        let way = [
            one,
            ("crates/a/src/two.rs", ""),
            ("crates/a/src/two/part.rs", "use crate::three;"),
            ("crates/a/src/three.rs", "use crate::one::G;"),
        ];
        assert_eq!(found(&way).len(), 4, "by way of a third, and straight");
        let in_test = ("crates/a/src/two.rs", "#[cfg(test)]\nmod tests { use crate::one; }");
        assert!(found(&[one, in_test]).is_empty());
    }

    #[test]
    fn a_folder_of_the_gateway_imports_from_those_below_it() {
        let shard = ("crates/gateway/src/shard/table.rs", "use crate::host::clock::Now;");
        let clock = ("crates/gateway/src/host/clock.rs", "");
        assert!(found(&[shard, clock]).is_empty());
        let up = [
            ("crates/gateway/src/host/clock.rs", "use crate::shard::table::Shard;"),
            ("crates/gateway/src/shard/table.rs", ""),
        ];
        assert_eq!(found(&up), ["`host` is below `shard` and does not import it"]);
        let unknown = [("crates/gateway/src/attic/box.rs", "use crate::host::clock::Now;"), clock];
        assert_eq!(found(&unknown), ["`attic` has no level: put it into LEVELS in tidy/modules.rs"]);
    }

    #[test]
    fn a_fifteenth_entry_is_too_many() {
        let sources: Vec<Source> = (0..15).map(|n| Source::new(format!("{GATEWAY}room{n}/mod.rs"), "")).collect();
        assert_eq!(gateway_has_few_folders(&sources[..14]), []);
        assert_eq!(gateway_has_few_folders(&sources).len(), 1);
    }
}
