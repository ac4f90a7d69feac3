//! `history-checker LOG` judges one log. The verdict goes to standard output, and the exit code summarises it.
//!
//! 0: clean. 1: anomalies. 2: the log proves nothing, because it cannot be read or is not complete.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::process::ExitCode;

use history_checker::{Checker, Verdict};

const USAGE: &str = "Usage: history-checker [--json] LOG";

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let as_json = args.first().is_some_and(|arg| arg == "--json");
    if as_json {
        args.remove(0);
    }
    let [path] = args.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    match judge(path) {
        Ok(verdict) => write_report(&verdict, as_json),
        Err(error) => {
            eprintln!("history-checker: {path}: {error}");
            ExitCode::from(2)
        }
    }
}

fn judge(path: &str) -> io::Result<Verdict> {
    let mut checker = Checker::new();
    for line in BufReader::new(File::open(path)?).lines() {
        checker.feed_line(&line?);
    }
    Ok(checker.conclude())
}

fn write_report(verdict: &Verdict, as_json: bool) -> ExitCode {
    if as_json {
        println!("{}", serde_json::to_string(verdict).expect("a verdict is texts and numbers"));
    } else {
        print!("{verdict}");
    }
    match verdict {
        _ if !verdict.incomplete.is_empty() => ExitCode::from(2),
        _ if verdict.is_clean() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
