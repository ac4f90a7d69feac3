//! How fast a client reads: at once, or a few frames at a time with long pauses, in which it still says that it is there.

use std::time::Duration;

use test_support::Random;
use tokio::time::Instant;

/// For so long a slow client reads nothing. More comes meanwhile than may wait for it.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5_000), Duration::from_millis(7_000));
/// It reads at most so many frames between two pauses.
const FRAMES_MAX: usize = 200;
/// More often than a gateway waits for a word from it.
const WORD_EVERY: Duration = Duration::from_millis(400);

#[derive(Debug)]
pub(super) struct Pace {
    is_slow: bool,
    /// Frames until the next pause.
    left: usize,
    /// The end of this pause, and when to say something next.
    pause: Option<(Instant, Instant)>,
}

impl Pace {
    pub(super) fn new(is_slow: bool) -> Self {
        Self { is_slow, left: FRAMES_MAX, pause: None }
    }

    /// It has read a frame.
    pub(super) fn has_read(&mut self, is_calm: bool, random: &mut Random) {
        self.left = self.left.saturating_sub(1);
        if self.is_slow && self.left == 0 && !is_calm {
            let now = Instant::now();
            self.pause = Some((now + random.between(PAUSE.0, PAUSE.1), now + WORD_EVERY));
            self.left = 1 + random.below(FRAMES_MAX);
        }
    }

    /// While it reads nothing: when it is to say something.
    pub(super) fn speaks_at(&self) -> Option<Instant> {
        self.pause.map(|(_, next)| next)
    }

    /// It has said something: the pause goes on, or is over.
    pub(super) fn has_spoken(&mut self, is_calm: bool) {
        let now = Instant::now();
        self.pause = self.pause.filter(|(end, _)| !is_calm && now < *end).map(|(end, _)| (end, now + WORD_EVERY));
    }
}
