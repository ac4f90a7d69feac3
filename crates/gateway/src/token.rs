//! Being written.

/// Who holds a connection.
#[derive(Debug, Clone)]
pub(crate) struct Identity;
