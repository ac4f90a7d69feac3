//! Gives memory back to the operating system when a storm of connections is over.
//!
//! The allocator returns free memory only while it is being used: after a storm nobody uses it, and what thousands of
//! handshakes took at once would stay resident, 100 to 200 bytes for each connection that they led to.

/// Calls at rest until it is told of once more: until then other threads have let go of what this one allocated, such as
/// the names of scopes, which linger.
const CALLS_UNTIL_AGAIN: u8 = 5;

/// Tells when a count that moved has come to rest.
#[derive(Debug, Default)]
pub(crate) struct IdleDetector {
    last: u64,
    /// Calls since it has moved; nothing once all is told.
    idle_calls: Option<u8>,
}

impl IdleDetector {
    /// To be called about once a second. True after each movement, and once more some seconds later.
    pub(crate) fn is_idle(&mut self, count: u64) -> bool {
        if std::mem::replace(&mut self.last, count) != count {
            self.idle_calls = Some(0);
            return false;
        }
        let Some(idle_calls) = self.idle_calls else { return false };
        self.idle_calls = (idle_calls < CALLS_UNTIL_AGAIN).then_some(idle_calls + 1);
        idle_calls == 0 || idle_calls == CALLS_UNTIL_AGAIN
    }
}

/// Gives back what the calling thread has freed. Takes milliseconds, so it is for moments of rest.
#[cfg(feature = "mimalloc")]
pub(crate) fn release_memory() {
    #[expect(unsafe_code, reason = "a C function that takes a flag and touches nothing of ours")]
    // SAFETY: mi_collect may be called at any time from any thread, whether or not mimalloc is the global allocator.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

/// Other allocators decide for themselves.
#[cfg(not(feature = "mimalloc"))]
pub(crate) fn release_memory() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_after_each_movement_and_once_more() {
        let mut idle_detector = IdleDetector::default();
        let reported = [0, 5, 9, 9, 9, 3].into_iter().map(|count| idle_detector.is_idle(count)).collect::<Vec<_>>();
        assert_eq!(reported, [false, false, false, true, false, false]);
        let reported = [3; 10].into_iter().map(|count| idle_detector.is_idle(count)).collect::<Vec<_>>();
        assert_eq!(reported, [true, false, false, false, false, true, false, false, false, false]);
    }
}
