//! Why a bench ends without figures.

use std::io;

use test_support::ProcessError;

/// A figure that would be wrong is not printed: any of these ends the run with exit code 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The system refused something the bench needs.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What came back.
        source: io::Error,
    },
    /// Redis refused something.
    #[error("{what}: {source}")]
    Redis {
        /// What was tried.
        what: String,
        /// What came back.
        source: redis::RedisError,
    },
    /// A delivery is missing, came twice, came out of order, or did not come in time.
    #[error("deliveries are wrong, so no figure is worth printing: {0}")]
    Deliveries(String),
    /// The gateway said something the scenario does not allow for, or hung up.
    #[error("receiver {receiver}: {what}")]
    Receiver {
        /// Its number among the clients.
        receiver: usize,
        /// What happened.
        what: String,
    },
    /// A process that the bench started is gone or does not answer.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// This machine cannot carry the measurement.
    #[error("cannot be measured here: {0}")]
    Unmeasurable(String),
}

impl Failure {
    /// For `map_err`, with what was tried.
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source: source.into() }
    }

    /// For `map_err`, with what was tried.
    pub(crate) fn redis(what: impl Into<String>) -> impl FnOnce(redis::RedisError) -> Self {
        let what = what.into();
        move |source| Self::Redis { what, source }
    }
}
