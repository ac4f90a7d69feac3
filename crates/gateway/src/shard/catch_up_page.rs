//! A page of history for a join.

use message_router::{Gap, Start};
use wire::Position;

use crate::protocol::outgoing::Outgoing;

/// A page of history for a subscription that catches up.
#[derive(Debug)]
pub(crate) struct CatchUpPage {
    pub(crate) start: Start,
    /// Gaps of the further positions that cannot be resumed, if the join gave several. Each continues at the end of its
    /// gap.
    pub(crate) lost: Vec<Gap>,
    pub(crate) messages: Vec<Outgoing>,
    /// The position that the page ends at. Absent while the broker is unreachable.
    pub(crate) upto: Option<Position>,
    /// Whether the history continues after `upto`.
    pub(crate) more: bool,
}
