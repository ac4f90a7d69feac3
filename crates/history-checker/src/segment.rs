//! What one subscription has been told since it last began afresh, over any number of resumptions.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::channel::matches;
use crate::position::Position;
use crate::publications::{PositionEntry, PublicationLog, ScopePositions};
use crate::verdict::{AnomalyKind, Verdict};

/// Behind everything.
pub(crate) const END: Position = Position { generation: u64::MAX, offset: u64::MAX };

#[derive(Debug)]
pub(crate) struct Segment {
    /// What is behind this is owed.
    pub(crate) start: Position,
    start_line: usize,
    /// It repeats some of the segment before.
    pub(crate) is_again: bool,
    /// Where it was asked for, if it began afresh.
    asked_line: Option<usize>,
    /// Everything up to here has been delivered or announced, says the gateway.
    pub(crate) at: Position,
    /// Positions received, and on which line.
    received: BTreeMap<Position, usize>,
    /// How often each message was received.
    copies: HashMap<String, u32>,
    /// What was announced: behind the first, up to the second.
    gaps: Vec<(Position, Position)>,
    /// Of those, where the client read too slowly and gets the newest of each topic alone.
    slow_gaps: Vec<(Position, Position)>,
    /// How far it had come when (µs).
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

    /// One that gives some of what was received before again.
    pub(crate) fn again(start: Position, line: usize) -> Self {
        Self { is_again: true, ..Self::new(start, line, None) }
    }

    /// Takes a message, and says what is wrong with its coming now.
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
            return Some((AnomalyKind::WrongResume, format!("{position} came behind {}", self.start), self.start_line));
        }
        if position <= self.at {
            let before = self.received.get(&self.at).copied().unwrap_or(self.start_line);
            return Some((AnomalyKind::Reorder, format!("{position} came behind {}", self.at), before));
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

    /// A gap that ends before it begins says that the history was wound back: nobody knows what stood behind `after`.
    pub(crate) fn announce(&mut self, after: Option<Position>, upto: Option<Position>, is_slow: bool) {
        let after = after.unwrap_or(self.start);
        let rest = Position { offset: u64::MAX, ..after };
        let gaps = if is_slow { &mut self.slow_gaps } else { &mut self.gaps };
        gaps.push((after, upto.filter(|upto| *upto >= after).unwrap_or(rest)));
    }

    /// What it should have been told and was not. `is_open`: it was to hear everything to the end.
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
        // One that begins afresh is not owed what had been acknowledged before it asked. Its position may lie below that:
        // Redis may have lost it meanwhile.
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

    /// What was published after the subscription stood is owed, wherever it stands.
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

    /// Who reads too slowly may go without older messages, and not without the newest of a topic.
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
                let detail = format!("{} at {position} is the newest of its topic, and was left out", known.value);
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
        let example = known.map_or("nobody knows which", |place| place.value.as_str());
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
