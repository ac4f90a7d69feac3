//! `cargo xtask test`: runs the lanes in order and prints a table at the end.
//!
//! A lane installs what it needs, runs its checks with their output on the terminal, and passes or fails with one
//! sentence. After a failed lane the next lanes still run, so that one run shows everything that is wrong.

mod autobahn;
mod browser;
mod chaos;
mod client;
mod compose;
mod examples;
mod k8s;
mod observe;
mod rust;
mod tidy;

use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::haproxy;

/// One named part of the tests.
pub(crate) struct Lane {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    run: fn() -> Result<(), Failure>,
}

/// Every lane. Fast lanes that fail often come first.
pub(crate) const LANES: &[Lane] = &[
    Lane {
        name: "tidy",
        about: "cargo fmt, clippy, this repository's rules and those for dependencies",
        run: tidy::run,
    },
    Lane { name: "rust", about: "unit, doc, conformance and cluster tests, also against a real Redis", run: rust::run },
    Lane { name: "autobahn", about: "the WebSocket codec against the Autobahn cases", run: autobahn::run },
    Lane {
        name: "haproxy",
        about: "the shipped HAProxy file in front of three gateways that are frozen, drained and killed",
        run: haproxy::run,
    },
    Lane {
        name: "client",
        about: "the client library: types, tests, bundle size, and the package as it would be published",
        run: client::run,
    },
    Lane {
        name: "browser",
        about: "two pages in Chromium, through HAProxy, while an instance is killed",
        run: browser::run,
    },
    Lane {
        name: "examples",
        about: "the examples of the documents in four languages, while a reply of Redis is lost",
        run: examples::run,
    },
    Lane {
        name: "chaos",
        about: "24 faults in a real cluster, over WebSockets and event streams: nothing is lost without notice",
        run: chaos::run,
    },
    Lane { name: "compose", about: "docker-compose.yml is valid and describes the same cluster", run: compose::run },
    Lane {
        name: "k8s",
        about: "deploy/k8s by schemas and rules, its autoscaler by a model, its scripts with real servers",
        run: k8s::run,
    },
    Lane {
        name: "observe",
        about: "the alerts and dashboards, on series of tests and on a live cluster with faults",
        run: observe::run,
    },
];

/// The lanes that the arguments name, in the order of [`LANES`], or all lanes if the arguments name none.
pub(crate) fn select(args: &[String]) -> Result<Vec<&'static Lane>, Failure> {
    let mut names = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let name = match arg.strip_prefix("--only=") {
            Some(name) => name,
            None if arg == "--only" => args.next().ok_or_else(|| unknown("--only wants the name of a lane"))?,
            None => return Err(unknown(&format!("`test` does not know `{arg}`; it takes --only LANE"))),
        };
        if !LANES.iter().any(|lane| lane.name == name) {
            return Err(unknown(&format!("no lane `{name}`")));
        }
        names.push(name);
    }
    Ok(LANES.iter().filter(|lane| names.is_empty() || names.contains(&lane.name)).collect())
}

fn unknown(what: &str) -> Failure {
    let names: Vec<&str> = LANES.iter().map(|lane| lane.name).collect();
    Failure::new(format!("{what}; the lanes are {}", names.join(", ")))
}

/// Runs the lanes and prints the table. Fails if one of the lanes failed.
pub(crate) fn run(lanes: &[&Lane]) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for lane in lanes {
        println!("\n=== {}: {}", lane.name, lane.about);
        let started = Instant::now();
        let result = (lane.run)();
        if let Err(failure) = &result {
            println!("=== {} failed: {failure}", lane.name);
        }
        rows.push((lane.name, started.elapsed(), result));
    }
    print!("\n{}", table(&rows));
    let failed: Vec<&str> = rows.iter().filter(|(.., result)| result.is_err()).map(|(name, ..)| *name).collect();
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(format!("failed: {}", failed.join(", ")))) }
}

fn table(rows: &[(&str, Duration, Result<(), Failure>)]) -> String {
    let mut text = String::from("lane        result     time\n");
    for (name, took, result) in rows {
        let word = if result.is_ok() { "passed" } else { "FAILED" };
        text += &format!("{name:<10}  {word}  {:>6.1} s", took.as_secs_f64());
        if let Err(failure) = result {
            // The table shows only the first line. The full text was printed when the lane failed.
            text += &format!("  {}", failure.to_string().lines().next().unwrap_or_default());
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(args: &[&str]) -> Result<Vec<&'static str>, String> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        select(&args).map(|lanes| lanes.iter().map(|lane| lane.name).collect()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn no_argument_selects_every_lane() {
        assert_eq!(names(&[]).unwrap().len(), LANES.len());
    }

    #[test]
    fn named_lanes_run_in_the_order_of_the_list() {
        assert_eq!(names(&["--only", "rust", "--only=tidy"]).unwrap(), ["tidy", "rust"]);
    }

    #[test]
    fn an_unknown_lane_is_answered_with_the_lanes() {
        assert_eq!(
            names(&["--only", "unit"]).unwrap_err(),
            "no lane `unit`; the lanes are tidy, rust, autobahn, haproxy, client, browser, examples, chaos, compose, k8s, observe"
        );
        assert!(names(&["--only"]).unwrap_err().starts_with("--only wants the name of a lane"));
        assert!(names(&["rust"]).unwrap_err().starts_with("`test` does not know `rust`"));
    }

    #[test]
    fn the_table_says_what_failed_and_why() {
        let text = table(&[
            ("tidy", Duration::from_millis(1_250), Ok(())),
            ("rust", Duration::from_secs(61), Err(Failure::new("`cargo test` failed (exit status: 101)\nand more"))),
        ]);
        assert_eq!(
            text,
            "lane        result     time\n\
             tidy        passed     1.2 s\n\
             rust        FAILED    61.0 s  `cargo test` failed (exit status: 101)\n"
        );
    }

    #[test]
    fn a_failed_lane_fails_the_run_and_does_not_stop_the_next() {
        use std::sync::atomic::{AtomicBool, Ordering};
        static REACHED: AtomicBool = AtomicBool::new(false);
        fn reach() -> Result<(), Failure> {
            REACHED.store(true, Ordering::Relaxed);
            Ok(())
        }
        let bad = Lane { name: "bad", about: "", run: || Err(Failure::new("broken")) };
        let good = Lane { name: "good", about: "", run: reach };
        assert_eq!(run(&[&bad, &good]).unwrap_err().to_string(), "failed: bad");
        assert!(REACHED.load(Ordering::Relaxed));
    }
}
