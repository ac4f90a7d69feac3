//! What a publisher is answered.

use std::borrow::Cow;

use message_router::{BrokerError, Stored};
use wire::{AckLevel, Channel, ErrorCode, ServerFrame};

/// The word on a publish.
#[derive(Debug)]
pub(crate) struct PublishReply {
    pub(crate) channel: Channel,
    pub(crate) outcome: PublishOutcome,
}

/// What has become of a publish.
#[derive(Debug)]
pub(crate) enum PublishOutcome {
    /// The broker has taken it.
    Stored {
        stored: Stored,
        /// Whether the channel's family keeps what is published.
        is_kept: bool,
    },
    /// Only the members on this instance get it.
    Local {
        /// They had got it before, under the same id.
        duplicate: bool,
    },
    /// The broker has not taken it, or nobody knows.
    Failed(BrokerError),
    /// The broker is away, and it may not be delivered here alone.
    Refused(&'static str),
}

/// When to send again what was refused because the broker is away: it is asked for about as often.
const RETRY_AFTER_MS: u64 = 1_000;

impl PublishReply {
    /// As the publisher gets it.
    pub(crate) fn frame<'r>(&'r self, correlation_id: Option<&'r str>) -> ServerFrame<'r> {
        let channel = Cow::Owned(self.channel.to_string());
        let correlation_id = correlation_id.map(Cow::Borrowed);
        let (code, message, retry_after_ms) = match &self.outcome {
            PublishOutcome::Stored { stored, is_kept } => {
                let level = match (is_kept, stored.replicated) {
                    (true, true) => AckLevel::Replicated,
                    (true, false) => AckLevel::Durable,
                    (false, _) => AckLevel::Published,
                };
                let (position, duplicate) = (Some(stored.position), stored.duplicate);
                return ServerFrame::Ack { channel, position, level, duplicate, correlation_id };
            }
            PublishOutcome::Local { duplicate } => {
                let (position, level, duplicate) = (None, AckLevel::Local, *duplicate);
                return ServerFrame::Ack { channel, position, level, duplicate, correlation_id };
            }
            // What exactly ails the broker is the operator's to know, not the client's.
            PublishOutcome::Failed(BrokerError::Unavailable(_)) => {
                (ErrorCode::Unavailable, "the gateway cannot take messages now; nothing was stored", None)
            }
            PublishOutcome::Failed(BrokerError::Unknown) => (
                ErrorCode::Unknown,
                "no answer came in time: the message may or may not have been stored; publish it again under the same \
                 id, and it is stored once",
                None,
            ),
            PublishOutcome::Failed(BrokerError::Wrong(_)) => {
                (ErrorCode::Internal, "the broker did not understand the gateway; nothing was stored", None)
            }
            PublishOutcome::Refused(why) => (ErrorCode::Unavailable, *why, Some(RETRY_AFTER_MS)),
        };
        let (message, channel) = (Cow::Borrowed(message), Some(channel));
        ServerFrame::Error { code, message, channel, retry_after_ms, correlation_id }
    }
}
