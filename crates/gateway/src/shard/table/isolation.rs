//! PURE. What clients are sent when the broker is lost and when it is back.

use wire::GapReason;

use super::*;
use crate::protocol::shared_reply::SharedReply;

impl Shard {
    /// Tells every client whose user is known that the broker is lost, or that it is back.
    pub(crate) fn degraded(&mut self, degraded: bool) {
        self.is_degraded = degraded;
        let mut reply = SharedReply::new(ServerFrame::Degraded { degraded });
        let is_open = |connection: &Connection| connection.session.identity().is_some();
        let slots: Vec<Slot> =
            self.connections.iter().filter(|(_, connection)| is_open(connection)).map(|(slot, _)| slot).collect();
        for slot in slots {
            let format = self.connections[slot].outbox.format();
            self.answer(slot, reply.encode(format));
        }
    }

    /// While the broker was lost, messages of a scope were delivered on this instance only. Now the broker is back.
    /// Sends a gap for every announced subscription of the scope, also for those that are still catching up.
    ///
    /// Those messages lie after the last stored message that was delivered and before the next one. So the gap begins
    /// and ends at the current position of the subscription: it skips nothing, and the messages of the broker follow.
    pub(crate) fn isolated(&mut self, scope: &Scope) {
        let Some(members) = self.subscriptions.scope(scope) else { return };
        let (lane, top) = (self.rules.lane(scope), members.top);
        let joins = self.subscriptions.joins_in(scope).map(|(_, join)| join);
        let mut asked: Vec<(Slot, &Wanted)> = joins
            .filter(|join| join.announced != Announced::Nothing)
            .flat_map(|join| join.wanted.iter().map(|wanted| (join.slot, wanted)))
            .collect();
        asked.sort_unstable_by_key(|(slot, _)| *slot);
        let mut slots: Vec<Slot> = members.all().chain(asked.iter().map(|(slot, _)| *slot)).collect();
        slots.sort_unstable();
        slots.dedup();
        let mut frames = Vec::new();
        for slot in slots {
            let own = &asked[asked.partition_point(|(other, _)| *other < slot)..];
            let own = || own.iter().take_while(|(other, _)| *other == slot).map(|(_, wanted)| wanted);
            let subscriptions = self.connections[slot].session.subscriptions.iter();
            for Subscription { pattern, live, .. } in subscriptions.filter(|s| s.pattern.scope == *scope) {
                let position = match live {
                    true => Some(Some(top)),
                    false => own().find(|wanted| wanted.filter == pattern.filter).map(|wanted| wanted.after),
                };
                frames.extend(position.map(|position| (slot, position, isolated_reply(pattern.to_string(), position))));
            }
        }
        for (slot, position, frame) in frames {
            self.flush_conflated(slot);
            self.counters.gaps.add(1);
            // The floor is raised first: making room for the gap must not evict messages that were queued before it.
            self.raise_floor(slot, scope, position.unwrap_or_default());
            self.queue(slot, lane, &frame);
        }
    }
}

/// The gap is not certain: a client that was connected the whole time has missed nothing from this instance, only
/// messages of other instances.
fn isolated_reply(channel: String, position: Option<Position>) -> ServerFrame<'static> {
    let reason = GapReason::Isolated;
    ServerFrame::Gap { channel: channel.into(), after: position, upto: position, reason, certain: false }
}
