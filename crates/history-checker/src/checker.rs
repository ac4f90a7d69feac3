//! Reads the log from its first line to its last.

mod conclusion;
mod session;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use self::session::Again;
use crate::channel::{family_of, hears};
use crate::connection::{Asked, Connection};
use crate::frame::{Heard, hear, say};
use crate::ledger::Ledger;
use crate::position::Position;
use crate::record::{Event, Record};
use crate::segment::Segment;
use crate::sessions::Sessions;
use crate::verdict::{Kind, Verdict};
use crate::view::{View, ViewName};

/// Of a gap for who reads too slowly.
const SLOW: &str = "slow";

/// Fed with [`Self::feed`], line by line; judges with [`Self::conclude`].
#[derive(Debug, Default)]
pub struct Checker {
    rules: Rules,
    ledger: Ledger,
    connections: HashMap<u64, Connection>,
    sessions: Sessions,
    views: BTreeMap<ViewName, View>,
    /// Clients that are wanted to be there at the end.
    clients: BTreeSet<String>,
    /// Clients that read too slowly on purpose.
    slow: BTreeSet<String>,
    /// When clients left of their own accord (µs).
    left: HashMap<String, Vec<u64>>,
    verdict: Verdict,
    line: usize,
    at_us: u64,
    /// On which lines these came.
    marks: Marks,
}

/// What the first line says.
#[derive(Debug, Default)]
struct Rules {
    loses: bool,
    no_history: Vec<String>,
    local: Vec<String>,
    newest: Vec<String>,
    forgets: bool,
}

#[derive(Debug, Default)]
struct Marks {
    run: Option<usize>,
    fault_began: Option<usize>,
    /// The last one, and when (µs).
    fault_ended: Option<(usize, u64)>,
    quiesced: Option<usize>,
    end: Option<usize>,
}

/// What a gap frame says.
struct Gap<'g> {
    pattern: &'g str,
    after: Option<Position>,
    upto: Option<Position>,
    reason: &'g str,
}

impl Checker {
    /// A checker that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next line as text. One that is no record is told of in the verdict.
    pub fn feed_line(&mut self, text: &str) {
        match serde_json::from_str::<Record>(text) {
            Ok(record) => self.feed(&record),
            Err(error) => {
                self.line += 1;
                self.verdict.incomplete.push(format!("line {}: {error}", self.line));
            }
        }
    }

    /// Takes the next line.
    pub fn feed(&mut self, record: &Record) {
        self.line += 1;
        self.at_us = record.at_us;
        let line = self.line;
        match &record.event {
            Event::Run { loses, keyless, no_history, local, newest, forgets, .. } => {
                self.marks.run = Some(line);
                self.ledger = Ledger::new(keyless.clone());
                let (no_history, local, newest) = (no_history.clone(), local.clone(), newest.clone());
                self.rules = Rules { loses: *loses, no_history, local, newest, forgets: *forgets };
            }
            Event::Publish { value, channel, via, retry } => {
                self.ledger.publish(value, channel, via.as_deref(), *retry, (line, record.at_us));
            }
            Event::Answered { value, answer } => self.ledger.answered(value, answer, line, &mut self.verdict),
            Event::Opened { client, connection, instance, reads_slowly } => {
                self.verdict.tally.connections += 1;
                self.clients.insert(client.clone());
                if *reads_slowly {
                    self.slow.insert(client.clone());
                }
                let opened = Connection::new(client.clone(), instance.clone(), *reads_slowly);
                self.connections.insert(*connection, opened);
            }
            Event::Sent { connection, text } => self.sent(*connection, text),
            Event::Received { connection, text } => self.received(*connection, text),
            Event::Closed { connection, wished, code, .. } => self.closed(*connection, *wished, *code),
            Event::Retired { client } => {
                self.clients.remove(client);
                self.connections.retain(|_, connection| connection.client != *client);
            }
            Event::FaultBegan => self.marks.fault_began = self.marks.fault_began.or(Some(line)),
            Event::FaultEnded { .. } => self.marks.fault_ended = Some((line, record.at_us)),
            Event::Quiesced => self.marks.quiesced = Some(line),
            Event::End => self.marks.end = Some(line),
        }
    }

    fn sent(&mut self, number: u64, text: &str) {
        let line = self.line;
        let Some(connection) = self.connections.get_mut(&number) else {
            return self.verdict.incomplete.push(format!("line {line}: sent on no open connection"));
        };
        let said = say(text).unwrap_or_default();
        if said.is_hello {
            Self::hello(&mut self.sessions, connection, number, &said, line);
        }
        for wish in said.wishes {
            if connection.keeps_session {
                self.sessions.subscriptions(&connection.client).asked.insert(wish.channel.clone());
            }
            connection.not_found = None;
            connection.asked.insert(wish.channel, Asked { after: wish.after, line, restored: None });
        }
    }

    fn closed(&mut self, number: u64, wished: bool, code: Option<u16>) {
        if let Some(code) = code {
            self.turned_away(number, code, "closed");
        }
        let Some(connection) = self.connections.remove(&number) else { return };
        if let Some(session) = &connection.session {
            self.sessions.end(session, number, self.line);
        }
        if wished {
            self.left.entry(connection.client).or_default().push(self.at_us);
        }
    }

    fn received(&mut self, number: u64, text: &str) {
        // Its reader saw it before somebody else closed it: nothing may be concluded from what comes late.
        let Some(connection) = self.connections.get(&number) else { return };
        let client = connection.client.clone();
        let line = self.line;
        match hear(text) {
            None => self.verdict.add(Kind::Unreadable, &client, text, &[line]),
            Some(Heard::Message { channel, value, position }) => {
                self.verdict.tally.deliveries += 1;
                match position {
                    Some(position) => self.message(number, &channel, value, position),
                    None => self.local_message(number, &channel, value),
                }
            }
            Some(Heard::Subscribed { channel, position, resumed, degraded }) => {
                if !degraded {
                    self.subscribed(number, &channel, position, resumed);
                }
            }
            Some(Heard::Unsubscribed { channel }) => {
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.standing.remove(&channel);
                    connection.asked.remove(&channel);
                }
            }
            Some(Heard::Position { channel, position }) => {
                let at_us = self.at_us;
                self.ledger.mentioned(&channel, position);
                if let Some(segment) = self.view(&client, &channel).current() {
                    segment.move_on(position, at_us);
                }
            }
            Some(Heard::Gap { channel, after, upto, reason }) => {
                self.gap(number, &Gap { pattern: &channel, after, upto, reason: &reason });
            }
            Some(Heard::Welcome { session }) => self.welcome(number, session),
            Some(Heard::Restored(restored)) => self.restored(number, restored),
            Some(Heard::Error { code, retryable }) => {
                if !retryable {
                    self.refused(number, &code);
                }
            }
            Some(Heard::Bye { code, reconnect }) => {
                if !reconnect {
                    self.turned_away(number, code, "a bye");
                }
            }
            Some(Heard::Degraded(_) | Heard::Ack { .. } | Heard::Other) => {}
        }
    }

    fn view(&mut self, client: &str, pattern: &str) -> &mut View {
        self.views.entry(ViewName { client: client.to_owned(), pattern: pattern.to_owned() }).or_default()
    }

    fn subscribed(&mut self, number: u64, pattern: &str, position: Option<Position>, resumed: bool) {
        let line = self.line;
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let client = connection.client.clone();
        let place = format!("{client} {pattern}");
        let Some(&asked) = connection.asked.get(pattern) else {
            return self.verdict.add(Kind::Phantom, place, "subscribed, and nobody asked", &[line]);
        };
        connection.standing.insert(pattern.to_owned());
        let goes_on =
            connection.keeps_session && !self.sessions.subscriptions(&client).confirmed.insert(pattern.to_owned());
        let Some(position) = position else {
            return self.verdict.add(Kind::WrongResume, place, "subscribed without a position", &[line]);
        };
        self.ledger.mentioned(pattern, position);
        if let (None, Some(repeats)) = (asked.after, asked.restored) {
            let again = Again { pattern, position, resumed, repeats, goes_on };
            return self.subscribed_again(number, &again);
        }
        let Asked { after: asked, line: asked_line, .. } = asked;
        match asked {
            Some(asked) if resumed => {
                self.verdict.tally.resumed += 1;
                if position != asked {
                    let says = format!("asked behind {asked}, resumed behind {position}");
                    self.verdict.add(Kind::WrongResume, place, says, &[line]);
                }
            }
            Some(_) => {
                connection.owed_gaps.insert(pattern.to_owned(), line);
            }
            None if resumed => {
                self.verdict.add(Kind::WrongResume, place, "resumed, and no position was given", &[line]);
            }
            None => {}
        }
        let start = asked.unwrap_or(position);
        let view = self.view(&client, pattern);
        let at = view.current().map(|segment| segment.at);
        // One that gives the position it has goes on; any other begins anew.
        if asked.is_none() || at != Some(start) {
            view.segments.push(Segment::new(start, line, asked.is_none().then_some(asked_line)));
        }
        if asked.is_some() && Some(start) > at {
            let why = format!("line {line}: {client} resumed {pattern} behind {start}, which it was never told");
            self.verdict.incomplete.push(why);
        }
    }

    fn message(&mut self, number: u64, channel: &str, value: Option<String>, position: Position) {
        let line = self.line;
        let Some(connection) = self.connections.get(&number) else { return };
        let client = connection.client.clone();
        let hearing = connection.hearing(channel);
        let owed: Vec<_> = hearing.iter().filter_map(|pattern| connection.owed_gaps.get(pattern).copied()).collect();
        let Some(value) = self.check_value(&client, channel, value) else { return };
        if hearing.is_empty() {
            let says = format!("{value} on {channel}, to which it is not subscribed");
            self.verdict.add(Kind::Phantom, &client, says, &[line]);
        }
        for told in owed {
            let says = format!("{position} came where a gap was owed");
            self.verdict.add(Kind::WrongResume, format!("{client} {channel}"), says, &[told, line]);
        }
        self.ledger.found(channel, position, &value, line, &mut self.verdict);
        let copies_max = self.ledger.get(&value).map_or(1, |publication| publication.copies_max(self.rules.loses));
        let at_us = self.at_us;
        for pattern in hearing {
            let Some(segment) = self.view(&client, &pattern).current() else { continue };
            let mut wrong = segment.receive(position, &value, line);
            let copies = segment.copies(&value);
            segment.move_on(position, at_us);
            if wrong.is_none() && copies > copies_max {
                wrong = Some((Kind::Duplicate, format!("{value} came {copies} times"), line));
            }
            if let Some((kind, says, before)) = wrong {
                self.verdict.add(kind, format!("{client} {pattern}"), says, &[before, line]);
            }
        }
    }

    /// The message's name, if it may exist at all.
    fn check_value(&mut self, client: &str, channel: &str, value: Option<String>) -> Option<String> {
        let line = self.line;
        let publication = value.as_deref().and_then(|value| self.ledger.get(value));
        let says = match (&value, publication) {
            (None, _) => String::from("a message without a value"),
            (Some(value), None) => format!("{value} was never sent"),
            (Some(value), Some(publication)) if publication.channel != channel => {
                format!("{value} was sent to {}, and came on {channel}", publication.channel)
            }
            (Some(value), Some(publication)) if !publication.may_exist() => {
                format!("{value} was refused, and came")
            }
            _ => return value,
        };
        self.verdict.add(Kind::Phantom, client, says, &[line]);
        None
    }

    /// One without a position: only while Redis is away, and only within the instance that took it.
    fn local_message(&mut self, number: u64, channel: &str, value: Option<String>) {
        let line = self.line;
        let Some(connection) = self.connections.get(&number) else { return };
        let client = connection.client.clone();
        let Some(value) = self.check_value(&client, channel, value) else { return };
        let scope = self.ledger.scope_of(channel).to_owned();
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let may_be = self.rules.local.iter().any(|family| family == family_of(channel))
            && self.ledger.get(&value).is_some_and(|publication| publication.is_local_to(&connection.instance));
        if !may_be {
            let says = format!("{value} came without a position");
            self.verdict.add(Kind::Phantom, &client, says, &[line]);
        } else if !connection.asked.keys().any(|pattern| hears(pattern, channel)) {
            let says = format!("{value} on {channel}, to which it is not subscribed");
            self.verdict.add(Kind::Phantom, &client, says, &[line]);
        } else if !connection.local.insert(value.clone()) {
            self.verdict.add(Kind::Duplicate, &client, format!("{value} came twice without a position"), &[line]);
        }
        connection.owed_isolated.entry(scope).or_insert(line);
    }

    fn gap(&mut self, number: u64, gap: &Gap<'_>) {
        let line = self.line;
        *self.verdict.tally.gaps.entry(gap.reason.to_owned()).or_default() += 1;
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let client = connection.client.clone();
        let scope = self.ledger.scope_of(gap.pattern).to_owned();
        connection.owed_gaps.remove(gap.pattern);
        let is_isolated = gap.reason == "isolated";
        let heard_local = is_isolated && connection.owed_isolated.remove(&scope).is_some();
        let reads_slowly = connection.reads_slowly;
        if !heard_local && let Some(says) = self.is_false(gap, &scope, reads_slowly) {
            self.verdict.add(Kind::FalseGap, format!("{client} {}", gap.pattern), says, &[line]);
        }
        let at_us = self.at_us;
        gap.after.into_iter().chain(gap.upto).for_each(|position| self.ledger.mentioned(gap.pattern, position));
        if let Some(segment) = self.view(&client, gap.pattern).current() {
            // That one leaves nothing of the history out.
            if !is_isolated {
                segment.announce(gap.after, gap.upto, gap.reason == SLOW);
            }
            if let Some(upto) = gap.upto {
                segment.move_on(upto, at_us);
            }
        }
    }

    /// Why nothing can have been lost where this gap says so.
    fn is_false(&self, gap: &Gap<'_>, scope: &str, reads_slowly: bool) -> Option<String> {
        let Gap { reason, .. } = gap;
        let family = family_of(scope);
        if *reason == SLOW {
            let keeps_newest = self.rules.newest.iter().any(|name| name == family);
            let says = match (keeps_newest, reads_slowly) {
                (true, true) => return None,
                (true, false) => "to a client that reads at once",
                (false, _) => "in a family that leaves nothing out",
            };
            return Some(format!("a gap ({reason}) {says}"));
        }
        let Some(began) = self.marks.fault_began else {
            return Some(format!("a gap ({reason}) before anything was broken"));
        };
        let keeps_nothing = self.rules.no_history.iter().any(|name| name == family);
        let stays_local = self.rules.local.iter().any(|name| name == family);
        if (*reason == "no_history" && keeps_nothing) || (*reason == "isolated" && stays_local) {
            return None;
        }
        if !self.rules.loses {
            return Some(format!("a gap ({reason}), and Redis lost nothing (the fault began on line {began})"));
        }
        let (ended, _) = self.marks.fault_ended?;
        let after = gap.after?;
        let value = &self.ledger.places(scope)?.known.get(&after)?.value;
        let published = self.ledger.get(value)?.line;
        (published > ended)
            .then(|| format!("a gap ({reason}) behind {after}, which was published after the fault was over"))
    }
}
