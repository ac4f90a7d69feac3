//! PURE. Behind which positions somebody joins a scope.

use wire::Position;

/// None, one, or several: patterns of one client share a scope, and each may have come to another place in it.
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
    /// Ascending, each once. Mostly there are none, and then this takes no room.
    higher: Box<[Position]>,
}

impl Positions {
    /// From where history has to be read.
    #[must_use]
    pub fn lowest(&self) -> Option<Position> {
        self.lowest
    }

    /// The one furthest on.
    #[must_use]
    pub fn highest(&self) -> Option<Position> {
        self.higher.last().copied().or(self.lowest)
    }

    /// All of them, ascending, each once.
    pub fn iter(&self) -> impl Iterator<Item = Position> + '_ {
        self.lowest.into_iter().chain(self.higher.iter().copied())
    }

    /// Whether nothing before `top` is asked for, and nothing behind it.
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
