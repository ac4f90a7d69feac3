//! Where a message stands in its scope: the stream entry's id.

use std::fmt;
use std::str::FromStr;

/// `generation-offset`: the id of a message's entry in its scope's Redis stream.
///
/// A generation is ordered and unique and begins whenever Redis may have lost writes; offsets restart at 1 in
/// each. On the socket a position is a string, because JavaScript loses integers above 2^53.
///
/// ```
/// use wire::Position;
/// let position: Position = "117440512-42".parse().unwrap();
/// assert_eq!((position.generation, position.offset), (117440512, 42));
/// assert_eq!(position.to_string(), "117440512-42");
/// assert!("42".parse::<Position>().is_err());
/// assert!(Position::new(1, 9) < Position::new(2, 1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    /// Which unbroken history of the scope.
    pub generation: u64,
    /// The message's number in that history, from 1. 0 stands before the first.
    pub offset: u64,
}

/// A text that is not `generation-offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position is written generation-offset, two decimal numbers, as it was received")]
pub struct BadPosition;

impl Position {
    /// The position `offset` of `generation`.
    #[must_use]
    pub const fn new(generation: u64, offset: u64) -> Self {
        Self { generation, offset }
    }

    /// The position that follows in the same generation.
    ///
    /// ```
    /// # use wire::Position;
    /// assert_eq!(Position::new(7, 1).next(), Position::new(7, 2));
    /// ```
    #[must_use]
    pub const fn next(self) -> Self {
        Self { generation: self.generation, offset: self.offset.saturating_add(1) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.generation, self.offset)
    }
}

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let (generation, offset) = text.split_once('-').ok_or(BadPosition)?;
        // `u64::from_str` takes a leading `+`; a position never has one.
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse::<u64>().ok()).flatten().ok_or(BadPosition)
        };
        Ok(Self { generation: number(generation)?, offset: number(offset)? })
    }
}
