//! The reading pace of a client: at once, or a few frames between long pauses. It sends signs of life in a pause.

use std::time::Duration;

use test_support::Random;
use tokio::time::Instant;

/// How long a slow client reads nothing. More messages arrive in this time than its outbox can hold.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5_000), Duration::from_millis(7_000));
/// The most frames that a slow client reads between two pauses.
const FRAMES_MAX: usize = 200;
/// More often than a gateway requires a sign of life.
const WORD_EVERY: Duration = Duration::from_millis(400);

#[derive(Debug)]
pub(super) struct Pace {
    is_slow: bool,
    /// Number of frames until the next pause.
    left: usize,
    /// The end of this pause, and the time of the next sign of life.
    pause: Option<(Instant, Instant)>,
}

impl Pace {
    pub(super) fn new(is_slow: bool) -> Self {
        Self { is_slow, left: FRAMES_MAX, pause: None }
    }

    /// The client has read a frame.
    pub(super) fn has_read(&mut self, is_calm: bool, random: &mut Random) {
        self.left = self.left.saturating_sub(1);
        if self.is_slow && self.left == 0 && !is_calm {
            let now = Instant::now();
            self.pause = Some((now + random.between(PAUSE.0, PAUSE.1), now + WORD_EVERY));
            self.left = 1 + random.below(FRAMES_MAX);
        }
    }

    /// The time of the next sign of life, in a pause.
    pub(super) fn speaks_at(&self) -> Option<Instant> {
        self.pause.map(|(_, next)| next)
    }

    /// The client has sent a sign of life. The pause continues or ends.
    pub(super) fn has_spoken(&mut self, is_calm: bool) {
        let now = Instant::now();
        self.pause = self.pause.filter(|(end, _)| !is_calm && now < *end).map(|(end, _)| (end, now + WORD_EVERY));
    }
}
