//! The position of a message in its scope.

use std::fmt;
use std::str::FromStr;

/// `generation-offset`, ordered by both numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The generation: an unbroken history of the scope.
    pub generation: u64,
    /// The number of the message in its generation, from 1.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.generation, self.offset)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (generation, offset) = text.split_once('-').ok_or(())?;
        Ok(Self { generation: generation.parse().map_err(|_| ())?, offset: offset.parse().map_err(|_| ())? })
    }
}
