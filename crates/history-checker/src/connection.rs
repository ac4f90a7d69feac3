//! One WebSocket of one client, and what it was promised.

use std::collections::{HashMap, HashSet};

use crate::channel::matches;
use crate::position::Position;

/// A subscription that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubscribeRequest {
    /// Behind which position.
    pub(crate) after: Option<Position>,
    /// On which line.
    pub(crate) line: usize,
    /// The gateway brought it back, and says whether messages may come again.
    pub(crate) restored: Option<bool>,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: String,
    pub(crate) instance: String,
    pub(crate) reads_slowly: bool,
    /// What was asked for, and what was brought back.
    pub(crate) asked: HashMap<String, SubscribeRequest>,
    /// The session that goes on here.
    pub(crate) session: Option<String>,
    /// The client keeps nothing but its session's id.
    pub(crate) keeps_session: bool,
    /// It asked for what its session held, on this line, and has not been told.
    pub(crate) restoring: Option<usize>,
    /// It was told on this line that nothing is known of its session, and has asked for nothing since.
    pub(crate) not_found: Option<usize>,
    /// It was told not to come back.
    pub(crate) is_turned_away: bool,
    /// Subscriptions that stand.
    pub(crate) active: HashSet<String>,
    /// Subscriptions that were told their position cannot be honoured: a gap must follow. Since which line.
    pub(crate) expected_gaps: HashMap<String, usize>,
    /// Scopes in which it heard messages of this instance alone: a gap must follow. Since which line.
    pub(crate) expected_isolated_gaps: HashMap<String, usize>,
    /// Those messages, each once.
    pub(crate) local: HashSet<String>,
}

impl Connection {
    pub(crate) fn new(client: String, instance: String, reads_slowly: bool) -> Self {
        Self {
            client,
            instance,
            reads_slowly,
            asked: HashMap::new(),
            session: None,
            keeps_session: false,
            restoring: None,
            not_found: None,
            is_turned_away: false,
            active: HashSet::new(),
            expected_gaps: HashMap::new(),
            expected_isolated_gaps: HashMap::new(),
            local: HashSet::new(),
        }
    }

    /// Its subscriptions that hear this channel.
    pub(crate) fn matching_subscriptions(&self, channel: &str) -> Vec<String> {
        self.active.iter().filter(|pattern| matches(pattern, channel)).cloned().collect()
    }
}
