//! Protocol violations of a client, and their close codes.

use wire::Close;

use super::message::{BYTES_PER_FRAGMENT, FRAGMENTS_FREE};

/// Why a connection must be closed. The client caused it, and the same bytes will fail again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RFC 6455 §5.2: reserved bits belong to extensions, and none was agreed.
    #[error("a reserved bit is set and no extension was agreed")]
    ReservedBits,
    /// §5.2: the opcodes 3–7 and 11–15.
    #[error("opcode {0} is reserved")]
    ReservedOpcode(u8),
    /// §5.5: the frame is not marked as final.
    #[error("a control frame must not be fragmented")]
    ControlFragmented,
    /// §5.5: at most 125 bytes.
    #[error("a control frame carries at most 125 bytes")]
    ControlTooLong,
    /// §5.1: the mask bit is not set.
    #[error("a client must mask its frames")]
    NotMasked,
    /// §5.2: "the minimal number of bytes MUST be used".
    #[error("a length must be written in as few bytes as it needs")]
    LengthNotMinimal,
    /// §5.2: the top bit of a length of eight bytes.
    #[error("a length must be below 2^63")]
    LengthTopBit,
    /// §5.4: a continuation frame without a message.
    #[error("there is no message to continue")]
    NothingToContinue,
    /// §5.4: a new message before the previous one has ended.
    #[error("the message before has not ended")]
    MessageUnfinished,
    /// The message is larger than the limit that `welcome` announces.
    #[error("a message has at most {message_bytes_max} bytes")]
    TooBig {
        /// The limit in bytes.
        message_bytes_max: usize,
    },
    /// The message has more frames than its bytes allow.
    #[error("a message has at most {FRAGMENTS_FREE} fragments, and one more for each {BYTES_PER_FRAGMENT} bytes")]
    TooManyFragments,
    /// §8.1: text, or the reason of a close frame, is not UTF-8.
    #[error("text must be UTF-8")]
    NotUtf8,
    /// §5.5.1: a payload of one byte.
    #[error("a close has no payload or begins with a code of two bytes")]
    CloseCodeTruncated,
    /// §7.4: a code that must not be sent, or that is not registered.
    #[error("{0} is not a code to close with")]
    CloseCode(u16),
}

impl Violation {
    /// The code to close with.
    #[must_use]
    pub const fn close(self) -> Close {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::NotMasked
            | Self::LengthNotMinimal
            | Self::LengthTopBit
            | Self::NothingToContinue
            | Self::MessageUnfinished
            | Self::CloseCodeTruncated
            | Self::CloseCode(_) => Close::ProtocolError,
            Self::TooBig { .. } | Self::TooManyFragments => Close::TooBig,
            Self::NotUtf8 => Close::InvalidUtf8,
        }
    }
}
