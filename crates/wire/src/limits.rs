//! The limits that a client may rely on. The limits that an operator may change are in the gateway's configuration.

/// Longest channel or pattern that a client may name, in bytes.
pub const CHANNEL_BYTES_MAX: usize = 256;
/// Longest single name (tenant, user, collection id, topic segment), in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest message type (`"type"` of a delivered message), in bytes.
pub const TYPE_BYTES_MAX: usize = 128;
/// Longest `correlation_id`, in bytes.
pub const CORRELATION_ID_BYTES_MAX: usize = 128;
/// Longest `id` of a publish, in bytes.
pub const PUBLISH_ID_BYTES_MAX: usize = 128;
/// Most channels of one connection, and most that one `hello` may name.
pub const CHANNELS_PER_CONNECTION_MAX: usize = 256;
/// Longest token accepted in any of its four places, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Longest JSON header of a binary frame, in bytes: the largest number that its two-byte length can hold.
pub const BINARY_HEADER_BYTES_MAX: usize = u16::MAX as usize;
/// Most messages of one publish call to Redis.
pub const BATCH_MESSAGES_MAX: usize = 64;
/// Longest payload of a notice, in bytes.
pub const NOTICE_BYTES_MAX: usize = 16 * 1024;
/// Most members that one `presence` frame names. A scope may have more members.
pub const PRESENCE_MEMBERS_MAX: usize = 256;
/// Longest `info` of a user in a token, in bytes of JSON without blanks.
pub const PRESENCE_INFO_BYTES_MAX: usize = 512;
/// The WebSocket subprotocol of this crate.
pub const SUBPROTOCOL: &str = "tidegate.v1";

const _: () = assert!(NAME_BYTES_MAX < CHANNEL_BYTES_MAX);
// `Scope` keeps the length of the tenant in one byte.
const _: () = assert!(NAME_BYTES_MAX <= u8::MAX as usize);
const _: () = assert!(CHANNEL_BYTES_MAX <= u16::MAX as usize);
