//! The reasons why a run was not possible. They concern the machine or this program, not the product.

use std::io;

use test_support::ProcessError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}: {1}")]
    Io(String, io::Error),
    #[error("Redis, {0}: {1}")]
    Redis(String, redis::RedisError),
    #[error("{0}")]
    Process(String),
    /// This condition did not become true in time.
    #[error("waited in vain until {0}")]
    Late(String),
    /// The fault did not show an effect. A green run would prove nothing.
    #[error("the fault was not injected: {0}")]
    Unproven(String),
    /// This machine does not permit the fault.
    #[error("cannot be injected here: {0}")]
    Impossible(String),
    #[error("the checker: {0}")]
    Checker(String),
}

impl From<ProcessError> for Failure {
    fn from(error: ProcessError) -> Self {
        Self::Process(error.to_string())
    }
}

impl Failure {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |error| Self::Io(doing, error)
    }

    pub(crate) fn redis(doing: impl Into<String>) -> impl FnOnce(redis::RedisError) -> Self {
        let doing = doing.into();
        move |error| Self::Redis(doing, error)
    }
}
