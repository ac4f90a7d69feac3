//! The reply to a publisher.

use std::borrow::Cow;

use message_router::{BrokerError, Stored};
use wire::{AckLevel, Channel, ErrorCode, ServerFrame};

/// The result of a publish, for its publisher.
#[derive(Debug)]
pub(crate) struct PublishReply {
    pub(crate) channel: Channel,
    pub(crate) outcome: PublishOutcome,
}

/// The result of a publish.
#[derive(Debug)]
pub(crate) enum PublishOutcome {
    /// The broker has accepted the message.
    Stored {
        stored: Stored,
        /// Whether the channel's family keeps a history.
        is_kept: bool,
    },
    /// The message was delivered to the members on this instance only.
    Local {
        /// They had received it before, with the same id.
        duplicate: bool,
    },
    /// The broker has not accepted the message, or its answer is unknown.
    Failed(BrokerError),
    /// The broker is unreachable, and the family does not allow delivery on this instance only.
    Refused(&'static str),
}

/// When a client may send again a message that was refused because the broker is unreachable, in milliseconds. The
/// gateway retries the broker about as often.
const RETRY_AFTER_MS: u64 = 1_000;

impl PublishReply {
    /// The reply as a frame.
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
            // Details of the broker's failure are for the operator, not for the client.
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
