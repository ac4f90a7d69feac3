//! The queue of dead letters between any thread and the writer. It is bounded, and no thread waits for it: a dead
//! letter without room is counted and dropped.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::dead_letter::{Body, DeadLetter};

/// Most bytes that wait while the store is away. The oldest dead letters stay, because they show how the problem began.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Number of deduplication keys that are remembered, so that a stored poison message is not reported again by every
/// client that resumes over it.
const DEDUP_KEYS_MAX: usize = 1_024;

/// Configuration of a [`DeadLetterQueue`].
#[derive(Debug, Clone, Copy)]
pub struct DeadLetterQueueConfig {
    /// Longest message that is kept, in bytes. A dead letter with a longer message is stored without it.
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

/// Totals of dead letters, for metrics.
#[derive(Debug, Default)]
pub struct DeadLetterCounts {
    /// Stored by this instance.
    pub kept: AtomicU64,
    /// Not stored, because this or another instance had stored the same dead letter before.
    pub known: AtomicU64,
    /// Lost, because too many waited, or because the store rejects it permanently.
    pub dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct WaitingDeadLetters {
    dead_letters: VecDeque<DeadLetter>,
    bytes: usize,
    /// Keys of the last dead letters taken, oldest first.
    recent: VecDeque<Box<str>>,
    dedup_keys: HashSet<Box<str>>,
}

impl DeadLetterQueue {
    /// Creates an empty queue.
    #[must_use]
    pub fn new(config: DeadLetterQueueConfig) -> Self {
        Self { config, queue: Mutex::default(), filled: Notify::new(), counts: DeadLetterCounts::default() }
    }

    /// Totals of dead letters, for metrics.
    #[must_use]
    pub fn counts(&self) -> &DeadLetterCounts {
        &self.counts
    }

    /// Whether a dead letter with this key was posted here recently, so that there is no need to make another one.
    #[must_use]
    pub fn knows(&self, dedup_key: &str) -> bool {
        self.lock().dedup_keys.contains(dedup_key)
    }

    /// What a dead letter keeps of this message. It is a copy: a slice would keep the whole packet in memory.
    #[must_use]
    pub fn body(&self, message: &[u8]) -> Body {
        match message.len() > self.config.message_bytes_max {
            true => Body::TooBig,
            false => Body::Message(Bytes::copy_from_slice(message)),
        }
    }

    /// Adds a dead letter. Returns whether it will be written. If not, the same one was posted before, or there is no
    /// room.
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

    /// The oldest dead letter. It stays until [`Self::take`].
    pub(crate) fn oldest(&self) -> Option<DeadLetter> {
        self.lock().dead_letters.front().cloned()
    }

    /// Waits until there is a dead letter. If the future is dropped, nothing is lost. There may be only one reader.
    pub(crate) async fn next(&self) -> DeadLetter {
        loop {
            if let Some(dead_letter) = self.oldest() {
                return dead_letter;
            }
            self.filled.notified().await;
        }
    }

    /// Removes the oldest dead letter, which has been handled.
    pub fn take(&self) -> Option<DeadLetter> {
        let mut queue = self.lock();
        let dead_letter = queue.dead_letters.pop_front()?;
        queue.bytes -= dead_letter.bytes();
        Some(dead_letter)
    }

    fn lock(&self) -> MutexGuard<'_, WaitingDeadLetters> {
        // The code between lock and unlock does not panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
