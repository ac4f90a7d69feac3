//! PURE. Receipts: how far clients have acknowledged a scope. A receipt beyond what was sent is refused.

use std::borrow::Cow;

use records::Receipt;

use super::*;
use crate::session::ReceiptRequest;

impl Shard {
    pub(super) fn receipt(&mut self, slot: Slot, request: ReceiptRequest) {
        let ReceiptRequest { receipt, channel, correlation_id } = request;
        let id = correlation_id.as_deref();
        if self.sent_upto(slot, &receipt.scope).is_none_or(|sent| receipt.position > sent) {
            let message = "this position has not been sent yet, or was never handed out";
            let Effect::Refuse(error) = refuse(ErrorCode::InvalidPosition, message, Some(&channel), id) else { return };
            return self.queue(slot, Lane::CONTROL, &error);
        }
        if id.is_some() {
            let (channel, correlation_id) = (Cow::Borrowed(&*channel), id.map(Cow::Borrowed));
            let reply = ServerFrame::Receipt { channel, position: receipt.position, correlation_id };
            self.queue(slot, Lane::CONTROL, &reply);
        }
        self.receipts.push(receipt);
    }

    /// How far this client has been sent a scope. With a live subscription that is the newest position of the scope,
    /// otherwise the furthest position of its joins.
    fn sent_upto(&self, slot: Slot, scope: &Scope) -> Option<Position> {
        let subscriptions = &self.connections[slot].session.subscriptions;
        if subscriptions.iter().any(|s| s.live && s.pattern.scope == *scope) {
            return self.subscriptions.top(scope);
        }
        let joins = self.subscriptions.joins_in(scope).map(|(_, join)| join);
        joins.filter(|join| join.slot == slot).flat_map(|join| &join.wanted).filter_map(|wanted| wanted.after).max()
    }

    /// The receipts of clients since the last call.
    pub(crate) fn take_receipts(&mut self) -> Vec<Receipt> {
        std::mem::take(&mut self.receipts)
    }
}
