//! The rules for clients that keep only the id of their session, and for close codes that tell a client not to
//! reconnect.

use std::collections::BTreeSet;

use super::Checker;
use crate::connection::{Connection, SubscribeRequest};
use crate::frame::{Restored, Said};
use crate::position::Position;
use crate::record::Transport;
use crate::segment::Segment;
use crate::sessions::{Sessions, is_terminal};
use crate::verdict::AnomalyKind;

/// The close code of a connection whose session continues on another one.
const ELSEWHERE: u16 = 4504;

/// A restored subscription, as its `subscribed` describes it.
pub(super) struct Again<'a> {
    pub(super) pattern: &'a str,
    pub(super) position: Position,
    pub(super) resumed: bool,
    pub(super) repeats: bool,
    /// It had been confirmed to its client before.
    pub(super) goes_on: bool,
}

impl Checker {
    /// The session in a `hello`.
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

    /// A `hello` may have named the session before `welcome` does.
    pub(super) fn welcome(&mut self, number: u64, session: String, instance: Option<String>) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if let (Transport::EventStream, Some(instance)) = (connection.transport, instance) {
            connection.instance = instance;
        }
        if connection.session.is_none() {
            self.sessions.begin(&session, number, self.line);
            connection.session = Some(session);
        }
    }

    /// The answer to a restore: the subscriptions of the session, or that it is not known.
    pub(super) fn restored(&mut self, number: u64, restored: Option<Restored>) {
        let line = self.line;
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let client = connection.client.clone();
        let Some(asked_line) = connection.restoring.take() else {
            return self.verdict.add(AnomalyKind::Phantom, client, "restored without a request", &[line]);
        };
        let Some(Restored { repeats, channels }) = restored else {
            self.verdict.tally.not_found += 1;
            connection.not_found = Some(line);
            let confirmed: Vec<String> = self.sessions.subscriptions(&client).confirmed.iter().cloned().collect();
            self.sessions.forget(&client);
            if self.marks.fault_began.is_some() && self.rules.forgets {
                for pattern in confirmed {
                    if let Some((began, _)) = self.view(&client, &pattern).span() {
                        self.sessions.expect_late_record(&client, &pattern, began);
                    }
                }
            } else {
                let detail = "its session was not found, but no record can have been lost";
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
                self.verdict.add(AnomalyKind::Phantom, place, "restored, but the session never had it", &[line]);
            }
            let asked = SubscribeRequest { after: None, line: asked_line, restored: None };
            let asked = connection.asked.entry(channel.clone()).or_insert(asked);
            asked.restored = Some(repeats);
        }
        // A subscription that was not confirmed before may be requested again: that is no loss.
        let confirmed = std::mem::take(&mut subscriptions.confirmed);
        let (kept, lost): (BTreeSet<String>, _) = confirmed.into_iter().partition(|channel| channels.contains(channel));
        subscriptions.confirmed = kept;
        for channel in lost {
            let detail = format!("restored without it; {} others were restored", channels.len());
            self.verdict.add(AnomalyKind::LostSubscription, format!("{client} {channel}"), detail, &[asked_line, line]);
        }
    }

    /// A restored subscription continues. Nothing may be missing after what its client had. `restored` has said whether
    /// messages may come again.
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
            // It begins here, unless the gateway says that it continues.
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
            // It is the record of an earlier connection, and the client was told that messages may come again.
            () if position < began && repeats && self.sessions.may_be_late_record(&client, pattern, position) => return,
            () if position < began => format!("it continues from {position}, but had begun at {began}"),
            () if position < reached && !repeats => {
                format!("it continues from {position}, had reached {reached}, and nothing may come twice")
            }
            () => return,
        };
        self.verdict.add(AnomalyKind::WrongResume, format!("{client} {pattern}"), detail, &[line]);
    }

    /// A client got an error that is not retryable. Clients of a run request nothing that must be refused.
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

    /// A client was told not to reconnect. This is right only if another connection continues its session.
    pub(super) fn turned_away(&mut self, number: u64, code: u16, how: &str) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if !is_terminal(code) || std::mem::replace(&mut connection.is_turned_away, true) {
            return;
        }
        let is_elsewhere =
            code == ELSEWHERE && connection.session.as_ref().is_some_and(|s| self.sessions.has_another(s, number));
        if !is_elsewhere {
            let detail = format!("{how} with {code}, but no other connection continues its session");
            self.verdict.add(AnomalyKind::TerminalCode, connection.client.clone(), detail, &[self.line]);
        }
    }
}
