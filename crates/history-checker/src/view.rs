//! One subscription of one client, over all its connections.

use crate::position::Position;
use crate::segment::Segment;

/// Which subscription of whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ViewName {
    pub(crate) client: String,
    pub(crate) pattern: String,
}

/// Its history. A client that comes back without a position begins a new segment, and so does one that gets messages
/// again.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) segments: Vec<Segment>,
    /// It is to hear everything to the end of the run.
    pub(crate) is_open: bool,
}

impl View {
    pub(crate) fn current(&mut self) -> Option<&mut Segment> {
        self.segments.last_mut()
    }

    /// Where the subscription began that the current segment belongs to, and how far its client has come: segments behind
    /// the first one repeat.
    pub(crate) fn span(&self) -> Option<(Position, Position)> {
        let first = self.segments.iter().rposition(|segment| !segment.is_again)?;
        let reached = self.segments[first..].iter().map(|segment| segment.at).max()?;
        Some((self.segments[first].start, reached))
    }
}
