//! The checker: it reads the log from the first line to the last.

mod conclusion;
mod event_stream;
mod session;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use self::session::Again;
use crate::channel::{family_of, matches};
use crate::connection::{Connection, SubscribeRequest};
use crate::frame::{ServerMessage, read_frame, say};
use crate::position::Position;
use crate::publications::PublicationLog;
use crate::record::{Event, Record, Transport};
use crate::segment::Segment;
use crate::sessions::Sessions;
use crate::verdict::{AnomalyKind, Verdict};
use crate::view::{View, ViewName};

/// Reason of a gap for a client that reads too slowly.
const SLOW: &str = "slow";

/// Takes the lines of a log with [`Self::feed`], and judges them with [`Self::conclude`].
#[derive(Debug, Default)]
pub struct Checker {
    rules: Rules,
    publications: PublicationLog,
    connections: HashMap<u64, Connection>,
    sessions: Sessions,
    /// The id of the last complete event of each client of an event stream.
    last_ids: HashMap<String, String>,
    views: BTreeMap<ViewName, View>,
    /// Clients that must be connected at the end.
    clients: BTreeSet<String>,
    /// Clients that read too slowly on purpose.
    slow: BTreeSet<String>,
    /// Times (µs) at which clients left on their own initiative.
    left: HashMap<String, Vec<u64>>,
    verdict: Verdict,
    line: usize,
    at_us: u64,
    /// The lines of the milestones of the run.
    marks: Marks,
}

/// The rules of the run, from its first line.
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
    /// The last one, and its time (µs).
    fault_ended: Option<(usize, u64)>,
    quiesced: Option<usize>,
    end: Option<usize>,
}

/// The content of a gap frame.
struct Gap<'g> {
    pattern: &'g str,
    after: Option<Position>,
    upto: Option<Position>,
    reason: &'g str,
}

impl Checker {
    /// A checker that has read no line.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next line as text. A line that is not a record is reported in the verdict as incomplete.
    pub fn feed_line(&mut self, text: &str) {
        match serde_json::from_str::<Record>(text) {
            Ok(record) => self.feed(&record),
            Err(error) => {
                self.line += 1;
                self.verdict.incomplete.push(format!("line {}: {error}", self.line));
            }
        }
    }

    /// Takes the next line as a record.
    pub fn feed(&mut self, record: &Record) {
        self.line += 1;
        self.at_us = record.at_us;
        let line = self.line;
        match &record.event {
            Event::Run { loses, keyless, no_history, local, newest, forgets, .. } => {
                self.marks.run = Some(line);
                self.publications = PublicationLog::new(keyless.clone());
                let (no_history, local, newest) = (no_history.clone(), local.clone(), newest.clone());
                self.rules = Rules { loses: *loses, no_history, local, newest, forgets: *forgets };
            }
            Event::Publish { value, channel, via, retry } => {
                self.publications.publish(value, channel, via.as_deref(), *retry, (line, record.at_us));
            }
            Event::Answered { value, answer } => self.publications.answered(value, answer, line, &mut self.verdict),
            Event::Opened { client, connection, instance, reads_slowly, transport } => {
                self.verdict.tally.connections += 1;
                self.verdict.tally.event_streams += u64::from(*transport == Transport::EventStream);
                self.clients.insert(client.clone());
                if *reads_slowly {
                    self.slow.insert(client.clone());
                }
                let opened = Connection::new(client.clone(), instance.clone(), *reads_slowly, *transport);
                self.connections.insert(*connection, opened);
            }
            Event::Sent { connection, text } => self.sent(*connection, text),
            Event::Requested { connection, target, last_event_id } => {
                self.requested(*connection, target, last_event_id.as_deref());
            }
            Event::Refused { connection, status } => self.refused_request(*connection, *status),
            Event::Received { connection, text } => self.received(*connection, text),
            Event::Closed { connection, intended, code, .. } => self.closed(*connection, *intended, *code),
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
        for request in said.subscriptions {
            if connection.keeps_session {
                self.sessions.subscriptions(&connection.client).asked.insert(request.channel.clone());
            }
            connection.not_found = None;
            connection.asked.insert(request.channel, SubscribeRequest { after: request.after, line, restored: None });
        }
    }

    fn closed(&mut self, number: u64, intended: bool, code: Option<u16>) {
        if let Some(code) = code {
            self.turned_away(number, code, "closed");
        }
        let Some(connection) = self.connections.remove(&number) else { return };
        if let Some(session) = &connection.session {
            self.sessions.end(session, number, self.line);
        }
        if intended {
            self.left.entry(connection.client).or_default().push(self.at_us);
        }
    }

    fn received(&mut self, number: u64, text: &str) {
        // The reader received it before another part of the run closed the connection. A late frame proves nothing.
        let Some(connection) = self.connections.get(&number) else { return };
        match connection.transport {
            Transport::WebSocket => self.frame(number, text),
            Transport::EventStream => self.event(number, text),
        }
    }

    fn frame(&mut self, number: u64, text: &str) {
        let Some(connection) = self.connections.get(&number) else { return };
        let client = connection.client.clone();
        let line = self.line;
        match read_frame(text) {
            None => self.verdict.add(AnomalyKind::Unreadable, &client, text, &[line]),
            Some(ServerMessage::Message { channel, value, position }) => {
                self.verdict.tally.deliveries += 1;
                match position {
                    Some(position) => self.message(number, &channel, value, position),
                    None => self.local_message(number, &channel, value),
                }
            }
            Some(ServerMessage::Subscribed { channel, position, resumed, degraded }) => {
                if !degraded {
                    self.subscribed(number, &channel, position, resumed);
                }
            }
            Some(ServerMessage::Unsubscribed { channel }) => {
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.active.remove(&channel);
                    connection.asked.remove(&channel);
                }
            }
            Some(ServerMessage::Position { channel, position }) => {
                let at_us = self.at_us;
                self.publications.mentioned(&channel, position);
                if let Some(segment) = self.view(&client, &channel).current() {
                    segment.move_on(position, at_us);
                }
            }
            Some(ServerMessage::Gap { channel, after, upto, reason }) => {
                self.gap(number, &Gap { pattern: &channel, after, upto, reason: &reason });
            }
            Some(ServerMessage::Welcome { session, instance }) => self.welcome(number, session, instance),
            Some(ServerMessage::Restored(restored)) => self.restored(number, restored),
            Some(ServerMessage::Error { code, retryable }) => {
                if !retryable {
                    self.refused(number, &code);
                }
            }
            Some(ServerMessage::Bye { code, reconnect }) => {
                if !reconnect {
                    self.turned_away(number, code, "a bye");
                }
            }
            Some(ServerMessage::Degraded(_) | ServerMessage::Ack { .. } | ServerMessage::Other) => {}
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
            return self.verdict.add(AnomalyKind::Phantom, place, "subscribed without a request", &[line]);
        };
        connection.active.insert(pattern.to_owned());
        let goes_on =
            connection.keeps_session && !self.sessions.subscriptions(&client).confirmed.insert(pattern.to_owned());
        let Some(position) = position else {
            return self.verdict.add(AnomalyKind::WrongResume, place, "subscribed without a position", &[line]);
        };
        self.publications.mentioned(pattern, position);
        if let (None, Some(repeats)) = (asked.after, asked.restored) {
            let again = Again { pattern, position, resumed, repeats, goes_on };
            return self.subscribed_again(number, &again);
        }
        let SubscribeRequest { after: asked, line: asked_line, .. } = asked;
        match asked {
            Some(asked) if resumed => {
                self.verdict.tally.resumed += 1;
                if position != asked {
                    let detail = format!("requested from {asked}, resumed from {position}");
                    self.verdict.add(AnomalyKind::WrongResume, place, detail, &[line]);
                }
            }
            Some(_) => {
                connection.expected_gaps.insert(pattern.to_owned(), line);
            }
            None if resumed => {
                self.verdict.add(AnomalyKind::WrongResume, place, "resumed, but no position was given", &[line]);
            }
            None => {}
        }
        let start = asked.unwrap_or(position);
        let (is_event_stream, at_us) = (connection.transport == Transport::EventStream, self.at_us);
        let view = self.view(&client, pattern);
        // A browser cannot choose: where it resumes from is the id's fault, and what the id passes over is missing.
        if let (true, Some(asked), Some(segment)) = (is_event_stream, asked, view.current()) {
            return segment.move_on(asked, at_us);
        }
        let at = view.current().map(|segment| segment.at);
        // A client that gives its own position continues; any other begins a new segment.
        if asked.is_none() || at != Some(start) {
            view.segments.push(Segment::new(start, line, asked.is_none().then_some(asked_line)));
        }
        if asked.is_some() && Some(start) > at {
            let why =
                format!("line {line}: {client} resumed {pattern} from {start}, a position that it never received");
            self.verdict.incomplete.push(why);
        }
    }

    fn message(&mut self, number: u64, channel: &str, value: Option<String>, position: Position) {
        let line = self.line;
        let Some(connection) = self.connections.get(&number) else { return };
        let client = connection.client.clone();
        let matching_subscriptions = connection.matching_subscriptions(channel);
        let expected: Vec<_> = matching_subscriptions
            .iter()
            .filter_map(|pattern| connection.expected_gaps.get(pattern).copied())
            .collect();
        let Some(value) = self.check_value(&client, channel, value) else { return };
        if matching_subscriptions.is_empty() {
            let detail = format!("{value} on {channel}, to which it is not subscribed");
            self.verdict.add(AnomalyKind::Phantom, &client, detail, &[line]);
        }
        for since_line in expected {
            let detail = format!("{position} came where a gap was expected");
            self.verdict.add(AnomalyKind::WrongResume, format!("{client} {channel}"), detail, &[since_line, line]);
        }
        self.publications.found(channel, position, &value, line, &mut self.verdict);
        let copies_max =
            self.publications.get(&value).map_or(1, |publication| publication.copies_max(self.rules.loses));
        let at_us = self.at_us;
        for pattern in matching_subscriptions {
            let Some(segment) = self.view(&client, &pattern).current() else { continue };
            let mut wrong = segment.receive(position, &value, line);
            let copies = segment.copies(&value);
            segment.move_on(position, at_us);
            if wrong.is_none() && copies > copies_max {
                wrong = Some((AnomalyKind::Duplicate, format!("{value} came {copies} times"), line));
            }
            if let Some((kind, detail, before)) = wrong {
                self.verdict.add(kind, format!("{client} {pattern}"), detail, &[before, line]);
            }
        }
    }

    /// Returns the message's value if the message may exist at all.
    fn check_value(&mut self, client: &str, channel: &str, value: Option<String>) -> Option<String> {
        let line = self.line;
        let publication = value.as_deref().and_then(|value| self.publications.get(value));
        let detail = match (&value, publication) {
            (None, _) => String::from("a message without a value"),
            (Some(value), None) => format!("{value} was never sent"),
            (Some(value), Some(publication)) if publication.channel != channel => {
                format!("{value} was sent to {} and came on {channel}", publication.channel)
            }
            (Some(value), Some(publication)) if !publication.may_exist() => {
                format!("{value} was refused, but came")
            }
            _ => return value,
        };
        self.verdict.add(AnomalyKind::Phantom, client, detail, &[line]);
        None
    }

    /// A message without a position is valid only while Redis is away, and only on the instance that accepted it.
    fn local_message(&mut self, number: u64, channel: &str, value: Option<String>) {
        let line = self.line;
        let Some(connection) = self.connections.get(&number) else { return };
        let client = connection.client.clone();
        let Some(value) = self.check_value(&client, channel, value) else { return };
        let scope = self.publications.scope_of(channel).to_owned();
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let may_be = self.rules.local.iter().any(|family| family == family_of(channel))
            && self.publications.get(&value).is_some_and(|publication| publication.is_local_to(&connection.instance));
        if !may_be {
            let detail = format!("{value} came without a position");
            self.verdict.add(AnomalyKind::Phantom, &client, detail, &[line]);
        } else if !connection.asked.keys().any(|pattern| matches(pattern, channel)) {
            let detail = format!("{value} on {channel}, to which it is not subscribed");
            self.verdict.add(AnomalyKind::Phantom, &client, detail, &[line]);
        } else if !connection.local.insert(value.clone()) {
            self.verdict.add(
                AnomalyKind::Duplicate,
                &client,
                format!("{value} came twice without a position"),
                &[line],
            );
        }
        connection.expected_isolated_gaps.entry(scope).or_insert(line);
    }

    fn gap(&mut self, number: u64, gap: &Gap<'_>) {
        let line = self.line;
        *self.verdict.tally.gaps.entry(gap.reason.to_owned()).or_default() += 1;
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let client = connection.client.clone();
        let scope = self.publications.scope_of(gap.pattern).to_owned();
        connection.expected_gaps.remove(gap.pattern);
        let is_isolated = gap.reason == "isolated";
        let received_local = is_isolated && connection.expected_isolated_gaps.remove(&scope).is_some();
        let reads_slowly = connection.reads_slowly;
        if !received_local && let Some(detail) = self.is_false(gap, &scope, reads_slowly) {
            self.verdict.add(AnomalyKind::FalseGap, format!("{client} {}", gap.pattern), detail, &[line]);
        }
        let at_us = self.at_us;
        gap.after.into_iter().chain(gap.upto).for_each(|position| self.publications.mentioned(gap.pattern, position));
        if let Some(segment) = self.view(&client, gap.pattern).current() {
            // An isolated gap leaves nothing of the history out.
            if !is_isolated {
                segment.announce(gap.after, gap.upto, gap.reason == SLOW);
            }
            if let Some(upto) = gap.upto {
                segment.move_on(upto, at_us);
            }
        }
    }

    /// Returns why nothing can have been lost where this gap reports a loss.
    fn is_false(&self, gap: &Gap<'_>, scope: &str, reads_slowly: bool) -> Option<String> {
        let Gap { reason, .. } = gap;
        let family = family_of(scope);
        if *reason == SLOW {
            let keeps_newest = self.rules.newest.iter().any(|name| name == family);
            let detail = match (keeps_newest, reads_slowly) {
                (true, true) => return None,
                (true, false) => "to a client that reads at once",
                (false, _) => "in a family that does not conflate messages",
            };
            return Some(format!("a gap ({reason}) {detail}"));
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
            return Some(format!("a gap ({reason}), but Redis lost nothing (the fault began on line {began})"));
        }
        let (ended, _) = self.marks.fault_ended?;
        let after = gap.after?;
        let value = &self.publications.places(scope)?.known.get(&after)?.value;
        let published = self.publications.get(value)?.line;
        (published > ended)
            .then(|| format!("a gap ({reason}) after {after}, which was published after the end of the fault"))
    }
}
