//! A page of history.

use message_router::{Gap, Start};
use wire::Position;

use crate::protocol::outgoing::Outgoing;

/// A page of history for one who catches up.
#[derive(Debug)]
pub(crate) struct CatchUpPage {
    pub(crate) start: Start,
    /// Of several positions, those that cannot be honoured while others can, or for another reason.
    pub(crate) lost: Vec<Gap>,
    pub(crate) messages: Vec<Outgoing>,
    /// How far the page goes; absent while degraded.
    pub(crate) upto: Option<Position>,
    /// Whether the history goes on behind `upto`.
    pub(crate) more: bool,
}
