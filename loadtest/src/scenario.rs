//! The rows of the budget table, one module each, and the types that they share.

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

/// A row of the budget table, with its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// CPU per delivery, with one message per write.
    #[value(name = "1")]
    Delivery,
    /// CPU per delivery, with one receiver per scope.
    #[value(name = "2")]
    Personal,
    /// Deliveries per second and core.
    #[value(name = "3")]
    Saturation,
    /// Memory per idle connection, CPU to connect one (row 5), and CPU of all idle connections (row 9).
    #[value(name = "4")]
    Idle,
    /// Messages that one Redis accepts per second.
    #[value(name = "7")]
    Publishing,
    /// Additional CPU per delivery when other readers have stopped.
    #[value(name = "8")]
    Stopped,
    /// CPU per delivery over server-sent events, compared with WebSockets.
    #[value(name = "10")]
    EventStreams,
    /// Memory per idle event stream.
    #[value(name = "11")]
    IdleEventStreams,
}

impl Scenario {
    /// All scenarios, in the order of the table.
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

    /// Runs the scenario on its own servers.
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

/// The input of every scenario.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) cores: Cores,
    /// The path of the gateway binary.
    pub(crate) gateway: PathBuf,
    pub(crate) sizes: Sizes,
}

/// The sizes and durations of the scenarios.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    /// Receivers of the shared messages in rows 1, 3, 8 and 10.
    pub(crate) receivers: usize,
    /// Scopes with one receiver each in row 2.
    pub(crate) scopes: usize,
    /// Number of alternations of baseline and gateway in rows 1, 2, 8 and 10, and of publish shapes in row 7.
    pub(crate) pairs: usize,
    /// Duration of one window of one side of a pair.
    pub(crate) window: Duration,
    /// Duration of one step of the search in row 3. Half of it is one window of row 7.
    pub(crate) step: Duration,
    /// Messages per publish call in row 3.
    pub(crate) batch: u64,
    /// Idle connections in rows 4 and 11.
    pub(crate) connections: usize,
    /// How long connections are idle before memory is read.
    pub(crate) settle: Duration,
    /// Number of readers that stop in row 8.
    pub(crate) stopped: usize,
}
