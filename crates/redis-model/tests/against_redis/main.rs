//! The model and real Redis servers get the same commands. Every answer, and every message of a subscriber, must be
//! equal.

mod pair;
mod server;
mod trace;

use trace::{Met, run};

/// One run is a few hundred commands. Replication and restarts take most of its time.
const SEEDS: u64 = 6;
const STEPS_PER_SEED: usize = 330;

#[test]
fn the_model_answers_what_redis_answers() {
    let mut met = Met::default();
    for seed in 1..=SEEDS {
        let run = std::panic::AssertUnwindSafe(|| run(seed, STEPS_PER_SEED, &mut met));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("the seed is {seed}");
            std::panic::resume_unwind(panic);
        }
    }
    // A trace that covers little proves little.
    let Met { stored, known, entries, refused, received, generations, .. } = met;
    let Met { marked, torn, promoted, copied, restarted, trimmed, trimmed_exactly, expired, .. } = met;
    let met = [
        [stored, known, entries, refused, received, generations].as_slice(),
        &[marked, torn, promoted, copied, restarted, trimmed, trimmed_exactly, expired],
    ]
    .concat();
    assert!(met.iter().all(|count| *count >= SEEDS), "{met:?}");
}
