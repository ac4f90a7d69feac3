//! What one subscription has received since it last began without a position, over any number of resumptions.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::channel::matches;
use crate::position::Position;
use crate::publications::{PositionEntry, PublicationLog, ScopePositions};
use crate::verdict::{AnomalyKind, Verdict};

/// A position after all others.
pub(crate) const END: Position = Position { generation: u64::MAX, offset: u64::MAX };

#[derive(Debug)]
pub(crate) struct Segment {
    /// Everything after this position must be received.
    pub(crate) start: Position,
    start_line: usize,
    /// It repeats a part of the segment before it.
    pub(crate) is_again: bool,
    /// The line of the request, if it began without a position.
    asked_line: Option<usize>,
    /// The gateway states that everything up to this position has been delivered or announced as a gap.
    pub(crate) at: Position,
    /// Positions received, each with its line.
    received: BTreeMap<Position, usize>,
    /// Number of times that each message was received.
    copies: HashMap<String, u32>,
    /// The announced gaps: after the first position, up to the second.
    gaps: Vec<(Position, Position)>,
    /// The gaps for a slow client, which gets only the newest message of each topic.
    slow_gaps: Vec<(Position, Position)>,
    /// Positions reached, each with its time (µs).
    pub(crate) steps: Vec<(Position, u64)>,
}

impl Segment {
    pub(crate) fn new(start: Position, line: usize, asked_line: Option<usize>) -> Self {
        Self {
            start,
            start_line: line,
            is_again: false,
            asked_line,
            at: start,
            received: BTreeMap::new(),
            copies: HashMap::new(),
            gaps: Vec::new(),
            slow_gaps: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// A segment that repeats some of the messages received before.
    pub(crate) fn again(start: Position, line: usize) -> Self {
        Self { is_again: true, ..Self::new(start, line, None) }
    }

    /// Takes a message. Returns the anomaly, if there is one.
    pub(crate) fn receive(
        &mut self,
        position: Position,
        value: &str,
        line: usize,
    ) -> Option<(AnomalyKind, String, usize)> {
        *self.copies.entry(value.to_owned()).or_default() += 1;
        if let Some(&before) = self.received.get(&position) {
            return Some((AnomalyKind::Duplicate, format!("{position} came twice"), before));
        }
        self.received.insert(position, line);
        if position <= self.start {
            return Some((
                AnomalyKind::WrongResume,
                format!("{position} came, but it begins after {}", self.start),
                self.start_line,
            ));
        }
        if position <= self.at {
            let before = self.received.get(&self.at).copied().unwrap_or(self.start_line);
            return Some((AnomalyKind::Reorder, format!("{position} came after {}", self.at), before));
        }
        None
    }

    pub(crate) fn copies(&self, value: &str) -> u32 {
        self.copies.get(value).copied().unwrap_or(0)
    }

    pub(crate) fn move_on(&mut self, position: Position, at_us: u64) {
        if position > self.at {
            self.at = position;
            self.steps.push((position, at_us));
        }
    }

    /// A gap that ends before it begins says that the history was set back: it is not known what was after `after`.
    pub(crate) fn announce(&mut self, after: Option<Position>, upto: Option<Position>, is_slow: bool) {
        let after = after.unwrap_or(self.start);
        let rest = Position { offset: u64::MAX, ..after };
        let gaps = if is_slow { &mut self.slow_gaps } else { &mut self.gaps };
        gaps.push((after, upto.filter(|upto| *upto >= after).unwrap_or(rest)));
    }

    /// Judges what the subscription should have received and did not. `is_open`: it had to receive everything to the
    /// end.
    pub(crate) fn conclude(
        &self,
        pattern: &str,
        place: &str,
        is_open: bool,
        places: &ScopePositions,
        publications: &PublicationLog,
        verdict: &mut Verdict,
    ) {
        let end = if is_open { END } else { self.at };
        // A subscription without a position need not receive what had been acknowledged before its request. Its own
        // position may be lower, because Redis may have lost those messages meanwhile.
        let start =
            self.asked_line.map_or(self.start, |line| places.acknowledged_before(line, publications).max(self.start));
        let mut missing: Vec<(Position, Option<&PositionEntry>)> = Vec::new();
        for (position, known) in places.expected(pattern, start, end, publications) {
            if !self.has(position) {
                if missing.last().is_some_and(|(last, _)| *last <= self.at && position > self.at) {
                    self.write_report(place, &std::mem::take(&mut missing), verdict);
                }
                missing.push((position, known));
            } else if !missing.is_empty() {
                self.write_report(place, &std::mem::take(&mut missing), verdict);
            }
        }
        if !missing.is_empty() {
            self.write_report(place, &missing, verdict);
        }
        self.conclude_start(pattern, place, start, places, publications, verdict);
    }

    /// Messages that were published after the confirmation of the subscription must be received, whatever their
    /// position.
    fn conclude_start(
        &self,
        pattern: &str,
        place: &str,
        start: Position,
        places: &ScopePositions,
        publications: &PublicationLog,
        verdict: &mut Verdict,
    ) {
        for (position, known) in places.known.range(..=start) {
            let Some(publication) = publications.get(&known.value) else { continue };
            let is_expected = publication.line > self.start_line && matches(pattern, &publication.channel);
            if is_expected && !self.has(*position) {
                let detail = format!(
                    "{} at {position} was published after the subscription began at {}",
                    known.value, self.start
                );
                verdict.add(AnomalyKind::SilentGap, place, detail, &[self.start_line, publication.line, known.line]);
            }
        }
    }

    /// A client that reads too slowly may miss older messages, but not the newest one of a topic.
    pub(crate) fn conclude_newest(
        &self,
        pattern: &str,
        place: &str,
        places: &ScopePositions,
        publications: &PublicationLog,
        verdict: &mut Verdict,
    ) {
        let mut topics = BTreeSet::new();
        for (position, known) in places.known.iter().rev().take_while(|(position, _)| **position > self.start) {
            let Some(publication) = publications.get(&known.value) else { continue };
            let is_newest = matches(pattern, &publication.channel) && topics.insert(&publication.channel);
            if is_newest && !self.received.contains_key(position) && is_in(&self.slow_gaps, *position) {
                let detail = format!("{} at {position} is the newest of its topic, but was left out", known.value);
                verdict.add(AnomalyKind::SilentGap, place, detail, &[publication.line, known.line]);
            }
        }
    }

    fn has(&self, position: Position) -> bool {
        self.received.contains_key(&position) || is_in(&self.gaps, position) || is_in(&self.slow_gaps, position)
    }

    fn write_report(&self, place: &str, missing: &[(Position, Option<&PositionEntry>)], verdict: &mut Verdict) {
        let (first, last) = (missing[0].0, missing[missing.len() - 1].0);
        let kind = if last > self.at { AnomalyKind::LostTail } else { AnomalyKind::SilentGap };
        let known = missing.iter().find_map(|(_, known)| *known);
        let example = known.map_or("unknown", |place| place.value.as_str());
        let detail = format!("{} messages, {first} to {last}, never came; the first known is {example}", missing.len());
        let before = self.received.range(..first).next_back().map_or(self.start_line, |(_, line)| *line);
        let after = self.received.range(last..).next().map(|(_, line)| *line);
        let lines: Vec<usize> = [Some(before), known.map(|known| known.line), after].into_iter().flatten().collect();
        verdict.add(kind, place, detail, &lines);
    }
}

fn is_in(gaps: &[(Position, Position)], position: Position) -> bool {
    gaps.iter().any(|(after, upto)| *after < position && position <= *upto)
}
