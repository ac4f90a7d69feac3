//! Random numbers for incarnations and for the first pause: random enough for uniqueness and jitter.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::instance::Incarnation;

/// An incarnation that starts now.
pub(super) fn new_incarnation() -> Incarnation {
    // With a clock before 1970 or after 2106 the upper half is wrong, and the incarnation is still unique.
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    Incarnation::new(u32::try_from(seconds).unwrap_or(u32::MAX), random() as u32)
}

/// A random part of a duration.
pub(super) fn part_of(duration: Duration) -> Duration {
    duration.mul_f64(random() as f64 / u64::MAX as f64)
}

/// The keys that hash maps draw from the operating system.
fn random() -> u64 {
    RandomState::new().hash_one(())
}
