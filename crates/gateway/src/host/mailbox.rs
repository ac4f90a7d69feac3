//! The queue between threads: many writers, and one reader that takes all items at once.
//!
//! The queue is bounded in bytes. Taking all items at once is how the gateway batches: an idle reader is woken for
//! one item, and a busy reader finds many.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// The queue keeps capacity for this many items when it is emptied.
const ITEMS_KEPT: usize = 1_024;

/// A queue that is emptied as a whole.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    queue: Mutex<Queue<T>>,
    bytes_max: usize,
    /// Wakes the reader when items arrive.
    filled: Notify,
    /// Wakes one writer that waits for space.
    emptied: Notify,
}

#[derive(Debug)]
struct Queue<T> {
    items: Vec<T>,
    bytes: usize,
}

impl<T> Mailbox<T> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let queue = Mutex::new(Queue { items: Vec::new(), bytes: 0 });
        Self { queue, bytes_max, filled: Notify::new(), emptied: Notify::new() }
    }

    /// Adds one item, even beyond the bound. For items that cannot be refused and are bounded elsewhere.
    pub(crate) fn push(&self, item: T, bytes: usize) {
        let mut queue = self.lock();
        queue.items.push(item);
        queue.bytes += bytes;
        self.announce(queue);
    }

    /// Adds all of `items`, in order, even beyond the bound.
    pub(crate) fn push_all(&self, items: &mut Vec<T>, bytes: usize) {
        if items.is_empty() {
            return;
        }
        let mut queue = self.lock();
        queue.items.append(items);
        queue.bytes += bytes;
        self.announce(queue);
    }

    /// Whether a writer that can wait or refuse should do so.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().bytes > self.bytes_max
    }

    /// Waits until there is space. For the one writer that can be paused.
    pub(crate) async fn has_room(&self) {
        while self.is_full() {
            self.emptied.notified().await;
        }
    }

    /// Waits until there are items, then moves all of them to `items`, which must be empty. If the future is dropped,
    /// no item is lost.
    pub(crate) async fn take_all(&self, items: &mut Vec<T>) {
        debug_assert!(items.is_empty(), "the previous batch must be processed");
        while !self.try_take_all(items) {
            self.filled.notified().await;
        }
    }

    /// Moves all items to `items`. Returns false if there are none.
    pub(crate) fn try_take_all(&self, items: &mut Vec<T>) -> bool {
        let mut queue = self.lock();
        std::mem::swap(&mut queue.items, items);
        // The queue now has the reader's empty vector. Its capacity after a burst is not kept.
        queue.items.shrink_to(ITEMS_KEPT);
        let was_full = queue.bytes > self.bytes_max;
        queue.bytes = 0;
        drop(queue);
        if was_full {
            self.emptied.notify_one();
        }
        !items.is_empty()
    }

    fn announce(&self, queue: std::sync::MutexGuard<'_, Queue<T>>) {
        drop(queue);
        self.filled.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue<T>> {
        // A panic while the lock is held cannot leave the two fields inconsistent, because no code between lock and
        // unlock panics.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_reader_takes_everything_in_order() {
        let mailbox = Mailbox::new(100);
        mailbox.push(1, 1);
        mailbox.push_all(&mut vec![2, 3], 2);
        let mut items = Vec::new();
        mailbox.take_all(&mut items).await;
        assert_eq!(items, [1, 2, 3]);
        items.clear();
        assert!(!mailbox.try_take_all(&mut items));
    }

    #[tokio::test]
    async fn a_full_mailbox_holds_the_writer_back_until_it_is_read() {
        let mailbox = Mailbox::new(10);
        mailbox.push("big", 11);
        assert!(mailbox.is_full());
        let mut items = Vec::new();
        let reader = async {
            tokio::task::yield_now().await;
            mailbox.take_all(&mut items).await;
        };
        tokio::join!(mailbox.has_room(), reader);
        assert!(!mailbox.is_full());
    }
}
