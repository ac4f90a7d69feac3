//! Gives memory back to the operating system when a storm of connections is over.
//!
//! The allocator returns free memory only while it is being used: after a storm nobody uses it, and what thousands of
//! handshakes took at once would stay resident, 100 to 200 bytes for each connection that they led to.

/// Tells when a count that moved has come to rest.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    last: u64,
    is_moving: bool,
}

impl Rest {
    /// To be called about once a second. True once after each movement.
    pub(crate) fn comes(&mut self, count: u64) -> bool {
        let moves = std::mem::replace(&mut self.last, count) != count;
        let was_moving = std::mem::replace(&mut self.is_moving, moves);
        was_moving && !moves
    }
}

/// Gives back what the calling thread has freed. Takes milliseconds, so it is for moments of rest.
#[cfg(feature = "mimalloc")]
pub(crate) fn give_back() {
    #[expect(unsafe_code, reason = "a C function that takes a flag and touches nothing of ours")]
    // SAFETY: mi_collect may be called at any time from any thread, whether or not mimalloc is the global allocator.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

/// Other allocators decide for themselves.
#[cfg(not(feature = "mimalloc"))]
pub(crate) fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_comes_once_after_each_movement() {
        let mut rest = Rest::default();
        let told: Vec<bool> = [0, 5, 9, 9, 9, 3, 3, 3].into_iter().map(|count| rest.comes(count)).collect();
        assert_eq!(told, [false, false, false, true, false, false, true, false]);
    }
}
