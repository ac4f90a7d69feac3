//! Targets of a shard's requests: the pump, the presence service, the registry and the receipt buffer.

use std::sync::Arc;

use connection_registry::Presence;
use message_router::ShardIndex;
use records::{Receipt, ReceiptBuffer};
use wire::Timestamp;

use crate::host::clock::Clock;
use crate::host::mailbox::Mailbox;
use crate::metrics::counters::PresenceCounters;
use crate::shard::requests::{PresenceInbox, PumpRequest, WatchRequest};
use crate::shard::shared::Shared;
use crate::shard::table::PresenceUpdate;

#[derive(Debug)]
pub(super) struct Outlets {
    index: ShardIndex,
    pump: Arc<Mailbox<PumpRequest>>,
    /// The members of scopes on this instance.
    presence: Arc<Presence>,
    /// Requests to the presence service.
    presence_inbox: Arc<PresenceInbox>,
    presence_counters: Arc<PresenceCounters>,
    /// Receipts that wait to be written.
    receipt_buffer: Arc<ReceiptBuffer>,
}

impl Outlets {
    pub(super) fn new(
        index: ShardIndex,
        shared: &Shared,
        presence: Arc<Presence>,
        pump: Arc<Mailbox<PumpRequest>>,
    ) -> Self {
        Self {
            index,
            pump,
            presence,
            presence_inbox: Arc::clone(&shared.presence_inbox),
            presence_counters: Arc::clone(&shared.presence),
            receipt_buffer: Arc::clone(&shared.receipt_buffer),
        }
    }

    pub(super) fn send_receipts(&self, receipts: Vec<Receipt>) {
        receipts.into_iter().for_each(|receipt| self.receipt_buffer.note(receipt));
    }

    pub(super) fn send_requests(&self, requests: Vec<PumpRequest>) {
        for request in requests {
            let bytes = match &request {
                PumpRequest::Publish(request, _) => request.message.len(),
                PumpRequest::Join { .. } | PumpRequest::Leave { .. } => 0,
            };
            self.pump.push(request, bytes);
        }
    }

    /// Tells the registry which users have entered and left scopes, and the presence service which scopes are watched.
    pub(super) fn send_presence(&self, updates: Vec<PresenceUpdate>, clock: Clock) {
        if updates.is_empty() {
            return; // Most steps change no presence.
        }
        let now = Timestamp(clock.now().unix_ms);
        for update in updates {
            match update {
                PresenceUpdate::Entered(scope, user, info) => self.presence.enter(&scope, &user, &info, now),
                PresenceUpdate::Exited(scope, user) => self.presence.exit(&scope, &user),
                PresenceUpdate::Watched(scope) => self.presence_inbox.push((self.index, WatchRequest::Begun(scope)), 0),
                PresenceUpdate::Unwatched(scope) => {
                    self.presence_inbox.push((self.index, WatchRequest::Ended(scope)), 0)
                }
            }
        }
        self.presence_counters.members.set(self.presence.len() as u64);
    }
}
