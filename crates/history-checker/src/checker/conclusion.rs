//! Judges what is known at the end of the log: missing messages, missing subscriptions, and how long recovery took.

use std::collections::{BTreeMap, BTreeSet};

use super::Checker;
use crate::channel::matches;
use crate::position::Position;
use crate::publications::PositionEntry;
use crate::verdict::{AnomalyKind, Verdict};
use crate::view::{View, ViewName};

/// A client that left on its own initiative less than this before the end of the fault may not be back yet: its absence
/// does not count as recovery time.
const AWAY_US_MAX: u64 = 5_000_000;

impl Checker {
    /// Judges the whole log and returns the verdict.
    #[must_use]
    pub fn conclude(mut self) -> Verdict {
        self.find_incomplete();
        self.find_who_stayed();
        self.publications.conclude(self.rules.loses, &mut self.verdict);
        for (name, view) in &self.views {
            let Some(places) = self.publications.places(self.publications.scope_of(&name.pattern)) else { continue };
            let place = format!("{} {}", name.client, name.pattern);
            for (index, segment) in view.segments.iter().enumerate() {
                let is_open = view.is_open && index + 1 == view.segments.len();
                segment.conclude(&name.pattern, &place, is_open, places, &self.publications, &mut self.verdict);
                if is_open && !self.rules.loses {
                    segment.conclude_newest(&name.pattern, &place, places, &self.publications, &mut self.verdict);
                }
            }
        }
        self.verdict.tally.clients = self.views.keys().map(|name| &name.client).collect::<BTreeSet<_>>().len() as u64;
        self.verdict.recovery_us = self.recoveries();
        self.verdict
    }

    fn find_incomplete(&mut self) {
        let marks = [
            ("first line with the rules of the run", self.marks.run),
            ("line that marks the end of publishing", self.marks.quiesced),
            ("last line", self.marks.end),
        ];
        for (what, mark) in marks {
            if mark.is_none() {
                self.verdict.incomplete.push(format!("there is no {what}"));
            }
        }
    }

    /// Marks the subscriptions that are confirmed at the end, and reports the missing ones.
    fn find_who_stayed(&mut self) {
        let mut scopes = BTreeSet::new();
        for connection in self.connections.values() {
            for pattern in connection.asked.keys() {
                let name = ViewName { client: connection.client.clone(), pattern: pattern.clone() };
                let place = format!("{} {pattern}", name.client);
                scopes.insert(self.publications.scope_of(pattern).to_owned());
                if connection.active.contains(pattern) {
                    self.views.entry(name).or_default().is_open = true;
                } else {
                    self.verdict.add(
                        AnomalyKind::LostTail,
                        place,
                        "its subscription was not confirmed at the end",
                        &[],
                    );
                }
            }
            if let Some(line) = connection.restoring {
                let detail = "it asked to restore its session and got no answer";
                self.verdict.add(AnomalyKind::LostTail, &connection.client, detail, &[line]);
            }
            if let Some(line) = connection.not_found {
                let why = format!("line {line}: {} got `found: false` and requested nothing", connection.client);
                self.verdict.incomplete.push(why);
            }
            for (pattern, line) in &connection.expected_gaps {
                let place = format!("{} {pattern}", connection.client);
                self.verdict.add(AnomalyKind::WrongResume, place, "not resumed, but no gap came", &[*line]);
            }
            for (scope, line) in &connection.expected_isolated_gaps {
                let place = format!("{} {scope}", connection.client);
                self.verdict.add(
                    AnomalyKind::SilentGap,
                    place,
                    "local messages came without a gap after them",
                    &[*line],
                );
            }
        }
        for client in &self.clients {
            if !self.connections.values().any(|connection| connection.client == *client) {
                self.verdict.add(AnomalyKind::LostTail, client, "it was not connected at the end", &[]);
            }
        }
        let quiesced = self.marks.quiesced.unwrap_or(usize::MAX);
        for scope in scopes {
            let is_sentinel = |value: &str| {
                self.publications.get(value).is_some_and(|message| message.line > quiesced && message.is_acknowledged())
            };
            let places = self.publications.places(&scope);
            if !places.is_some_and(|places| places.known.values().any(|place| is_sentinel(&place.value))) {
                self.verdict
                    .incomplete
                    .push(format!("no sentinel was acknowledged in {scope} after the end of publishing"));
            }
        }
    }

    /// For each client that was connected: the longest recovery of one of its subscriptions. It lasts from the end of
    /// the fault, or from the next publish if that was later, until the client had that message.
    fn recoveries(&self) -> Vec<u64> {
        let Some((ended, ended_us)) = self.marks.fault_ended else { return Vec::new() };
        let mut by_client: BTreeMap<&str, u64> = BTreeMap::new();
        let counts = |name: &ViewName, view: &View| view.is_open && !self.slow.contains(&name.client);
        for (name, view) in self.views.iter().filter(|(name, view)| counts(name, view)) {
            let (Some(segment), Some(places)) =
                (view.segments.last(), self.publications.places(self.publications.scope_of(&name.pattern)))
            else {
                continue;
            };
            let later = |(at, place): (&Position, &PositionEntry)| {
                let message = self.publications.get(&place.value)?;
                let counts =
                    message.line > ended && message.is_acknowledged() && matches(&name.pattern, &message.channel);
                counts.then_some((*at, message.at_us))
            };
            let Some((target, sent_us)) = places.known.iter().find_map(later) else { continue };
            let there = segment.steps.iter().find(|(position, at_us)| *position >= target && *at_us >= ended_us);
            let Some((_, there_us)) = there else { continue };
            let away = (ended_us.saturating_sub(AWAY_US_MAX), *there_us);
            let was_away = |left_us: &u64| away.0 <= *left_us && *left_us <= away.1;
            if !self.left.get(&name.client).is_some_and(|left| left.iter().any(was_away)) {
                let took = by_client.entry(&name.client).or_default();
                *took = (*took).max(there_us.saturating_sub(ended_us.max(sent_us)));
            }
        }
        by_client.into_values().collect()
    }
}
