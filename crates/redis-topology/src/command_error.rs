//! What an error of the Redis client says about a command.

use redis::{ErrorKind, RedisError};

/// Why a command has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Redis answered with this error, its code first. Nothing was done, unless a function failed half-way
    /// ([`ErrorReply::is_half_way`]).
    #[error("{0}")]
    Refused(String),
    /// No answer within the deadline. Whether the command was carried out is unknown.
    #[error("Redis did not answer in time")]
    Late,
    /// The connection is gone. Whether the command was carried out is unknown.
    #[error("the command connection broke: {0}")]
    Broken(String),
    /// The answer does not have the expected form. The command may have been carried out.
    #[error("an answer of another shape: {0}")]
    Malformed(String),
}

/// The text of an error reply, its code first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorReply<'t>(pub &'t str);

/// Codes of refusals that come from the state of Redis, which may pass, and not from the command.
const STATES: [&str; 13] = [
    "OOM",
    "READONLY",
    "MISCONF",
    "NOREPLICAS",
    "LOADING",
    "BUSY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MOVED",
    "ASK",
    "NOAUTH",
    "NOPERM",
];

impl<'t> ErrorReply<'t> {
    /// Whether Redis does not know the function: its library was never loaded, or was lost in a restart.
    ///
    /// ```
    /// use redis_topology::ErrorReply;
    /// assert!(ErrorReply("ERR Function not found").is_function_missing());
    /// ```
    #[must_use]
    pub fn is_function_missing(self) -> bool {
        self.0.contains("Function not found")
    }

    /// Whether a command within the function failed: what the function wrote before stays.
    ///
    /// ```
    /// use redis_topology::ErrorReply;
    /// assert!(ErrorReply("ERR Wrong type script: tidegate_publish, on @user_function:9.").is_half_way());
    /// ```
    #[must_use]
    pub fn is_half_way(self) -> bool {
        self.0.contains("script: ")
    }

    /// Whether the server is a replica by now, so that another one must be asked.
    ///
    /// ```
    /// use redis_topology::ErrorReply;
    /// assert!(ErrorReply("READONLY You can't write against a read only replica.").is_demoted());
    /// ```
    #[must_use]
    pub fn is_demoted(self) -> bool {
        self.code() == "READONLY"
    }

    /// Whether Redis refused because of its own state: the same command may succeed later.
    ///
    /// ```
    /// use redis_topology::ErrorReply;
    /// assert!(ErrorReply("OOM command not allowed").is_passing());
    /// assert!(ErrorReply("ERR Function not found").is_passing(), "the library will be loaded");
    /// assert!(!ErrorReply("ERR a topic is empty or names joined by colons").is_passing());
    /// ```
    #[must_use]
    pub fn is_passing(self) -> bool {
        STATES.contains(&self.code()) || self.is_function_missing()
    }

    /// Whether Redis will refuse the same command every time: the command itself is wrong, or another program uses its key.
    /// An error with an unknown code is neither lasting nor passing.
    ///
    /// ```
    /// use redis_topology::ErrorReply;
    /// assert!(ErrorReply("WRONGTYPE Operation against a key holding the wrong kind of value").is_lasting());
    /// assert!(!ErrorReply("OOM command not allowed").is_lasting());
    /// assert!(!ErrorReply("CUSTOM words of a module").is_lasting());
    /// ```
    #[must_use]
    pub fn is_lasting(self) -> bool {
        (matches!(self.code(), "ERR" | "BADSCOPE") || self.0.contains("WRONGTYPE")) && !self.is_function_missing()
    }

    /// The text without the arguments of the command. A server that does not know a command repeats them: user and
    /// password of HELLO, the message of FCALL. Such a text goes to logs and to operators.
    ///
    /// ```
    /// use redis_topology::ErrorReply;
    /// let reply = ErrorReply("ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'secret' ");
    /// assert_eq!(reply.without_arguments(), "ERR unknown command 'HELLO'");
    /// ```
    #[must_use]
    pub fn without_arguments(self) -> &'t str {
        let end = self.0.find("with args beginning with").unwrap_or(self.0.len());
        self.0[..end].trim_end_matches([',', ' '])
    }

    fn code(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }
}

impl CommandError {
    /// The error reply, if Redis has sent one.
    #[must_use]
    pub fn reply(&self) -> Option<ErrorReply<'_>> {
        match self {
            Self::Refused(text) => Some(ErrorReply(text)),
            Self::Late | Self::Broken(_) | Self::Malformed(_) => None,
        }
    }

    /// Whether the library must be loaded before the function is called again.
    pub(crate) fn is_function_missing(&self) -> bool {
        self.reply().is_some_and(ErrorReply::is_function_missing)
    }
}

impl From<RedisError> for CommandError {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            // OOM, MISCONF and other codes that the client has no name for are extensions.
            ErrorKind::Server(_) | ErrorKind::Extension => Self::Refused(reply_text(error)),
            ErrorKind::UnexpectedReturnType => Self::Malformed(error.to_string()),
            _ if error.is_timeout() => Self::Late,
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// The error as Redis wrote it: operators know the codes, and callers decide by them. For a pipeline it is the error of the
/// first command that failed.
fn reply_text(error: RedisError) -> String {
    let text = ErrorReply(&error.to_string()).without_arguments().to_owned();
    let replies = error.into_server_errors();
    match replies.as_deref().and_then(|replies| replies.first()) {
        Some((_, reply)) => {
            let text = [reply.code(), reply.details().unwrap_or_default()].join(" ");
            ErrorReply(&text).without_arguments().to_owned()
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error that the Redis client makes of an error reply.
    fn reply(text: &str) -> CommandError {
        let value = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err().into()
    }

    #[test]
    fn replies_keep_their_code_and_words() {
        for text in [
            "MOVED 3999 10.0.0.2:7001",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "READONLY You can't write against a read only replica.",
            "ERR Function not found",
            "NOPERM this user has no permissions",
            "CUSTOM words of a module",
        ] {
            assert_eq!(reply(text), CommandError::Refused(text.into()));
        }
    }

    /// Before Redis 4 and since, in both spellings of the quotes.
    #[test]
    fn replies_do_not_repeat_arguments() {
        for text in [
            "ERR unknown command 'FCALL', with args beginning with: 'tidegate_publish' '3' 'marked' ",
            "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `marked`, ",
        ] {
            let CommandError::Refused(kept) = reply(text) else { panic!("it is a reply") };
            assert!(kept.starts_with("ERR unknown command ") && !kept.contains("marked"), "{kept}");
        }
    }

    #[test]
    fn silence_and_ends_are_no_replies() {
        let late = RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        assert_eq!(CommandError::from(late), CommandError::Late);
        let broken = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert!(matches!(CommandError::from(broken), CommandError::Broken(_)));
        let shape = RedisError::from((ErrorKind::UnexpectedReturnType, "not a list"));
        assert!(matches!(CommandError::from(shape), CommandError::Malformed(_)));
    }
}
