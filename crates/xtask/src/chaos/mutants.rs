//! The kill table: the product with one planted bug at a time, and the anomaly that each bug must cause.
//!
//! A harness that finds nothing proves nothing until it has found a planted bug. The sources of the product are not
//! changed: each bug is a text substitution in a copy of the workspace below `target/mutants`, which has its own build.

mod fleet;
mod haproxy;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use super::Programs;
use crate::failure::Failure;
use crate::package;
use crate::step::Step;
use crate::workspace;
use table::Mutant;

/// Number of runs for a bug that does not show in every run.
const RUNS: &str = "5";

/// The harness that injects the fault and shows the bug.
#[derive(Clone, Copy)]
enum Harness {
    Faults,
    Fleet,
    Haproxy,
}

fn mutants() -> impl Iterator<Item = (Harness, &'static Mutant)> {
    let of_faults = table::MUTANTS.iter().map(|mutant| (Harness::Faults, mutant));
    let of_fleet = fleet::MUTANTS.iter().map(|mutant| (Harness::Fleet, mutant));
    of_faults.chain(of_fleet).chain(haproxy::MUTANTS.iter().map(|mutant| (Harness::Haproxy, mutant)))
}

/// Builds and tests every mutant, or only the mutants whose names contain one of `wanted`.
pub(super) fn run(programs: &Programs, wanted: &[&String]) -> Result<(), Failure> {
    let chosen = |mutant: &Mutant| wanted.is_empty() || wanted.iter().any(|word| mutant.name.contains(word.as_str()));
    let mut rows = Vec::new();
    for (harness, mutant) in mutants().filter(|(_, mutant)| chosen(mutant)) {
        println!("\n=== {}", mutant.name);
        let result = try_one(programs, harness, mutant);
        if let Err(failure) = &result {
            println!("=== {failure}");
        }
        rows.push((mutant, result));
    }
    println!("\nplanted bug                                    fault              result     as");
    for (mutant, result) in &rows {
        let word = if result.is_ok() { "caught" } else { "NOT CAUGHT" };
        println!("{:<46} {:<18} {word:<10} {}", mutant.name, mutant.fault, mutant.kinds.join(", "));
    }
    match rows.iter().filter(|(_, result)| result.is_err()).count() {
        0 if rows.is_empty() => Err(Failure::new("no planted bug has such a name")),
        0 => Ok(()),
        missed => Err(Failure::new(format!("{missed} of {} planted bugs were not caught", rows.len()))),
    }
}

fn try_one(programs: &Programs, harness: Harness, mutant: &Mutant) -> Result<(), Failure> {
    let copy = workspace::target().join("mutants/source");
    let build = workspace::target().join("mutants/build");
    copy_sources(&copy)?;
    mutant.plant(&copy)?;
    Step::cargo(&["build", "--package", "tidegate-gateway"]).dir(&copy).env("CARGO_TARGET_DIR", &build).run()?;
    let mutated = Programs {
        gateway: build.join("debug/tidegate"),
        chaos: programs.chaos.clone(),
        checker: programs.checker.clone(),
    };
    let expected = mutant.kinds.iter().flat_map(|kind| ["--expect", kind]);
    let run = match harness {
        Harness::Faults => mutated.run().args(["--runs", RUNS, "--fault"]).args(mutant.fault.split(' ')),
        Harness::Fleet => mutated.fleet().args(["--length", "short", "--trial", mutant.fault]),
        Harness::Haproxy => return try_behind_haproxy(&mutated.gateway, mutant),
    };
    run.args(expected).run()
}

/// The failure text of the guarantee must name the kind of the bug. Any other failure has a different cause.
fn try_behind_haproxy(gateway: &Path, mutant: &Mutant) -> Result<(), Failure> {
    package::ensure(&[package::HAPROXY])?;
    match crate::haproxy::try_guarantee(gateway, mutant.fault) {
        Ok(()) => Err(Failure::new(format!("{} has passed", mutant.fault))),
        Err(failure) => {
            println!("{failure}");
            let said = failure.to_string();
            let is_expected = mutant.kinds.iter().any(|kind| said.contains(&format!(": {kind}: ")));
            if is_expected { Ok(()) } else { Err(Failure::new(format!("not as expected: {said}"))) }
        }
    }
}

/// Copies the files that git lists, if their content differs. Unchanged files keep their modification times, so that
/// cargo rebuilds little.
fn copy_sources(to: &Path) -> Result<(), Failure> {
    let listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let names = Step::new("git").args(listed).answer()?;
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let (source, target) = (workspace::root().join(name), to.join(name));
        // Git lists this file, but it is deleted.
        let Ok(bytes) = fs::read(&source) else { continue };
        if fs::read(&target).is_ok_and(|old| old == bytes) {
            continue;
        }
        let directory = target.parent().map_or_else(PathBuf::new, Path::to_owned);
        fs::create_dir_all(&directory).map_err(Failure::during(format_args!("making {}", directory.display())))?;
        fs::write(&target, bytes).map_err(Failure::during(format_args!("writing {}", target.display())))?;
    }
    Ok(())
}

impl Mutant {
    /// Applies the text substitutions below `root`.
    fn plant(&self, root: &Path) -> Result<(), Failure> {
        for edit in self.edits {
            let path = root.join(edit.file);
            let text = fs::read_to_string(&path).map_err(Failure::during(path.display()))?;
            if text.matches(edit.old).count() != 1 {
                return Err(Failure::new(format!("{}: the text to be changed stands there not once", edit.file)));
            }
            fs::write(&path, text.replacen(edit.old, edit.new, 1)).map_err(Failure::during(path.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without this test, an outdated entry of the table would be noticed only in a run of the mutants.
    #[test]
    fn every_planted_text_stands_in_the_sources_once() {
        for (_, mutant) in mutants() {
            for edit in mutant.edits {
                let path = workspace::root().join(edit.file);
                let text = fs::read_to_string(&path).unwrap_or_default();
                assert_eq!(text.matches(edit.old).count(), 1, "{}: {}: {}", mutant.name, edit.file, edit.old);
                assert_ne!(edit.old, edit.new, "{}", mutant.name);
            }
        }
    }
}
