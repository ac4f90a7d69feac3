//! A random sequence that is determined by a seed. A run depends on nothing else.

/// The generator xorshift64* by Marsaglia.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // Neighbouring seeds would give neighbouring first values, and a zero would give only zeros.
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        random.below(2);
        random
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Returns a number from 0 to `bound - 1`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 33) % bound
    }

    pub(super) fn within(&mut self, from: u64, below: u64) -> u64 {
        from + self.below(below - from)
    }

    /// Returns true once in `bound` times.
    pub(super) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a length")
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }
}
