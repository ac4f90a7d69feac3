//! The state that all clients of a trial share.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use history_checker::Position;
use tokio::sync::watch;

use super::trace::AcknowledgedPositions;
use crate::publisher::Draft;
use crate::recorder::Recorder;

#[derive(Debug)]
pub(crate) struct Audience {
    pub(crate) recorder: Recorder,
    /// The ids and addresses of the gateways. A restarted gateway keeps its address.
    pub(crate) gateways: Vec<(String, SocketAddr)>,
    /// Clients connect at random times within this time.
    pub(crate) ramp: Duration,
    /// The time between two publishes of one client. Without it, clients do not publish.
    pub(crate) publish_every: Option<Duration>,
    /// When this is true, clients publish no new messages.
    pub(crate) is_calm: watch::Receiver<bool>,
    /// Number of clients whose subscriptions are all active.
    pub(crate) live: AtomicUsize,
    /// Number of times that a client with all its subscriptions lost its connection.
    pub(crate) cuts: AtomicUsize,
    /// Number of subscriptions that have received the sentinel of their scope.
    pub(crate) sentinels: AtomicUsize,
    /// Number of publishes without a final answer.
    pub(crate) unanswered: AtomicUsize,
    began: Instant,
    acknowledged: Mutex<AcknowledgedPositions>,
}

impl Audience {
    pub(crate) fn new(
        recorder: Recorder,
        gateways: Vec<(String, SocketAddr)>,
        ramp: Duration,
        publish_every: Option<Duration>,
        is_calm: watch::Receiver<bool>,
    ) -> Self {
        Self {
            recorder,
            gateways,
            ramp,
            publish_every,
            is_calm,
            live: AtomicUsize::new(0),
            cuts: AtomicUsize::new(0),
            sentinels: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            began: Instant::now(),
            acknowledged: Mutex::default(),
        }
    }

    /// Microseconds since the trial began.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A message that contains the time of its first sending.
    pub(crate) fn draft(&self, channel: String) -> Draft {
        let mut draft = Draft::new(channel);
        draft.payload["at_us"] = self.now_us().into();
        draft
    }

    /// The publisher received this position in the answer.
    pub(crate) fn acknowledge(&self, draft: &Draft, position: Position) {
        let at_us = self.now_us();
        let scope = scope_of(&draft.channel).to_owned();
        self.acknowledgements().entry(scope).or_default().push((at_us, position));
    }

    pub(crate) fn acknowledged(&self) -> AcknowledgedPositions {
        self.acknowledgements().clone()
    }

    fn acknowledgements(&self) -> MutexGuard<'_, AcknowledgedPositions> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The scope `family:id` of a channel or pattern `family:id:topic`.
pub(crate) fn scope_of(channel: &str) -> &str {
    channel.match_indices(':').nth(1).map_or(channel, |(at, _)| &channel[..at])
}
