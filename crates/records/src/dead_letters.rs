//! Dead letters: messages that reached no client, and the queue in which they wait for the store.

mod dead_letter;
mod queue;

pub use self::dead_letter::{BadDeadLetterId, Body, DeadLetter, DeadLetterId, Reason, StoredDeadLetter};
pub use self::queue::{DeadLetterCounts, DeadLetterQueue, DeadLetterQueueConfig};
