//! Publishes that wait for Redis: each scope has a queue, and one call of a queue runs at a time.
//!
//! ```text
//!   publish ─▶ user:7     │ waiting … │ ─▶ one call ═▶ Redis
//!   publish ─▶ system     │ waiting … │ ─▶ one call ═▶ Redis
//! ```
//!
//! So a call that must be repeated (the library was missing, or the slot has moved) is not overtaken by the next call
//! of its scope. Publishes that gather meanwhile go as one batch: the busier a scope, the fewer calls for each
//! message. That needs no timer, and a publish to a quiet scope does not wait.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::time::Instant;
use wire::{BATCH_MESSAGES_MAX, Scope};

use crate::broker::{Draft, Publish, Ticket};

/// A batch stops growing at this size, in bytes, so that one call holds up Redis and its subscribers for a short time
/// only.
const BATCH_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct PublishQueues {
    /// A publish that has waited this long is not sent any more: its publisher has waited as long as for an answer.
    patience: Duration,
    /// A queue exists while a publish waits in it or a call runs.
    queues: HashMap<Scope, ScopeQueue>,
    /// Queues whose next call can be sent.
    ready: VecDeque<Scope>,
}

#[derive(Debug, Default)]
struct ScopeQueue {
    /// Waiting publishes, each with the time of its arrival.
    waiting: VecDeque<(Instant, Publish)>,
    under_way: bool,
}

/// The publishes of one call.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) scope: Scope,
    pub(super) messages: Vec<Draft>,
    /// The publishers, in the order of the messages.
    pub(super) shares: Vec<Share>,
    /// Publishes that have waited too long. There may be no others.
    pub(super) late: Vec<Ticket>,
}

/// One publisher's part of a batch.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) ticket: Ticket,
    /// How many of the messages are this publisher's.
    pub(super) count: usize,
    /// Whether the publisher asked for a replica.
    pub(super) replicated: bool,
}

// === impl PublishQueues ===

impl PublishQueues {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, queues: HashMap::new(), ready: VecDeque::new() }
    }

    pub(super) fn push(&mut self, publish: Publish, now: Instant) {
        let queue = self.queues.entry_ref(&publish.scope).or_default();
        if queue.waiting.is_empty() && !queue.under_way {
            self.ready.push_back(publish.scope.clone());
        }
        queue.waiting.push_back((now, publish));
    }

    /// Whether [`Self::next`] has anything. Cheaper than reading the clock in vain.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next batch that can be sent. The scope's next batch follows after [`Self::done`].
    pub(super) fn next(&mut self, now: Instant) -> Option<Batch> {
        let scope = self.ready.pop_front()?;
        let queue = self.queues.get_mut(&scope).expect("a ready lane is there");
        debug_assert!(!queue.under_way, "one call of a scope at a time");
        queue.under_way = true;
        let mut batch = Batch { scope, messages: Vec::new(), shares: Vec::new(), late: Vec::new() };
        let is_late = |(since, _): &(Instant, Publish)| now >= *since + self.patience;
        let late = queue.waiting.iter().take_while(|waiting| is_late(waiting)).count();
        batch.late.extend(queue.waiting.drain(..late).map(|(_, publish)| publish.ticket));
        let mut bytes = 0;
        while let Some((_, publish)) = queue.waiting.front() {
            bytes += publish.messages.iter().map(|draft| draft.topic.len() + draft.message.len()).sum::<usize>();
            let is_full = batch.messages.len() + publish.messages.len() > BATCH_MESSAGES_MAX || bytes > BATCH_BYTES_MAX;
            // Redis refuses a publish that is too large by itself.
            if is_full && !batch.shares.is_empty() {
                break;
            }
            let (_, publish) = queue.waiting.pop_front().expect("there is a first one");
            let Publish { ticket, mut messages, replicated, .. } = publish;
            batch.shares.push(Share { ticket, count: messages.len(), replicated });
            batch.messages.append(&mut messages);
        }
        Some(batch)
    }

    /// Takes in that the scope's call was answered or given up.
    pub(super) fn done(&mut self, scope: &Scope) {
        let Some(queue) = self.queues.get_mut(scope) else { return };
        queue.under_way = false;
        match queue.waiting.is_empty() {
            true => drop(self.queues.remove(scope)),
            false => self.ready.push_back(scope.clone()),
        }
    }

    /// Takes out the publishes that wait behind the scope's call: they have not been sent.
    pub(super) fn give_up(&mut self, scope: &Scope) -> impl Iterator<Item = Ticket> {
        let waiting = self.queues.get_mut(scope).map(|queue| std::mem::take(&mut queue.waiting));
        waiting.into_iter().flatten().map(|(_, publish)| publish.ticket)
    }

    /// All publishes of all scopes that have not been sent.
    pub(super) fn unsent(&self) -> impl Iterator<Item = Ticket> {
        self.queues.values().flat_map(|queue| &queue.waiting).map(|(_, publish)| publish.ticket)
    }
}

#[cfg(test)]
mod tests {
    use wire::Families;

    use super::*;

    fn scope(name: &str) -> Scope {
        Families::default().parse_scope(&format!("acme/{name}")).expect("tests name scopes")
    }

    fn push(queues: &mut PublishQueues, ticket: u64, name: &str, count: usize, bytes: usize) {
        let messages = vec![Draft::new("", vec![b'x'; bytes]); count];
        let publish = Publish { ticket: Ticket(ticket), scope: scope(name), messages, replicated: false };
        queues.push(publish, Instant::now());
    }

    fn queues() -> PublishQueues {
        PublishQueues::new(Duration::from_secs(60))
    }

    fn next(queues: &mut PublishQueues) -> Option<(Scope, Vec<u64>)> {
        let batch = queues.next(Instant::now())?;
        assert_eq!(batch.late, []);
        let messages: usize = batch.shares.iter().map(|share| share.count).sum();
        assert_eq!(messages, batch.messages.len(), "every message is somebody's");
        Some((batch.scope, batch.shares.iter().map(|share| share.ticket.0).collect()))
    }

    #[test]
    fn what_gathers_behind_a_call_is_one_batch_and_scopes_do_not_wait_for_each_other() {
        let mut queues = queues();
        push(&mut queues, 1, "user:a", 1, 10);
        assert_eq!(next(&mut queues), Some((scope("user:a"), vec![1])));
        push(&mut queues, 2, "user:a", 1, 10);
        push(&mut queues, 3, "user:b", 1, 10);
        push(&mut queues, 4, "user:a", 2, 10);
        assert_eq!(next(&mut queues), Some((scope("user:b"), vec![3])));
        assert_eq!(next(&mut queues), None, "the first call has not been answered");
        queues.done(&scope("user:a"));
        assert_eq!(next(&mut queues), Some((scope("user:a"), vec![2, 4])));
        queues.done(&scope("user:a"));
        queues.done(&scope("user:b"));
        assert_eq!(next(&mut queues), None);
        assert!(queues.queues.is_empty() && queues.ready.is_empty(), "a quiet scope costs nothing");
    }

    #[test]
    fn a_batch_is_bounded_in_messages_and_bytes() {
        let mut queues = queues();
        for ticket in 0..3 {
            push(&mut queues, ticket, "system", 30, 10);
        }
        push(&mut queues, 3, "system", 1, BATCH_BYTES_MAX);
        push(&mut queues, 4, "system", 1, 1);
        for tickets in [vec![0, 1], vec![2], vec![3], vec![4]] {
            assert_eq!(next(&mut queues), Some((scope("system"), tickets)));
            queues.done(&scope("system"));
        }
        assert_eq!(next(&mut queues), None);
    }

    #[test]
    fn who_has_waited_too_long_is_not_sent_any_more() {
        let (mut queues, start) = (queues(), Instant::now());
        let publish = |ticket| {
            let messages = vec![Draft::new("", b"{}".to_vec())];
            Publish { ticket: Ticket(ticket), scope: scope("user:a"), messages, replicated: false }
        };
        let second = Duration::from_secs(1);
        for ticket in 1..=4 {
            queues.push(publish(ticket), start + second * u32::try_from(ticket).unwrap());
        }
        let batch = queues.next(start + second * 62).unwrap();
        assert_eq!((batch.late, batch.shares.len()), (vec![Ticket(1), Ticket(2)], 2));
        queues.done(&scope("user:a"));
        queues.push(publish(5), start);
        let batch = queues.next(start + second * 62).unwrap();
        assert_eq!((batch.late, batch.shares.len()), (vec![Ticket(5)], 0), "and nobody else");
    }

    #[test]
    fn what_was_not_sent_can_be_given_up() {
        let mut queues = queues();
        for ticket in 1..=3 {
            push(&mut queues, ticket, "user:a", 1, 1);
            queues.next(Instant::now());
        }
        push(&mut queues, 4, "user:b", 1, 1);
        let mut unsent: Vec<u64> = queues.unsent().map(|ticket| ticket.0).collect();
        unsent.sort_unstable();
        assert_eq!(unsent, [2, 3, 4], "the first is under way");
        assert_eq!(queues.give_up(&scope("user:a")).map(|ticket| ticket.0).collect::<Vec<_>>(), [2, 3]);
        queues.done(&scope("user:a"));
        assert_eq!(next(&mut queues), Some((scope("user:b"), vec![4])));
        assert_eq!(next(&mut queues), None);
    }
}
