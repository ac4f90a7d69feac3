//! What the checker found.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The ways in which a history can be wrong without saying so, and one in which it says too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyKind {
    /// One position names two messages.
    OffsetReused,
    /// A message was passed over, and later ones came.
    SilentGap,
    /// A message came twice.
    Duplicate,
    /// A message came behind a later one.
    Reorder,
    /// What came last never arrived, or a client never came back.
    LostTail,
    /// A message came that nobody published, that was refused, or that was not asked for.
    Phantom,
    /// A resumption did not begin where it was asked to, or said that it did.
    WrongResume,
    /// A gap where nothing can have been lost.
    FalseGap,
    /// A publisher was told another position than receivers were.
    Divergent,
    /// A frame that `docs/protocol.md` does not allow.
    Unreadable,
    /// A session was brought back without a subscription that it had: its client hears nothing more there.
    LostSubscription,
    /// `found: false` where nothing can have been forgotten.
    FalseNotFound,
    /// A client that did nothing wrong was told not to come back, or that something is refused for good.
    TerminalCode,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// In which way.
    pub kind: AnomalyKind,
    /// Where: a subscription, a scope or a connection.
    pub place: String,
    /// What exactly.
    pub detail: String,
    /// The lines of the log that prove it, counted from 1.
    pub lines: Vec<usize>,
}

/// How much there was to be judged. A clean verdict over nothing proves nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Different messages that publishers sent.
    pub messages: u64,
    /// Of those, taken over for certain.
    pub acknowledged: u64,
    /// Of those, with an outcome that nobody was told.
    pub unknown: u64,
    /// Of those, refused.
    pub refused: u64,
    /// Messages that clients received.
    pub deliveries: u64,
    /// Connections that clients opened.
    pub connections: u64,
    /// Subscriptions that were resumed.
    pub resumed: u64,
    /// Sessions that were brought back to continue exactly where they were.
    #[serde(default)]
    pub restored_exactly: u64,
    /// Sessions that were brought back with messages that may come again.
    #[serde(default)]
    pub restored_with_repeats: u64,
    /// Sessions of which nothing was known.
    #[serde(default)]
    pub not_found: u64,
    /// Gap frames by reason.
    pub gaps: BTreeMap<String, u64>,
    /// Clients that received anything.
    pub clients: u64,
}

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Why the log proves nothing, if so: the rest is not to be trusted then.
    pub incomplete: Vec<String>,
    /// How often each kind was found.
    pub counts: BTreeMap<AnomalyKind, u64>,
    /// The first of each kind.
    pub anomalies: Vec<Anomaly>,
    /// How much was judged.
    pub tally: Tally,
    /// For each client, how long after the end of the fault it had a message that was published after it (µs).
    pub recovery_us: Vec<u64>,
}

/// Of each kind so many are kept with their proof.
const KEPT_PER_KIND: u64 = 20;

impl AnomalyKind {
    /// Whether somebody may have lost, doubled or reordered messages without knowing.
    #[must_use]
    pub fn is_silent(self) -> bool {
        !self.is_false_alarm() && self != Self::TerminalCode
    }

    /// Whether somebody was told of a loss where nothing can have been lost: that costs time alone.
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
    /// Whether nothing is wrong, and the log proves it.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.incomplete.is_empty() && self.counts.is_empty()
    }

    /// How many anomalies of this kind there are.
    #[must_use]
    pub fn count(&self, kind: AnomalyKind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// How many anomalies are silent.
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
        let Tally { restored_exactly, restored_with_repeats, not_found, .. } = &self.tally;
        writeln!(f, "messages: {messages}; acknowledged {acknowledged}, unknown {unknown}, refused {refused}")?;
        writeln!(f, "deliveries: {deliveries} to {clients} clients over {connections} connections, {resumed} resumed")?;
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
