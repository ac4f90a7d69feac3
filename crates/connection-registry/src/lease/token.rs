//! The fence token of a lease.

use std::fmt;
use std::sync::Arc;

/// The fence token of one lease, exactly as the store spells it. Only the store compares tokens.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(Arc<str>);

impl Token {
    /// A token as the store returned it.
    #[must_use]
    pub fn from_store(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
