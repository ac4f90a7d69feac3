//! One connection of one client, and what the gateway must still send to it.

use std::collections::{HashMap, HashSet};

use crate::channel::matches;
use crate::position::Position;
use crate::record::Transport;

/// A subscription that the client has requested or the gateway has restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubscribeRequest {
    /// The position to resume from.
    pub(crate) after: Option<Position>,
    /// The line of the request.
    pub(crate) line: usize,
    /// The gateway has restored it; whether messages may come again.
    pub(crate) restored: Option<bool>,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: String,
    pub(crate) instance: String,
    pub(crate) reads_slowly: bool,
    pub(crate) transport: Transport,
    /// The subscriptions that were requested or restored, by channel or pattern.
    pub(crate) asked: HashMap<String, SubscribeRequest>,
    /// The session that continues on this connection.
    pub(crate) session: Option<String>,
    /// The client keeps only the id of its session.
    pub(crate) keeps_session: bool,
    /// The client asked on this line to restore its session, and has no answer yet.
    pub(crate) restoring: Option<usize>,
    /// The gateway answered on this line that it does not know the session, and the client has requested nothing since.
    pub(crate) not_found: Option<usize>,
    /// The gateway told the client not to reconnect.
    pub(crate) is_turned_away: bool,
    /// Channels and patterns whose subscription is confirmed.
    pub(crate) active: HashSet<String>,
    /// Subscriptions whose position cannot be honoured, so that a gap must follow; each with its line.
    pub(crate) expected_gaps: HashMap<String, usize>,
    /// Scopes with messages that were delivered on this instance only, so that a gap must follow; each with its line.
    pub(crate) expected_isolated_gaps: HashMap<String, usize>,
    /// These messages, each once.
    pub(crate) local: HashSet<String>,
}

impl Connection {
    pub(crate) fn new(client: String, instance: String, reads_slowly: bool, transport: Transport) -> Self {
        Self {
            client,
            instance,
            reads_slowly,
            transport,
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

    /// The subscriptions of this connection that receive messages of a channel.
    pub(crate) fn matching_subscriptions(&self, channel: &str) -> Vec<String> {
        self.active.iter().filter(|pattern| matches(pattern, channel)).cloned().collect()
    }
}
