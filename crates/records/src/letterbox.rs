//! Where threads leave dead letters. Bounded, and nobody waits at it: what does not fit is counted and let go of.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::letter::{Body, Letter};

/// What may wait while the store is away. The oldest stay: they say how it began.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// So many marks are remembered, so that a stored poison message is not brought again by every client that resumes.
const MARKS_MAX: usize = 1_024;

/// How a [`Letterbox`] cuts what it takes.
#[derive(Debug, Clone, Copy)]
pub struct LetterboxConfig {
    /// Longer messages are not kept, only told of.
    pub message_bytes_max: usize,
}

/// Takes letters from any thread.
#[derive(Debug)]
pub struct Letterbox {
    config: LetterboxConfig,
    queue: Mutex<Queue>,
    filled: Notify,
    counts: LetterCounts,
}

/// What became of letters, for metrics.
#[derive(Debug, Default)]
pub struct LetterCounts {
    /// Kept in the store by this instance.
    pub kept: AtomicU64,
    /// Kept before, by another instance or by this one.
    pub known: AtomicU64,
    /// Lost: too many waited, or the store will not have them.
    pub dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    letters: VecDeque<Letter>,
    bytes: usize,
    /// Marks of the last letters taken, oldest first.
    recent: VecDeque<Box<str>>,
    marks: HashSet<Box<str>>,
}

impl Letterbox {
    /// An empty one.
    #[must_use]
    pub fn new(config: LetterboxConfig) -> Self {
        Self { config, queue: Mutex::default(), filled: Notify::new(), counts: LetterCounts::default() }
    }

    /// What became of letters.
    #[must_use]
    pub fn counts(&self) -> &LetterCounts {
        &self.counts
    }

    /// Whether a letter with this mark was left here lately: to make another would be waste.
    #[must_use]
    pub fn knows(&self, mark: &str) -> bool {
        self.lock().marks.contains(mark)
    }

    /// What a letter keeps of this message. A copy: a slice would hold on to the whole packet it came in.
    #[must_use]
    pub fn body(&self, message: &[u8]) -> Body {
        match message.len() > self.config.message_bytes_max {
            true => Body::TooBig,
            false => Body::Message(Bytes::copy_from_slice(message)),
        }
    }

    /// Leaves a letter here. Whether it will be written; if not, it is written already, or too many wait.
    pub fn post(&self, letter: Letter) -> bool {
        let bytes = letter.bytes();
        let mut queue = self.lock();
        if queue.marks.contains(&letter.mark) {
            return false;
        }
        if queue.bytes + bytes > WAITING_BYTES_MAX {
            drop(queue);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if queue.recent.len() == MARKS_MAX
            && let Some(oldest) = queue.recent.pop_front()
        {
            queue.marks.remove(&oldest);
        }
        queue.recent.push_back(letter.mark.clone());
        queue.marks.insert(letter.mark.clone());
        queue.bytes += bytes;
        queue.letters.push_back(letter);
        drop(queue);
        self.filled.notify_one();
        true
    }

    /// The oldest letter, which stays until [`Self::take`].
    pub(crate) fn oldest(&self) -> Option<Letter> {
        self.lock().letters.front().cloned()
    }

    /// Waits until there is a letter. Dropping the future loses nothing. For one reader.
    pub(crate) async fn next(&self) -> Letter {
        loop {
            if let Some(letter) = self.oldest() {
                return letter;
            }
            self.filled.notified().await;
        }
    }

    /// The oldest letter, which is dealt with.
    pub fn take(&self) -> Option<Letter> {
        let mut queue = self.lock();
        let letter = queue.letters.pop_front()?;
        queue.bytes -= letter.bytes();
        Some(letter)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing between lock and unlock panics.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
