//! One timing wheel per shard. A timer per connection would cost 112 bytes each, and a heap entry.

/// Wakes each connection at the first tick at or after the time that it asked for. Its thread ticks at whole multiples of
/// the grain.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// One list of connections per tick, the next tick at `tick % SLOTS`.
    slots: Vec<Vec<u32>>,
    /// Everything up to this tick has been woken.
    tick: u64,
    /// Time between two ticks, in milliseconds.
    grain_ms: u64,
}

/// Number of ticks in one round of the wheel.
const SLOTS: u64 = 256;

/// The latest wake that may be requested, in milliseconds from now. A connection that is woken too early is not
/// checked. Half a round, so that no wake is lost when the thread was stopped for the other half.
pub(crate) const fn span_ms(grain_ms: u64) -> u64 {
    SLOTS / 2 * grain_ms
}

impl Wheel {
    pub(crate) fn new(now_ms: u64, grain_ms: u64) -> Self {
        Self { slots: vec![Vec::new(); SLOTS as usize], tick: now_ms / grain_ms, grain_ms }
    }

    /// Wakes `slot` at the first tick at or after `at_ms`, which is at most [`span_ms`] away.
    pub(crate) fn schedule(&mut self, slot: u32, at_ms: u64) {
        let tick = at_ms.div_ceil(self.grain_ms).clamp(self.tick + 1, self.tick + SLOTS - 1);
        self.slots[(tick % SLOTS) as usize].push(slot);
    }

    /// Shrinks the lists after many connections have closed.
    pub(crate) fn shrink(&mut self) {
        self.slots.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// Takes all connections whose tick has come.
    pub(crate) fn take_due(&mut self, now_ms: u64, due: &mut Vec<u32>) {
        while self.tick < now_ms / self.grain_ms {
            self.tick += 1;
            due.append(&mut self.slots[(self.tick % SLOTS) as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAIN_MS: u64 = 250;

    fn due(wheel: &mut Wheel, now_ms: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.take_due(now_ms, &mut due);
        due
    }

    #[test]
    fn nobody_is_woken_early_and_nobody_is_forgotten() {
        let mut wheel = Wheel::new(10_500, GRAIN_MS);
        wheel.schedule(1, 10_700);
        wheel.schedule(2, 12_000);
        wheel.schedule(3, 9_000);
        assert_eq!(due(&mut wheel, 10_749), Vec::<u32>::new());
        assert_eq!(due(&mut wheel, 10_750), [1, 3]);
        assert_eq!(due(&mut wheel, 11_999), Vec::<u32>::new());
        assert_eq!(due(&mut wheel, 12_000), [2], "at its time, if a tick is due then");
        let span_ms = span_ms(GRAIN_MS);
        wheel.schedule(3, 12_000 + span_ms);
        assert_eq!(due(&mut wheel, 11_999 + span_ms), Vec::<u32>::new());
        assert_eq!(due(&mut wheel, 12_000 + span_ms), [3]);
    }

    #[test]
    fn a_late_tick_wakes_everybody_it_missed() {
        let mut wheel = Wheel::new(0, GRAIN_MS);
        for slot in 0..50 {
            wheel.schedule(slot, u64::from(slot) * 1_000);
        }
        assert_eq!(due(&mut wheel, 1_000_000).len(), 50);
    }
}
