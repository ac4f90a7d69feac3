//! PURE. The positions from which a joiner resumes a scope.

use wire::Position;

/// None, one or several positions: several patterns of one client may share a scope, each with its own position.
///
/// ```
/// use message_router::Positions;
/// use wire::Position;
/// let positions: Positions = [8, 5, 8].into_iter().map(|offset| Position::new(7, offset)).collect();
/// assert_eq!(positions.lowest(), Some(Position::new(7, 5)));
/// assert_eq!(positions.highest(), Some(Position::new(7, 8)));
/// assert_eq!(positions.iter().count(), 2);
/// assert_eq!(Positions::from(None).lowest(), None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    lowest: Option<Position>,
    /// The others in ascending order, each once. Usually there are none; an empty box allocates nothing.
    higher: Box<[Position]>,
}

impl Positions {
    /// The position after which history must be read.
    #[must_use]
    pub fn lowest(&self) -> Option<Position> {
        self.lowest
    }

    /// The highest of the positions; none if there are none.
    #[must_use]
    pub fn highest(&self) -> Option<Position> {
        self.higher.last().copied().or(self.lowest)
    }

    /// All positions in ascending order, each once.
    pub fn iter(&self) -> impl Iterator<Item = Position> + '_ {
        self.lowest.into_iter().chain(self.higher.iter().copied())
    }

    /// Whether there is no position other than `top`.
    pub(crate) fn are_at(&self, top: Position) -> bool {
        self.higher.is_empty() && self.lowest.is_none_or(|lowest| lowest == top)
    }
}

impl From<Option<Position>> for Positions {
    fn from(lowest: Option<Position>) -> Self {
        Self { lowest, higher: Box::default() }
    }
}

impl FromIterator<Position> for Positions {
    fn from_iter<I: IntoIterator<Item = Position>>(positions: I) -> Self {
        let mut positions = positions.into_iter();
        let Some(first) = positions.next() else { return Self::default() };
        let mut all: Vec<Position> = positions.filter(|position| *position != first).collect();
        if all.is_empty() {
            return Self::from(Some(first));
        }
        all.push(first);
        all.sort_unstable();
        all.dedup();
        Self { lowest: Some(all.remove(0)), higher: all.into() }
    }
}
