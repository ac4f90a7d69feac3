//! The requests about scopes that are in flight, or wait to be repeated.

use std::collections::VecDeque;

use hashbrown::HashMap;
use wire::{Position, Scope};

use super::output::Output;
use crate::broker::{Command, Ticket};

/// Time before a failed request is repeated, in milliseconds.
const RETRY_AFTER_MS: u64 = 250;

/// The router's tickets have this bit set, so that publishes through the same broker can count from 0.
const OWN_TICKETS: u64 = 1 << 63;

/// The scope of each unanswered request.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    last: u64,
    scopes: HashMap<Ticket, Scope>,
    /// The failed requests with the time of their repetition. They are in order, because the waiting time is always the
    /// same.
    failed: VecDeque<(u64, Ticket)>,
}

impl Reads {
    /// Requests the history of `scope` above `after`.
    pub(crate) fn ask(
        &mut self,
        scope: &Scope,
        after: Option<Position>,
        entries_max: usize,
        out: &mut Vec<Output>,
    ) -> Ticket {
        let ticket = self.ticket();
        self.scopes.insert(ticket, scope.clone());
        out.push(Output::Command(Command::Read { ticket, scope: scope.clone(), after, entries_max }));
        ticket
    }

    /// Informs the broker that the message at `position` was handed on and is lost.
    pub(crate) fn note_loss(&mut self, scope: &Scope, position: Position, out: &mut Vec<Output>) -> Ticket {
        let ticket = self.ticket();
        self.scopes.insert(ticket, scope.clone());
        out.push(Output::Command(Command::Lost { ticket, scope: scope.clone(), position }));
        ticket
    }

    /// Returns an unused ticket of the router.
    pub(crate) fn ticket(&mut self) -> Ticket {
        self.last += 1;
        Ticket(OWN_TICKETS | self.last)
    }

    /// The scope of an answered request. None if nobody waits for the answer any more.
    pub(crate) fn answered(&mut self, ticket: Ticket) -> Option<Scope> {
        self.scopes.remove(&ticket)
    }

    /// The request failed: [`Self::due`] returns it later, to be repeated.
    pub(crate) fn failed(&mut self, ticket: Ticket, scope: &Scope, now_ms: u64) {
        self.scopes.insert(ticket, scope.clone());
        self.failed.push_back((now_ms + RETRY_AFTER_MS, ticket));
    }

    /// One failed request that is due, unless it was forgotten meanwhile.
    pub(crate) fn due(&mut self, now_ms: u64) -> Option<(Ticket, Scope)> {
        while self.failed.front().is_some_and(|(due_ms, _)| *due_ms <= now_ms) {
            let (_, ticket) = self.failed.pop_front().expect("just seen");
            if let Some(scope) = self.scopes.remove(&ticket) {
                return Some((ticket, scope));
            }
        }
        None
    }

    /// Nobody waits for this answer any more.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        self.scopes.remove(&ticket);
    }

    /// The broker was lost: no answer will come.
    pub(crate) fn forget_all(&mut self) {
        self.scopes.clear();
        self.failed.clear();
    }
}
