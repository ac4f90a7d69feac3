//! The reasons why a bench ends without figures.

use std::io;

use test_support::ProcessError;

/// An error that would make a figure wrong. It ends the run with exit code 1, and no figure is printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The operating system refused an operation that the bench needs.
    #[error("{what}: {source}")]
    Io {
        /// The operation that failed.
        what: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Redis refused a command or a connection.
    #[error("{what}: {source}")]
    Redis {
        /// The operation that failed.
        what: String,
        /// The error of the Redis client.
        source: redis::RedisError,
    },
    /// A delivery is missing, duplicated, out of order or too late.
    #[error("deliveries are wrong, so no figure is worth printing: {0}")]
    Deliveries(String),
    /// The gateway sent something that the scenario does not expect, or closed the connection.
    #[error("receiver {receiver}: {what}")]
    Receiver {
        /// The number of the receiver among the clients.
        receiver: usize,
        /// The frame or the close that was unexpected.
        what: String,
    },
    /// A process that the bench started has ended or does not answer.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The measurement is not possible on this machine.
    #[error("cannot be measured here: {0}")]
    Unmeasurable(String),
}

impl Failure {
    /// For `map_err`: adds the operation that failed.
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source: source.into() }
    }

    /// For `map_err`: adds the operation that failed.
    pub(crate) fn redis(what: impl Into<String>) -> impl FnOnce(redis::RedisError) -> Self {
        let what = what.into();
        move |source| Self::Redis { what, source }
    }
}
