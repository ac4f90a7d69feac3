//! Returns memory to the operating system after a storm of connections.
//!
//! The allocator returns free memory only while it is used. After a storm of connections it is idle, and the memory
//! of thousands of simultaneous handshakes would stay resident: 100 to 200 bytes per connection.

/// Number of idle calls until `is_idle` is true once more. By then other threads have freed memory that this thread
/// allocated, such as the names of scopes, which are kept for a while.
const CALLS_UNTIL_AGAIN: u8 = 5;

/// Detects when a count that changed stays the same.
#[derive(Debug, Default)]
pub(crate) struct IdleDetector {
    last: u64,
    /// Idle calls since the last change. `None` before the first change, and after both reports.
    idle_calls: Option<u8>,
}

impl IdleDetector {
    /// Must be called about once a second. Returns true after each change, when the count stays the same, and once
    /// more some seconds later.
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

/// Returns the memory that the calling thread has freed to the operating system. Takes milliseconds, so call it only
/// in idle moments.
#[cfg(feature = "mimalloc")]
pub(crate) fn release_memory() {
    #[expect(unsafe_code, reason = "a C function that takes a flag and touches nothing of ours")]
    // SAFETY: mi_collect may be called at any time from any thread, whether or not mimalloc is the global allocator.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

/// Other allocators decide for themselves when they return memory.
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
