//! Random numbers that are repeatable by a seed.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014). It is a few lines long, and every seed is good.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A separate generator for a task.
    pub fn fork(&mut self) -> Self {
        Self::new(self.number())
    }

    /// A random number of 64 bits.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound` - 1, of any integer type. It is 0 if there is none below `bound`.
    pub fn below<N: TryFrom<u64>>(&mut self, bound: N) -> N
    where
        u64: TryFrom<N>,
    {
        let bound = u64::try_from(bound).unwrap_or(0).max(1);
        N::try_from(self.number() % bound).ok().expect("a number below one of this type")
    }

    /// Returns true once in `bound` times, on average.
    pub fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.number() as u8).collect()
    }

    /// A time from `from` up to `to`, in whole microseconds.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        from + Duration::from_micros(self.below(u64::try_from((to - from).as_micros()).unwrap_or(u64::MAX)))
    }
}
