//! One timing wheel per shard. A timer per connection would cost 112 bytes each, and a heap entry.

/// Wakes each connection at most once a second, at the second it asked for.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// One list of connections per second, the next second at `second % SLOTS`.
    slots: Vec<Vec<u32>>,
    /// Everything up to this second has been woken.
    second: u64,
}

/// Number of seconds in one round of the wheel.
const SLOTS: u64 = 64;

/// The latest wake that may be requested, in milliseconds from now. A connection that is woken too early is not
/// checked. Half a round, so that no wake is lost when the thread was stopped for the other half.
pub(crate) const SPAN_MS: u64 = SLOTS / 2 * 1_000;

impl Wheel {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self { slots: vec![Vec::new(); SLOTS as usize], second: now_ms / 1_000 }
    }

    /// Wakes `slot` in the second after `at_ms`, which is at most [`SPAN_MS`] away.
    pub(crate) fn schedule(&mut self, slot: u32, at_ms: u64) {
        let second = (at_ms / 1_000 + 1).clamp(self.second + 1, self.second + SLOTS - 1);
        self.slots[(second % SLOTS) as usize].push(slot);
    }

    /// Shrinks the lists after many connections have closed.
    pub(crate) fn shrink(&mut self) {
        self.slots.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// Takes all connections whose second has passed.
    pub(crate) fn take_due(&mut self, now_ms: u64, due: &mut Vec<u32>) {
        while self.second < now_ms / 1_000 {
            self.second += 1;
            due.append(&mut self.slots[(self.second % SLOTS) as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(wheel: &mut Wheel, now_ms: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.take_due(now_ms, &mut due);
        due
    }

    #[test]
    fn nobody_is_woken_early_and_nobody_is_forgotten() {
        let mut wheel = Wheel::new(10_500);
        wheel.schedule(1, 10_700);
        wheel.schedule(2, 12_000);
        assert_eq!(due(&mut wheel, 10_999), Vec::<u32>::new());
        assert_eq!(due(&mut wheel, 11_000), [1]);
        assert_eq!(due(&mut wheel, 12_999), Vec::<u32>::new());
        assert_eq!(due(&mut wheel, 13_100), [2]);
        wheel.schedule(3, 13_100 + SPAN_MS);
        assert_eq!(due(&mut wheel, 13_100 + SPAN_MS), Vec::<u32>::new());
        assert_eq!(due(&mut wheel, 14_100 + SPAN_MS), [3]);
    }

    #[test]
    fn a_late_tick_wakes_everybody_it_missed() {
        let mut wheel = Wheel::new(0);
        for slot in 0..50 {
            wheel.schedule(slot, u64::from(slot) * 1_000);
        }
        assert_eq!(due(&mut wheel, 1_000_000).len(), 50);
    }
}
