//! One WebSocket of one client, and what it was promised.

use std::collections::{HashMap, HashSet};

use crate::channel::hears;
use crate::position::Position;

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: String,
    pub(crate) instance: String,
    /// What was asked for, behind which position, and on which line.
    pub(crate) asked: HashMap<String, (Option<Position>, usize)>,
    /// Subscriptions that stand.
    pub(crate) standing: HashSet<String>,
    /// Subscriptions that were told their position cannot be honoured: a gap must follow. Since which line.
    pub(crate) owed_gaps: HashMap<String, usize>,
    /// Scopes in which it heard messages of this instance alone: a gap must follow. Since which line.
    pub(crate) owed_isolated: HashMap<String, usize>,
    /// Those messages, each once.
    pub(crate) local: HashSet<String>,
}

impl Connection {
    pub(crate) fn new(client: String, instance: String) -> Self {
        Self {
            client,
            instance,
            asked: HashMap::new(),
            standing: HashSet::new(),
            owed_gaps: HashMap::new(),
            owed_isolated: HashMap::new(),
            local: HashSet::new(),
        }
    }

    /// Its subscriptions that hear this channel.
    pub(crate) fn hearing(&self, channel: &str) -> Vec<String> {
        self.standing.iter().filter(|pattern| hears(pattern, channel)).cloned().collect()
    }
}
