//! Which messages there are, what their publishers were told, and which one stands at each position.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::channel::{hears, scope_of};
use crate::frame::{Heard, hear};
use crate::position::Position;
use crate::record::{Answer, Retry};
use crate::verdict::{Kind, Tally, Verdict};

/// Every message of the run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    publications: HashMap<String, Publication>,
    scopes: HashMap<String, Places>,
    keyless: Vec<String>,
}

/// One message, however often it was sent.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) channel: String,
    /// Of its first `Publish`.
    pub(crate) line: usize,
    /// When that was (µs).
    pub(crate) at_us: u64,
    via: Option<String>,
    attempts: u32,
    /// Every attempt carried one id.
    has_id: bool,
    /// Where it stands, as publishers were told, and on which line.
    stored: Vec<(Position, usize)>,
    /// The instances that took it for their own clients alone.
    local: Vec<String>,
    /// Taken over at a level that names no position, which only `local` may be.
    refused: u32,
    /// Where receivers found it.
    found: BTreeMap<Position, usize>,
}

/// One scope.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// What stands where, as far as anybody was told.
    pub(crate) known: BTreeMap<Position, Place>,
    /// The newest offset of each generation: all below it have been handed out too.
    pub(crate) tops: BTreeMap<u64, u64>,
    /// Where its messages went.
    channels: BTreeSet<String>,
}

#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) value: String,
    /// Where this was told first.
    pub(crate) line: usize,
}

impl Ledger {
    pub(crate) fn new(keyless: Vec<String>) -> Self {
        Self { keyless, ..Self::default() }
    }

    pub(crate) fn scope_of<'c>(&self, channel: &'c str) -> &'c str {
        scope_of(channel, &self.keyless)
    }

    pub(crate) fn get(&self, value: &str) -> Option<&Publication> {
        self.publications.get(value)
    }

    pub(crate) fn places(&self, scope: &str) -> Option<&Places> {
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

    pub(crate) fn answered(&mut self, value: &str, answer: &Answer, line: usize, verdict: &mut Verdict) {
        let Some(publication) = self.publications.get_mut(value) else {
            return verdict.incomplete.push(format!("line {line}: an answer to {value}, which was never sent"));
        };
        let position = match answer {
            Answer::Reply(text) => text.parse().ok(),
            // Each error of Redis says that nothing was done.
            Answer::Error(_) => {
                publication.refused += 1;
                return;
            }
            Answer::Nothing(_) => return,
            Answer::Frame(text) => match hear(text) {
                Some(Heard::Ack { level, .. }) if level == "local" => {
                    publication.local.extend(publication.via.clone());
                    return;
                }
                Some(Heard::Ack { position, .. }) => position,
                Some(Heard::Error { code, .. }) if code == "unknown" || code == "internal" => return,
                Some(Heard::Error { code, retryable }) => {
                    publication.refused += 1;
                    if !retryable {
                        verdict.add(Kind::TerminalCode, value, format!("refused for good: {code}"), &[line]);
                    }
                    return;
                }
                _ => None,
            },
        };
        let Some(position) = position else {
            return verdict.add(Kind::Unreadable, value, format!("an answer without sense: {answer:?}"), &[line]);
        };
        publication.stored.push((position, line));
        let channel = publication.channel.clone();
        self.stands(&channel, position, value, line, verdict);
    }

    /// A gateway spoke of this position: it was handed out, and all below it.
    pub(crate) fn mentioned(&mut self, channel: &str, position: Position) {
        let scope = self.scope_of(channel).to_owned();
        self.scopes.entry(scope).or_default().raise(position);
    }

    /// A client received it at this position.
    pub(crate) fn found(&mut self, channel: &str, position: Position, value: &str, line: usize, verdict: &mut Verdict) {
        if let Some(publication) = self.publications.get_mut(value) {
            publication.found.entry(position).or_insert(line);
        }
        self.stands(channel, position, value, line, verdict);
    }

    fn stands(&mut self, channel: &str, position: Position, value: &str, line: usize, verdict: &mut Verdict) {
        let scope = self.scope_of(channel).to_owned();
        let places = self.scopes.entry(scope.clone()).or_default();
        places.raise(position);
        let place = places.known.entry(position).or_insert_with(|| Place { value: value.to_owned(), line });
        if place.value != value {
            let says = format!("{position} names {} and {value}", place.value);
            verdict.add(Kind::OffsetReused, scope, says, &[place.line, line]);
        }
    }

    /// Told at the end, when all answers are there.
    pub(crate) fn conclude(&self, loses: bool, verdict: &mut Verdict) {
        let mut values: Vec<_> = self.publications.iter().collect();
        values.sort_unstable_by_key(|(_, publication)| publication.line);
        for (value, publication) in values {
            publication.tell(&mut verdict.tally);
            let told = |position: &Position| publication.stored.iter().any(|(stored, _)| stored == position);
            if publication.stored.len() == publication.attempts as usize
                && let Some((position, line)) = publication.found.iter().find(|(position, _)| !told(position))
            {
                let (stored, told_at) = publication.stored[0];
                let says = format!("received at {position}, acknowledged at {stored}");
                verdict.add(Kind::Divergent, value, says, &[told_at, *line]);
            }
            if publication.local.len() == publication.attempts as usize
                && let Some((position, line)) = publication.found.first_key_value()
            {
                let says = format!("taken for one instance alone, received at {position}");
                verdict.add(Kind::Divergent, value, says, &[*line]);
            }
            if publication.has_id
                && !loses
                && let Some(two) = publication.stored.windows(2).find(|two| two[0].0 != two[1].0)
            {
                let says = format!("one id was stored twice, at {} and {}", two[0].0, two[1].0);
                verdict.add(Kind::Duplicate, value, says, &[two[0].1, two[1].1]);
            }
        }
    }
}

impl Publication {
    /// Whether a receiver may have it.
    pub(crate) fn may_exist(&self) -> bool {
        self.refused < self.attempts
    }

    /// How many times one receiver may get it. An id is forgotten by a Redis that loses what it knows.
    pub(crate) fn copies_max(&self, loses: bool) -> u32 {
        if self.has_id && !loses { 1 } else { self.attempts }
    }

    pub(crate) fn is_acknowledged(&self) -> bool {
        !self.stored.is_empty()
    }

    /// Whether clients of this instance may have it without a position.
    pub(crate) fn is_local_to(&self, instance: &str) -> bool {
        self.local.iter().any(|local| local == instance) || self.via.as_deref() == Some(instance)
    }

    fn tell(&self, tally: &mut Tally) {
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

impl Places {
    fn raise(&mut self, position: Position) {
        let top = self.tops.entry(position.generation).or_default();
        *top = (*top).max(position.offset);
    }

    /// The newest position that a publisher had been told before this line.
    pub(crate) fn acknowledged_before(&self, line: usize, ledger: &Ledger) -> Position {
        let told = |(at, place): &(&Position, &Place)| {
            ledger
                .get(&place.value)
                .is_some_and(|message| message.stored.iter().any(|(stored, told)| stored == *at && *told < line))
        };
        let newest = self.known.iter().rev().find(told).map(|(at, _)| *at);
        newest.unwrap_or(Position { generation: 0, offset: 0 })
    }

    /// Whether who hears `pattern` hears everything of the scope, so that its offsets must come without a hole.
    fn is_all(&self, pattern: &str) -> bool {
        self.channels.iter().all(|channel| hears(pattern, channel))
    }

    /// What who hears `pattern` is owed behind `start` up to `end`: positions, and the message where it is known.
    pub(crate) fn owed<'p>(
        &'p self,
        pattern: &str,
        start: Position,
        end: Position,
        ledger: &'p Ledger,
    ) -> Vec<(Position, Option<&'p Place>)> {
        if start >= end {
            return Vec::new();
        }
        if !self.is_all(pattern) {
            let range = self.known.range((std::ops::Bound::Excluded(start), std::ops::Bound::Included(end)));
            let heard = |place: &Place| ledger.get(&place.value).is_some_and(|p| hears(pattern, &p.channel));
            return range.filter(|(_, place)| heard(place)).map(|(at, place)| (*at, Some(place))).collect();
        }
        let mut owed = Vec::new();
        for (&generation, &top) in self.tops.range(start.generation..=end.generation) {
            let first = if generation == start.generation { start.offset + 1 } else { 1 };
            let last = if generation == end.generation { top.min(end.offset) } else { top };
            let positions = (first..=last).map(|offset| Position { generation, offset });
            owed.extend(positions.map(|position| (position, self.known.get(&position))));
        }
        owed
    }
}
