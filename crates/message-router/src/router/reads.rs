//! The questions about scopes that are in flight or to be asked again.

use std::collections::VecDeque;

use hashbrown::HashMap;
use wire::{Position, Scope};

use super::output::Output;
use crate::broker::{Command, Ticket};

/// How long to wait before a failed question is asked again.
const RETRY_AFTER_MS: u64 = 250;

/// The router's tickets have this bit, so that whoever publishes through the same broker can count from 0.
const OWN_TICKETS: u64 = 1 << 63;

/// Which scope each unanswered question is about.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    last: u64,
    scopes: HashMap<Ticket, Scope>,
    /// When to ask again, in order, because every question waits equally long.
    failed: VecDeque<(u64, Ticket)>,
}

impl Reads {
    /// Asks for the history of `scope` behind `after`.
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

    /// Says that the message at `position` was handed on and is gone.
    pub(crate) fn note_loss(&mut self, scope: &Scope, position: Position, out: &mut Vec<Output>) -> Ticket {
        let ticket = self.ticket();
        self.scopes.insert(ticket, scope.clone());
        out.push(Output::Command(Command::Lost { ticket, scope: scope.clone(), position }));
        ticket
    }

    /// A name for a question.
    pub(crate) fn ticket(&mut self) -> Ticket {
        self.last += 1;
        Ticket(OWN_TICKETS | self.last)
    }

    /// The scope an answer is about, unless nobody waits for it any more.
    pub(crate) fn answered(&mut self, ticket: Ticket) -> Option<Scope> {
        self.scopes.remove(&ticket)
    }

    /// The question failed: [`Self::due`] gives it out again later, to be asked anew.
    pub(crate) fn failed(&mut self, ticket: Ticket, scope: &Scope, now_ms: u64) {
        self.scopes.insert(ticket, scope.clone());
        self.failed.push_back((now_ms + RETRY_AFTER_MS, ticket));
    }

    /// One failed question whose time has come, unless it was forgotten meanwhile.
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

    /// The broker was lost, and every answer with it.
    pub(crate) fn forget_all(&mut self) {
        self.scopes.clear();
        self.failed.clear();
    }
}
