//! Where threads leave dead letters. Bounded, and nobody waits at it: what does not fit is counted and let go of.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::dead_letter::{Body, DeadLetter};

/// What may wait while the store is away. The oldest stay: they say how it began.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// So many marks are remembered, so that a stored poison message is not brought again by every client that resumes.
const DEDUP_KEYS_MAX: usize = 1_024;

/// How a [`DeadLetterQueue`] cuts what it takes.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetterQueueConfig {
    /// Longer messages are not kept, only told of.
    pub message_bytes_max: usize,
}

/// Takes dead letters from any thread.
#[derive(Debug)]
pub struct DeadLetterQueue {
    config: DeadLetterQueueConfig,
    queue: Mutex<WaitingDeadLetters>,
    filled: Notify,
    counts: DeadLetterCounts,
}

/// What became of dead letters, for metrics.
#[derive(Debug, Default)]
pub struct DeadLetterCounts {
    /// Kept in the store by this instance.
    pub kept: AtomicU64,
    /// Kept before, by another instance or by this one.
    pub known: AtomicU64,
    /// Lost: too many waited, or the store will not have them.
    pub dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct WaitingDeadLetters {
    dead_letters: VecDeque<DeadLetter>,
    bytes: usize,
    /// Marks of the last letters taken, oldest first.
    recent: VecDeque<Box<str>>,
    dedup_keys: HashSet<Box<str>>,
}

impl DeadLetterQueue {
    /// An empty one.
    #[must_use]
    pub fn new(config: DeadLetterQueueConfig) -> Self {
        Self { config, queue: Mutex::default(), filled: Notify::new(), counts: DeadLetterCounts::default() }
    }

    /// What became of dead letters.
    #[must_use]
    pub fn counts(&self) -> &DeadLetterCounts {
        &self.counts
    }

    /// Whether a dead letter with this mark was left here lately: to make another would be waste.
    #[must_use]
    pub fn knows(&self, dedup_key: &str) -> bool {
        self.lock().dedup_keys.contains(dedup_key)
    }

    /// What a dead letter keeps of this message. A copy: a slice would hold on to the whole packet it came in.
    #[must_use]
    pub fn body(&self, message: &[u8]) -> Body {
        match message.len() > self.config.message_bytes_max {
            true => Body::TooBig,
            false => Body::Message(Bytes::copy_from_slice(message)),
        }
    }

    /// Leaves a dead letter here. Whether it will be written; if not, it is written already, or too many wait.
    pub fn post(&self, dead_letter: DeadLetter) -> bool {
        let bytes = dead_letter.bytes();
        let mut queue = self.lock();
        if queue.dedup_keys.contains(&dead_letter.dedup_key) {
            return false;
        }
        if queue.bytes + bytes > WAITING_BYTES_MAX {
            drop(queue);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if queue.recent.len() == DEDUP_KEYS_MAX
            && let Some(oldest) = queue.recent.pop_front()
        {
            queue.dedup_keys.remove(&oldest);
        }
        queue.recent.push_back(dead_letter.dedup_key.clone());
        queue.dedup_keys.insert(dead_letter.dedup_key.clone());
        queue.bytes += bytes;
        queue.dead_letters.push_back(dead_letter);
        drop(queue);
        self.filled.notify_one();
        true
    }

    /// The oldest dead letter, which stays until [`Self::take`].
    pub(crate) fn oldest(&self) -> Option<DeadLetter> {
        self.lock().dead_letters.front().cloned()
    }

    /// Waits until there is a dead letter. Dropping the future loses nothing. For one reader.
    pub(crate) async fn next(&self) -> DeadLetter {
        loop {
            if let Some(dead_letter) = self.oldest() {
                return dead_letter;
            }
            self.filled.notified().await;
        }
    }

    /// The oldest dead letter, which is dealt with.
    pub fn take(&self) -> Option<DeadLetter> {
        let mut queue = self.lock();
        let dead_letter = queue.dead_letters.pop_front()?;
        queue.bytes -= dead_letter.bytes();
        Some(dead_letter)
    }

    fn lock(&self) -> MutexGuard<'_, WaitingDeadLetters> {
        // Nothing between lock and unlock panics.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
