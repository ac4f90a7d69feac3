//! One subscription of one client, over all its connections.

use crate::position::Position;
use crate::segment::Segment;

/// The client and the channel or pattern of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ViewName {
    pub(crate) client: String,
    pub(crate) pattern: String,
}

/// The history of the subscription. A client that returns without a position begins a new segment, and so does one that
/// gets messages again.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) segments: Vec<Segment>,
    /// The subscription must receive everything to the end of the run.
    pub(crate) is_open: bool,
}

impl View {
    pub(crate) fn current(&mut self) -> Option<&mut Segment> {
        self.segments.last_mut()
    }

    /// The position at which the subscription of the current segment began, and the highest position that its client
    /// has reached. Segments after the first one repeat messages.
    pub(crate) fn span(&self) -> Option<(Position, Position)> {
        let first = self.segments.iter().rposition(|segment| !segment.is_again)?;
        let reached = self.segments[first..].iter().map(|segment| segment.at).max()?;
        Some((self.segments[first].start, reached))
    }
}
