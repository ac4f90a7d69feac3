//! The findings of the checker.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of anomalies: errors in the history without notice, false alarms, and terminal codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyKind {
    /// One position names two messages.
    OffsetReused,
    /// A message is missing, and later ones came.
    SilentGap,
    /// A message came twice.
    Duplicate,
    /// A message came after a later one.
    Reorder,
    /// The last messages never arrived, or a client did not reconnect.
    LostTail,
    /// A message came that was never published, was refused, or was not subscribed to.
    Phantom,
    /// A subscription did not resume from the requested position, or falsely claimed to do so, or the id of an event names
    /// another position than its client has reached.
    WrongResume,
    /// A gap where nothing can have been lost.
    FalseGap,
    /// A publisher was told another position than receivers.
    Divergent,
    /// A frame that `docs/protocol.md` does not allow.
    Unreadable,
    /// A session was restored without one of its subscriptions, so that its client receives nothing more there.
    LostSubscription,
    /// `found: false` where no record can have been lost.
    FalseNotFound,
    /// A client without an error of its own was told not to reconnect, or got an error that is not retryable.
    TerminalCode,
}

/// One anomaly, with the lines that prove it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// The kind of the anomaly.
    pub kind: AnomalyKind,
    /// A subscription, a scope or a connection.
    pub place: String,
    /// A sentence about what was found.
    pub detail: String,
    /// The lines of the log that prove it, counted from 1.
    pub lines: Vec<usize>,
}

/// How much was judged. A clean verdict over nothing proves nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Different messages that publishers sent.
    pub messages: u64,
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// Messages whose outcome is unknown.
    pub unknown: u64,
    /// Messages that were refused.
    pub refused: u64,
    /// Messages that clients received.
    pub deliveries: u64,
    /// Connections that clients opened.
    pub connections: u64,
    /// How many of them were event streams.
    #[serde(default)]
    pub event_streams: u64,
    /// Subscriptions that were resumed.
    pub resumed: u64,
    /// Sessions that were restored exactly where they were.
    #[serde(default)]
    pub restored_exactly: u64,
    /// Sessions that were restored with messages that may come again.
    #[serde(default)]
    pub restored_with_repeats: u64,
    /// Sessions that were not found.
    #[serde(default)]
    pub not_found: u64,
    /// Gap frames by reason.
    pub gaps: BTreeMap<String, u64>,
    /// Clients that received anything.
    pub clients: u64,
}

/// The result for one log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The reasons why the log proves nothing. If there are any, the rest must not be trusted.
    pub incomplete: Vec<String>,
    /// Number of anomalies of each kind.
    pub counts: BTreeMap<AnomalyKind, u64>,
    /// The first anomalies of each kind.
    pub anomalies: Vec<Anomaly>,
    /// How much was judged.
    pub tally: Tally,
    /// For each client, the time from the end of the fault until it had a message that was published after that end
    /// (µs).
    pub recovery_us: Vec<u64>,
}

/// Most anomalies of one kind that are kept with their proof.
const KEPT_PER_KIND: u64 = 20;

impl AnomalyKind {
    /// Whether messages may have been lost, doubled or reordered without notice.
    #[must_use]
    pub fn is_silent(self) -> bool {
        !self.is_false_alarm() && self != Self::TerminalCode
    }

    /// Whether a loss was reported where nothing can have been lost. This costs only time.
    #[must_use]
    pub fn is_false_alarm(self) -> bool {
        matches!(self, Self::FalseGap | Self::FalseNotFound)
    }
}

impl fmt::Display for AnomalyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OffsetReused => "offset_reused",
            Self::SilentGap => "silent_gap",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::LostTail => "lost_tail",
            Self::Phantom => "phantom",
            Self::WrongResume => "wrong_resume",
            Self::FalseGap => "false_gap",
            Self::Divergent => "divergent",
            Self::Unreadable => "unreadable",
            Self::LostSubscription => "lost_subscription",
            Self::FalseNotFound => "false_not_found",
            Self::TerminalCode => "terminal_code",
        })
    }
}

impl Verdict {
    /// Whether the log is complete and shows no anomaly.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.incomplete.is_empty() && self.counts.is_empty()
    }

    /// The number of anomalies of this kind.
    #[must_use]
    pub fn count(&self, kind: AnomalyKind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// The number of silent anomalies.
    #[must_use]
    pub fn silent(&self) -> u64 {
        self.counts.iter().filter(|(kind, _)| kind.is_silent()).map(|(_, count)| count).sum()
    }

    pub(crate) fn add(
        &mut self,
        kind: AnomalyKind,
        place: impl Into<String>,
        detail: impl Into<String>,
        lines: &[usize],
    ) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= KEPT_PER_KIND {
            let (place, detail) = (place.into(), detail.into());
            self.anomalies.push(Anomaly { kind, place, detail, lines: lines.to_vec() });
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { messages, acknowledged, unknown, refused, deliveries, connections, resumed, gaps, clients, .. } =
            &self.tally;
        let Tally { restored_exactly, restored_with_repeats, not_found, event_streams, .. } = &self.tally;
        writeln!(f, "messages: {messages}; acknowledged {acknowledged}, unknown {unknown}, refused {refused}")?;
        writeln!(f, "deliveries: {deliveries} to {clients} clients over {connections} connections, {resumed} resumed")?;
        writeln!(f, "event streams: {event_streams} of {connections} connections")?;
        let restored = restored_exactly + restored_with_repeats;
        writeln!(f, "sessions restored: {restored}, {restored_exactly} of them exactly; not found: {not_found}")?;
        writeln!(f, "gaps announced: {gaps:?}")?;
        for why in &self.incomplete {
            writeln!(f, "INCOMPLETE: {why}")?;
        }
        for (kind, count) in &self.counts {
            writeln!(f, "{kind}: {count}")?;
        }
        for Anomaly { kind, place, detail, lines } in &self.anomalies {
            writeln!(f, "  {kind} {place}: {detail} (lines {lines:?})")?;
        }
        writeln!(f, "{}", if self.is_clean() { "clean" } else { "NOT CLEAN" })
    }
}
