//! What a client may rely on that keeps nothing but its session's id, and that nobody is sent away who did nothing wrong.

use std::collections::BTreeSet;

use super::Checker;
use crate::connection::{Connection, SubscribeRequest};
use crate::frame::{Restored, Said};
use crate::position::Position;
use crate::segment::Segment;
use crate::sessions::{Sessions, is_terminal};
use crate::verdict::AnomalyKind;

/// The close code of a connection whose session goes on in another one.
const ELSEWHERE: u16 = 4504;

/// A subscription that was brought back.
pub(super) struct Again<'a> {
    pub(super) pattern: &'a str,
    pub(super) position: Position,
    pub(super) resumed: bool,
    pub(super) repeats: bool,
    /// Its client had been told that it stands.
    pub(super) goes_on: bool,
}

impl Checker {
    /// What a `hello` says of its session.
    pub(super) fn hello(sessions: &mut Sessions, connection: &mut Connection, number: u64, said: &Said, line: usize) {
        if let Some(session) = &said.session {
            sessions.begin(session, number, line);
            connection.session = Some(session.clone());
        }
        if said.restore {
            connection.keeps_session = true;
            connection.restoring = said.session.is_some().then_some(line);
            if said.session.is_none() {
                sessions.forget(&connection.client);
            }
        }
    }

    /// A `hello` may have named the session already.
    pub(super) fn welcome(&mut self, number: u64, session: String) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if connection.session.is_none() {
            self.sessions.begin(&session, number, self.line);
            connection.session = Some(session);
        }
    }

    /// What a session held, or that nothing is known of it.
    pub(super) fn restored(&mut self, number: u64, restored: Option<Restored>) {
        let line = self.line;
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let client = connection.client.clone();
        let Some(asked_line) = connection.restoring.take() else {
            return self.verdict.add(AnomalyKind::Phantom, client, "restored, and nobody asked", &[line]);
        };
        let Some(Restored { repeats, channels }) = restored else {
            self.verdict.tally.not_found += 1;
            connection.not_found = Some(line);
            self.sessions.forget(&client);
            if self.marks.fault_began.is_none() || !self.rules.forgets {
                let detail = "nothing is known of its session, and nothing can have been forgotten";
                self.verdict.add(AnomalyKind::FalseNotFound, client, detail, &[asked_line, line]);
            }
            return;
        };
        let tally = &mut self.verdict.tally;
        *if repeats { &mut tally.restored_with_repeats } else { &mut tally.restored_exactly } += 1;
        let subscriptions = self.sessions.subscriptions(&client);
        for channel in &channels {
            if !subscriptions.asked.contains(channel) {
                let place = format!("{client} {channel}");
                self.verdict.add(AnomalyKind::Phantom, place, "restored, and the session never held it", &[line]);
            }
            let asked = SubscribeRequest { after: None, line: asked_line, restored: None };
            let asked = connection.asked.entry(channel.clone()).or_insert(asked);
            asked.restored = Some(repeats);
        }
        // One that its client had not been told of may be asked for again: that is no loss.
        let confirmed = std::mem::take(&mut subscriptions.confirmed);
        let (kept, lost): (BTreeSet<String>, _) = confirmed.into_iter().partition(|channel| channels.contains(channel));
        subscriptions.confirmed = kept;
        for channel in lost {
            let detail = format!("restored without it; {} others were restored", channels.len());
            self.verdict.add(AnomalyKind::LostSubscription, format!("{client} {channel}"), detail, &[asked_line, line]);
        }
    }

    /// A subscription goes on that was brought back. Nothing may be missing behind what its client had; whether anything
    /// may come again, `restored` has said.
    pub(super) fn subscribed_again(&mut self, number: u64, again: &Again<'_>) {
        let Again { pattern, position, resumed, repeats, goes_on } = *again;
        let (line, at_us) = (self.line, self.at_us);
        self.verdict.tally.resumed += u64::from(resumed);
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let client = connection.client.clone();
        let asked_line = connection.asked.get(pattern).map_or(line, |asked| asked.line);
        let view = self.view(&client, pattern);
        let span = view.span().zip(view.current().map(|segment| segment.at));
        let Some(((began, reached), at)) = span.filter(|_| goes_on) else {
            // It begins here, unless the gateway says that it goes on.
            return view.segments.push(Segment::new(position, line, (!resumed).then_some(asked_line)));
        };
        if !resumed {
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.expected_gaps.insert(pattern.to_owned(), line);
            }
            return;
        }
        if position >= at {
            view.current().into_iter().for_each(|segment| segment.move_on(position, at_us));
        } else if repeats {
            view.segments.push(Segment::again(position, line));
        }
        let detail = match () {
            () if position < began => format!("it goes on behind {position}, and had begun at {began}"),
            () if position < reached && !repeats => {
                format!("it goes on behind {position}, had {reached}, and nothing may come twice")
            }
            () => return,
        };
        self.verdict.add(AnomalyKind::WrongResume, format!("{client} {pattern}"), detail, &[line]);
    }

    /// A client was refused something for good. Clients of a run ask for nothing that is to be refused.
    pub(super) fn refused(&mut self, number: u64, code: &str) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.is_turned_away = true;
        let place = connection.client.clone();
        self.verdict.add(
            AnomalyKind::TerminalCode,
            place,
            format!("an error that is not retryable: {code}"),
            &[self.line],
        );
    }

    /// A client was told not to come back, which is right alone where another connection goes on with its session.
    pub(super) fn turned_away(&mut self, number: u64, code: u16, how: &str) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if !is_terminal(code) || std::mem::replace(&mut connection.is_turned_away, true) {
            return;
        }
        let is_elsewhere =
            code == ELSEWHERE && connection.session.as_ref().is_some_and(|s| self.sessions.has_another(s, number));
        if !is_elsewhere {
            let detail = format!("{how} with {code}, and no other connection goes on with its session");
            self.verdict.add(AnomalyKind::TerminalCode, connection.client.clone(), detail, &[self.line]);
        }
    }
}
