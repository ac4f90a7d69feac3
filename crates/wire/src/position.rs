//! The position of a message in its scope: the id of its stream entry.

use std::fmt;
use std::str::FromStr;

/// `generation-offset`: the id of a message's entry in the Redis stream of its scope.
///
/// Generations are unique and ordered. A new one begins whenever Redis may have lost writes. Offsets start at 1 in each
/// generation. On the socket a position is a string, because JavaScript loses precision above 2^53.
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
    /// The generation: an unbroken history of the scope.
    pub generation: u64,
    /// The number of the message in its generation, from 1. 0 is the position before the first message.
    pub offset: u64,
}

/// The text does not have the form `generation-offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position has the form generation-offset, two decimal numbers, exactly as it was received")]
pub struct BadPosition;

impl Position {
    /// The position `offset` of `generation`.
    #[must_use]
    pub const fn new(generation: u64, offset: u64) -> Self {
        Self { generation, offset }
    }

    /// The next position in the same generation.
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
        // `u64::from_str` accepts a leading `+`; a position never has one.
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse::<u64>().ok()).flatten().ok_or(BadPosition)
        };
        Ok(Self { generation: number(generation)?, offset: number(offset)? })
    }
}
