//! Publishes of clients: on their way to the broker, and back with an answer.

use std::time::Instant;

use message_router::{BrokerError, Draft, Publish, Stored, Taken, Ticket};
use wire::{Channel, Timestamp, UserId};

use super::Pump;
use crate::health::instance_state::LeaseStatus;
use crate::shard::publish_reply::{PublishOutcome, PublishReply};
use crate::shard::requests::{ReplyTo, ToShard};

/// A publish that waits for an answer.
#[derive(Debug)]
pub(super) struct Publishing {
    pub(super) reply_to: ReplyTo,
    pub(super) user: UserId,
    pub(super) channel: Channel,
    /// The message id under which Redis knows the message.
    pub(super) id: Option<Box<str>>,
}

impl<B: message_router::Broker> Pump<B> {
    pub(super) fn publish(&mut self, publishing: Publishing, draft: Draft) {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        if self.health.lease(Instant::now()) == LeaseStatus::Fenced {
            return self.refuse(publishing, "this instance moves its clients; publish again after reconnecting");
        }
        let scope = publishing.channel.scope.clone();
        let copy = self.router.is_isolated().then(|| draft.message.clone());
        let replicated = self.rules.policies.policy(scope.family()).asks_replicas();
        let publish = Publish { ticket, scope, messages: vec![draft], replicated };
        let why = match self.router.publish(publish, &mut self.outputs) {
            Taken::Asked => {
                self.publishing.insert(ticket, publishing);
                return;
            }
            Taken::Local => {
                self.counters.local.add(1);
                let time = Timestamp(self.clock.now().unix_ms);
                let Publishing { user, channel, .. } = &publishing;
                self.dead_letters.isolated(channel, user, time, &copy.unwrap_or_default());
                return self.answer(publishing, PublishOutcome::Local { duplicate: false });
            }
            Taken::Again => return self.answer(publishing, PublishOutcome::Local { duplicate: true }),
            Taken::Doubtful => "the first attempt may have been stored, and Redis cannot be reached to check",
            Taken::ReadOnly => "this family accepts no messages while Redis cannot be reached",
            Taken::Full => "Redis cannot be reached, and too many messages were published meanwhile",
        };
        self.refuse(publishing, why);
    }

    fn refuse(&mut self, publishing: Publishing, why: &'static str) {
        self.counters.publish_errors.add(1);
        self.answer(publishing, PublishOutcome::Refused(why));
    }

    pub(super) fn published(&mut self, ticket: Ticket, result: Result<Stored, BrokerError>) {
        match &result {
            Ok(stored) => {
                self.counters.publishes.add(1);
                self.counters.publish_duplicates.add(stored.duplicate.into());
            }
            Err(error) => {
                self.counters.publish_errors.add(1);
                self.counters.publish_unknowns.add((*error == BrokerError::Unknown).into());
                match error {
                    BrokerError::Wrong(_) => {
                        tracing::error!(scope = self.publishing.get(&ticket).map(|publishing| tracing::field::display(&publishing.channel.scope)), %error, "publish failed")
                    }
                    BrokerError::Unavailable(_) | BrokerError::Unknown => {
                        tracing::debug!(scope = self.publishing.get(&ticket).map(|publishing| tracing::field::display(&publishing.channel.scope)), %error, "publish failed")
                    }
                }
            }
        }
        if let Some(mut publishing) = self.publishing.remove(&ticket) {
            if let (Err(BrokerError::Unknown), Some(id)) = (&result, publishing.id.take()) {
                self.router.doubt(publishing.channel.scope.clone(), id);
            }
            let is_kept = self.rules.policies.policy(publishing.channel.scope.family()).history_entries_max > 0;
            let outcome = match result {
                Ok(stored) => PublishOutcome::Stored { stored, is_kept },
                Err(error) => PublishOutcome::Failed(error),
            };
            self.answer(publishing, outcome);
        }
    }

    fn answer(&mut self, Publishing { reply_to, channel, .. }: Publishing, outcome: PublishOutcome) {
        let answer = Box::new(PublishReply { channel, outcome });
        self.send_to_shard(reply_to.shard, ToShard::Published(reply_to, answer), 0);
    }
}
