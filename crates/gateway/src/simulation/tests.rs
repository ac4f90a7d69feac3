//! Runs the simulation for many seeds.

use super::plan::Mutant;
use super::tally::{Fault, Race, Tally};
use super::{Options, run};

/// Number of seeds of the regular test.
const SEEDS: u64 = 120;
/// Each fault must be injected at least this often in them.
const FAULTS_MIN: u64 = 100;
/// Each race must be reached at least this often in them.
const RACES_MIN: u64 = 10;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

#[test]
fn nothing_is_lost_in_silence() {
    let outbox_bytes_max = number("TIDEGATE_SIMULATION_OUTBOX").map(|bytes| bytes as usize);
    let options = Options { mutant: None, outbox_bytes_max };
    if let Some(seed) = number("TIDEGATE_SIMULATION_SEED") {
        let (tally, anomaly, log) = run(seed, options, true);
        log.iter().for_each(|line| println!("{line}"));
        println!("{tally}");
        return assert_eq!(anomaly, None);
    }
    let seeds = number("TIDEGATE_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let mut tally = Tally::default();
    let mut failed = Vec::new();
    for seed in 1..=seeds {
        let (met, anomaly, _) = run(seed, options, false);
        tally.add(&met);
        failed.extend(anomaly.map(|anomaly| format!("seed {seed}: {anomaly}")));
    }
    println!("{seeds} seeds\n{tally}");
    let again = "run one alone: TIDEGATE_SIMULATION_SEED=… cargo test -p tidegate-gateway --lib simulation";
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds failed; {again}\n{}",
        failed.len(),
        failed[..failed.len().min(12)].join("\n")
    );
    if seeds >= SEEDS {
        let rare: Vec<_> = Fault::ALL.iter().filter(|fault| tally.faults(**fault) < FAULTS_MIN).collect();
        assert!(rare.is_empty(), "injected too rarely: {rare:?}");
        let rare: Vec<_> = Race::ALL.iter().filter(|race| tally.races(**race) < RACES_MIN).collect();
        assert!(rare.is_empty(), "reached too rarely: {rare:?}");
        assert!(tally.known_losses > 0, "no client got a gap from a recorded loss");
    }
}

/// A check that finds nothing proves nothing: each planted bug is found by one of the first seeds.
#[test]
fn planted_mistakes_are_found() {
    for mutant in Mutant::ALL {
        let options = Options { mutant: Some(mutant), outbox_bytes_max: None };
        let found = (1..=SEEDS).find_map(|seed| run(seed, options, false).1.map(|anomaly| (seed, anomaly)));
        let (seed, anomaly) = found.unwrap_or_else(|| panic!("{mutant:?} is not found in {SEEDS} seeds"));
        println!("{mutant:?} is found by seed {seed}: {anomaly}");
    }
}
