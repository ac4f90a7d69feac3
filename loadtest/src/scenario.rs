//! The rows of the budget table, one module each, and what they share.

mod audience;
mod delivery;
mod event_stream;
mod idle;
mod pairs;
mod personal;
mod publishing;
mod saturation;
mod stopped;

use std::path::PathBuf;
use std::time::Duration;

use crate::cores::Cores;
use crate::failure::Failure;
use crate::report::BudgetRow;

/// A row of the budget table, numbered as there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// CPU per delivery, one message per write.
    #[value(name = "1")]
    Delivery,
    /// CPU per delivery, one receiver per scope.
    #[value(name = "2")]
    Personal,
    /// Deliveries per second and core.
    #[value(name = "3")]
    Saturation,
    /// Memory per idle connection, on the way there CPU per connection (row 5), and then CPU of them all (row 9).
    #[value(name = "4")]
    Idle,
    /// Messages that one Redis takes.
    #[value(name = "7")]
    Publishing,
    /// What readers that stop cost those who read on.
    #[value(name = "8")]
    Stopped,
    /// CPU per delivery over server-sent events, beside that over WebSockets.
    #[value(name = "10")]
    EventStreams,
    /// Memory per idle event stream.
    #[value(name = "11")]
    IdleEventStreams,
}

impl Scenario {
    /// Every one, in the order of the table.
    pub(crate) const ALL: [Self; 8] = [
        Self::Delivery,
        Self::Personal,
        Self::Saturation,
        Self::Idle,
        Self::Publishing,
        Self::Stopped,
        Self::EventStreams,
        Self::IdleEventStreams,
    ];

    /// Runs it on servers of its own.
    pub(crate) fn run(self, setting: &Setting) -> Result<Vec<BudgetRow>, Failure> {
        match self {
            Self::Delivery => delivery::run(setting),
            Self::Personal => personal::run(setting),
            Self::Saturation => saturation::run(setting),
            Self::Idle => idle::run(setting),
            Self::Publishing => publishing::run(setting),
            Self::Stopped => stopped::run(setting),
            Self::EventStreams => event_stream::run(setting),
            Self::IdleEventStreams => idle::run_event_streams(setting),
        }
    }
}

/// What every scenario is told.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) cores: Cores,
    /// The gateway's binary.
    pub(crate) gateway: PathBuf,
    pub(crate) sizes: Sizes,
}

/// How large and how long.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    /// Receivers of the shared messages in rows 1, 3, 8 and 10.
    pub(crate) receivers: usize,
    /// Scopes with one receiver each in row 2.
    pub(crate) scopes: usize,
    /// Alternations of baseline and gateway in rows 1, 2, 8 and 10, and of the ways to publish in row 7.
    pub(crate) pairs: usize,
    /// One window of one side of a pair.
    pub(crate) window: Duration,
    /// One step of the search in row 3; half of it is one window of row 7.
    pub(crate) step: Duration,
    /// Messages per publish call in row 3.
    pub(crate) batch: u64,
    /// Idle connections in rows 4 and 11.
    pub(crate) connections: usize,
    /// How long connections idle before memory is read.
    pub(crate) settle: Duration,
    /// Readers that stop in row 8.
    pub(crate) stopped: usize,
}
