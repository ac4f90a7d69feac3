//! The messages of a run: what their publishers were told, and which message is at each position.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::channel::{matches, scope_of};
use crate::frame::{ServerMessage, read_frame};
use crate::position::Position;
use crate::record::{PublishAnswer, Retry};
use crate::verdict::{AnomalyKind, Tally, Verdict};

/// Every message of the run.
#[derive(Debug, Default)]
pub(crate) struct PublicationLog {
    publications: HashMap<String, Publication>,
    scopes: HashMap<String, ScopePositions>,
    keyless: Vec<String>,
}

/// One message, however often it was sent.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) channel: String,
    /// Line of its first `Publish`.
    pub(crate) line: usize,
    /// Time of its first `Publish` (µs).
    pub(crate) at_us: u64,
    via: Option<String>,
    attempts: u32,
    /// All attempts carried the same id.
    has_id: bool,
    /// The positions that publishers were told, each with its line.
    stored: Vec<(Position, usize)>,
    /// The instances that accepted it for their own clients only.
    local: Vec<String>,
    /// Number of attempts that were refused.
    refused: u32,
    /// The positions at which receivers found it, each with its first line.
    found: BTreeMap<Position, usize>,
}

/// The positions of one scope.
#[derive(Debug, Default)]
pub(crate) struct ScopePositions {
    /// The message at each position, as far as it was reported to a publisher or receiver.
    pub(crate) known: BTreeMap<Position, PositionEntry>,
    /// The newest offset of each generation. All lower offsets have been given out too.
    pub(crate) tops: BTreeMap<u64, u64>,
    /// The channels of its messages.
    channels: BTreeSet<String>,
}

#[derive(Debug)]
pub(crate) struct PositionEntry {
    pub(crate) value: String,
    /// The line on which this was first reported.
    pub(crate) line: usize,
}

impl PublicationLog {
    pub(crate) fn new(keyless: Vec<String>) -> Self {
        Self { keyless, ..Self::default() }
    }

    pub(crate) fn scope_of<'c>(&self, channel: &'c str) -> &'c str {
        scope_of(channel, &self.keyless)
    }

    pub(crate) fn get(&self, value: &str) -> Option<&Publication> {
        self.publications.get(value)
    }

    pub(crate) fn places(&self, scope: &str) -> Option<&ScopePositions> {
        self.scopes.get(scope)
    }

    pub(crate) fn publish(&mut self, value: &str, channel: &str, via: Option<&str>, retry: Retry, now: (usize, u64)) {
        let scope = self.scope_of(channel).to_owned();
        self.scopes.entry(scope).or_default().channels.insert(channel.to_owned());
        let publication = self.publications.entry(value.to_owned()).or_insert_with(|| Publication {
            channel: channel.to_owned(),
            line: now.0,
            at_us: now.1,
            via: None,
            attempts: 0,
            has_id: true,
            stored: Vec::new(),
            local: Vec::new(),
            refused: 0,
            found: BTreeMap::new(),
        });
        publication.via = via.map(str::to_owned);
        publication.attempts += 1;
        publication.has_id &= retry != Retry::Blind;
    }

    pub(crate) fn answered(&mut self, value: &str, answer: &PublishAnswer, line: usize, verdict: &mut Verdict) {
        let Some(publication) = self.publications.get_mut(value) else {
            return verdict.incomplete.push(format!("line {line}: an answer to {value}, which was never sent"));
        };
        let position = match answer {
            PublishAnswer::Reply(text) => text.parse().ok(),
            // Every error of Redis says that nothing was done.
            PublishAnswer::Error(_) => {
                publication.refused += 1;
                return;
            }
            PublishAnswer::Nothing(_) => return,
            PublishAnswer::Frame(text) => match read_frame(text) {
                Some(ServerMessage::Ack { level, .. }) if level == "local" => {
                    publication.local.extend(publication.via.clone());
                    return;
                }
                Some(ServerMessage::Ack { position, .. }) => position,
                Some(ServerMessage::Error { code, .. }) if code == "unknown" || code == "internal" => return,
                Some(ServerMessage::Error { code, retryable }) => {
                    publication.refused += 1;
                    if !retryable {
                        verdict.add(AnomalyKind::TerminalCode, value, format!("refused for good: {code}"), &[line]);
                    }
                    return;
                }
                _ => None,
            },
        };
        let Some(position) = position else {
            return verdict.add(AnomalyKind::Unreadable, value, format!("an unreadable answer: {answer:?}"), &[line]);
        };
        publication.stored.push((position, line));
        let channel = publication.channel.clone();
        self.position_now(&channel, position, value, line, verdict);
    }

    /// A gateway has named this position, so that it and all lower ones were given out.
    pub(crate) fn mentioned(&mut self, channel: &str, position: Position) {
        let scope = self.scope_of(channel).to_owned();
        self.scopes.entry(scope).or_default().raise(position);
    }

    /// A client received the message at this position.
    pub(crate) fn found(&mut self, channel: &str, position: Position, value: &str, line: usize, verdict: &mut Verdict) {
        if let Some(publication) = self.publications.get_mut(value) {
            publication.found.entry(position).or_insert(line);
        }
        self.position_now(channel, position, value, line, verdict);
    }

    fn position_now(&mut self, channel: &str, position: Position, value: &str, line: usize, verdict: &mut Verdict) {
        let scope = self.scope_of(channel).to_owned();
        let places = self.scopes.entry(scope.clone()).or_default();
        places.raise(position);
        let place = places.known.entry(position).or_insert_with(|| PositionEntry { value: value.to_owned(), line });
        if place.value != value {
            let detail = format!("{position} names {} and {value}", place.value);
            verdict.add(AnomalyKind::OffsetReused, scope, detail, &[place.line, line]);
        }
    }

    /// Judges the messages at the end, when all answers are known.
    pub(crate) fn conclude(&self, loses: bool, verdict: &mut Verdict) {
        let mut values: Vec<_> = self.publications.iter().collect();
        values.sort_unstable_by_key(|(_, publication)| publication.line);
        for (value, publication) in values {
            publication.write_report(&mut verdict.tally);
            let was_reported = |position: &Position| publication.stored.iter().any(|(stored, _)| stored == position);
            if publication.stored.len() == publication.attempts as usize
                && let Some((position, line)) = publication.found.iter().find(|(position, _)| !was_reported(position))
            {
                let (stored, reported_at) = publication.stored[0];
                let detail = format!("received at {position}, acknowledged at {stored}");
                verdict.add(AnomalyKind::Divergent, value, detail, &[reported_at, *line]);
            }
            if publication.local.len() == publication.attempts as usize
                && let Some((position, line)) = publication.found.first_key_value()
            {
                let detail = format!("accepted for one instance only, but received at {position}");
                verdict.add(AnomalyKind::Divergent, value, detail, &[*line]);
            }
            if publication.has_id
                && !loses
                && let Some(two) = publication.stored.windows(2).find(|two| two[0].0 != two[1].0)
            {
                let detail = format!("one id was stored twice, at {} and {}", two[0].0, two[1].0);
                verdict.add(AnomalyKind::Duplicate, value, detail, &[two[0].1, two[1].1]);
            }
        }
    }
}

impl Publication {
    /// Whether a receiver may get it.
    pub(crate) fn may_exist(&self) -> bool {
        self.refused < self.attempts
    }

    /// How often one receiver may get it. A Redis that loses data forgets ids too.
    pub(crate) fn copies_max(&self, loses: bool) -> u32 {
        if self.has_id && !loses { 1 } else { self.attempts }
    }

    pub(crate) fn is_acknowledged(&self) -> bool {
        !self.stored.is_empty()
    }

    /// Whether clients of this instance may get it without a position.
    pub(crate) fn is_local_to(&self, instance: &str) -> bool {
        self.local.iter().any(|local| local == instance) || self.via.as_deref() == Some(instance)
    }

    fn write_report(&self, tally: &mut Tally) {
        tally.messages += 1;
        if self.is_acknowledged() || !self.local.is_empty() {
            tally.acknowledged += 1;
        } else if self.may_exist() {
            tally.unknown += 1;
        } else {
            tally.refused += 1;
        }
    }
}

impl ScopePositions {
    fn raise(&mut self, position: Position) {
        let top = self.tops.entry(position.generation).or_default();
        *top = (*top).max(position.offset);
    }

    /// The newest position that a publisher was told before this line.
    pub(crate) fn acknowledged_before(&self, line: usize, publications: &PublicationLog) -> Position {
        let was_reported = |(at, place): &(&Position, &PositionEntry)| {
            publications.get(&place.value).is_some_and(|message| {
                message.stored.iter().any(|(stored, was_reported)| stored == *at && *was_reported < line)
            })
        };
        let newest = self.known.iter().rev().find(was_reported).map(|(at, _)| *at);
        newest.unwrap_or(Position { generation: 0, offset: 0 })
    }

    /// Whether `pattern` matches every channel of the scope, so that its offsets must come without a hole.
    fn is_all(&self, pattern: &str) -> bool {
        self.channels.iter().all(|channel| matches(pattern, channel))
    }

    /// The positions after `start` up to `end` that a subscription to `pattern` must receive, each with its message if
    /// that is known.
    pub(crate) fn expected<'p>(
        &'p self,
        pattern: &str,
        start: Position,
        end: Position,
        publications: &'p PublicationLog,
    ) -> Vec<(Position, Option<&'p PositionEntry>)> {
        if start >= end {
            return Vec::new();
        }
        if !self.is_all(pattern) {
            let range = self.known.range((std::ops::Bound::Excluded(start), std::ops::Bound::Included(end)));
            let received =
                |place: &PositionEntry| publications.get(&place.value).is_some_and(|p| matches(pattern, &p.channel));
            return range.filter(|(_, place)| received(place)).map(|(at, place)| (*at, Some(place))).collect();
        }
        let mut expected = Vec::new();
        for (&generation, &top) in self.tops.range(start.generation..=end.generation) {
            let first = if generation == start.generation { start.offset + 1 } else { 1 };
            let last = if generation == end.generation { top.min(end.offset) } else { top };
            let positions = (first..=last).map(|offset| Position { generation, offset });
            expected.extend(positions.map(|position| (position, self.known.get(&position))));
        }
        expected
    }
}
