//! Tests whether Redis delivers: a text is sent to the instance itself at every interval, by the same path as a
//! message.
//!
//! A subscriber's socket can be open and silent for ever, and a PING does not show that. The text goes out over the
//! command connection, by a function that is refused wherever a publish would be refused, and comes back on the
//! subscriber. Under load any received message also shows that the subscriber works, and the text may wait behind a
//! burst. After two intervals in a row without both halves the connection pair is dead.

use std::time::Duration;

use tokio::time::Instant;

/// After this many intervals in a row without both halves the connection pair ends.
const MISSED_MAX: u32 = 2;

/// The state of the probe. Pure: it is told the time and what happened.
#[derive(Debug)]
pub(super) struct Probe {
    interval: Duration,
    due: Instant,
    missed: u32,
    /// Whether the function has answered since the last probe was sent.
    answered: bool,
    /// Whether the subscriber has received anything since the last probe was sent.
    received: bool,
}

/// What to do at a tick.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tick {
    /// The next probe is not due.
    Wait,
    /// A probe is to be sent.
    Send,
    /// The connection pair is dead, with the half that was missing.
    Dead(&'static str),
}

impl Probe {
    /// Begins on a connection pair that has just been tested.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, due: now + interval, missed: 0, answered: true, received: true }
    }

    /// When to call [`Self::tick`] next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn answered(&mut self) {
        self.answered = true;
    }

    pub(super) fn received(&mut self) {
        self.received = true;
    }

    pub(super) fn tick(&mut self, now: Instant) -> Tick {
        if now < self.due {
            return Tick::Wait;
        }
        self.missed = if self.answered && self.received { 0 } else { self.missed + 1 };
        if self.missed >= MISSED_MAX {
            let missing = if self.answered { "the subscriber receives nothing" } else { "Redis does not answer" };
            return Tick::Dead(missing);
        }
        // Counted from now and not from `due`: after a pause of this process the answers must get their full time.
        self.due = now + self.interval;
        self.answered = false;
        self.received = false;
        Tick::Send
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    fn probe() -> (Probe, impl FnMut(&mut Probe) -> Tick) {
        let start = Instant::now();
        let mut now = start;
        (Probe::new(INTERVAL, start), move |probe| {
            assert_eq!(probe.tick(now), Tick::Wait);
            now += INTERVAL;
            probe.tick(now)
        })
    }

    #[test]
    fn two_silent_intervals_are_death_and_one_is_not() {
        let (mut probe, mut next) = probe();
        assert_eq!(next(&mut probe), Tick::Send);
        assert_eq!(next(&mut probe), Tick::Send);
        probe.answered();
        probe.received();
        assert_eq!(next(&mut probe), Tick::Send, "a sign of life forgives one miss");
        assert_eq!(next(&mut probe), Tick::Send);
        assert_eq!(next(&mut probe), Tick::Dead("Redis does not answer"));
    }

    #[test]
    fn an_answer_alone_does_not_keep_a_deaf_subscriber() {
        let (mut probe, mut next) = probe();
        assert_eq!(next(&mut probe), Tick::Send);
        probe.answered();
        assert_eq!(next(&mut probe), Tick::Send);
        probe.answered();
        assert_eq!(next(&mut probe), Tick::Dead("the subscriber receives nothing"));
    }

    #[test]
    fn traffic_alone_does_not_hide_a_dead_command_connection() {
        let (mut probe, mut next) = probe();
        assert_eq!(next(&mut probe), Tick::Send);
        probe.received();
        assert_eq!(next(&mut probe), Tick::Send);
        probe.received();
        assert_eq!(next(&mut probe), Tick::Dead("Redis does not answer"));
    }
}
