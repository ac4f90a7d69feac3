//! One subscription of one client, over all its connections.

use crate::segment::Segment;

/// Which subscription of whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ViewName {
    pub(crate) client: String,
    pub(crate) pattern: String,
}

/// Its history. A client that comes back without a position begins a new segment.
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
}
