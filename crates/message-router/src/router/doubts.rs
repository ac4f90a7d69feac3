//! PURE. Up to where scopes are known to have lost messages, for clients that come back later.
//!
//! Redis that has lost its newest writes does not know that it had them: to one who left before they were written, its
//! history looks whole. This instance knows, when it had been handed on what is gone now. Whoever comes back with a
//! position before that is told of a gap.

use std::collections::VecDeque;

use hashbrown::HashMap;
use wire::{Position, Scope};

/// So many scopes are remembered; the oldest are forgotten first. About 200 bytes each.
const SCOPES_MAX: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// The newest position that was handed on and is gone.
    upto: HashMap<Scope, Position>,
    order: VecDeque<Scope>,
}

impl Doubts {
    pub(crate) fn note(&mut self, scope: &Scope, upto: Position) {
        if let Some(noted) = self.upto.get_mut(scope) {
            *noted = upto.max(*noted);
            return;
        }
        if self.order.len() == SCOPES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.upto.remove(&oldest);
        }
        self.upto.insert(scope.clone(), upto);
        self.order.push_back(scope.clone());
    }

    /// Whether this message was lost once, and has come back with an old primary: whoever was there had it, or was told
    /// of a gap. Compared within a generation, because a later one may have a lower number when clocks differ.
    pub(crate) fn has_returned(&self, scope: &Scope, position: Position) -> bool {
        let lost = self.upto.get(scope);
        lost.is_some_and(|lost| lost.generation == position.generation && position <= *lost)
    }

    /// Up to where messages behind this position are known to be gone, on a scope that has come to `top`.
    pub(crate) fn behind(&self, scope: &Scope, after: Option<Position>, top: Position) -> Option<Position> {
        // Most of the time nothing is in doubt.
        if self.upto.is_empty() {
            return None;
        }
        // A scope that has begun anew below what was lost (its clock was set back) has all its positions below it.
        let upto = self.upto.get(scope).copied().filter(|upto| top.generation >= upto.generation);
        upto.filter(|upto| after.is_some_and(|after| after < *upto))
    }
}

#[cfg(test)]
mod tests {
    use wire::Families;

    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let (families, mut doubts) = (Families::default(), Doubts::default());
        let top = Position::new(7, 3);
        let scope = |number: usize| families.parse_scope(&format!("default/user:{number}")).unwrap();
        for number in 0..=SCOPES_MAX {
            doubts.note(&scope(number), Position::new(7, 2));
        }
        assert_eq!(doubts.behind(&scope(0), Some(Position::new(7, 1)), top), None);
        assert_eq!(doubts.behind(&scope(1), Some(Position::new(7, 1)), top), Some(Position::new(7, 2)));
        assert_eq!(doubts.behind(&scope(1), Some(Position::new(7, 2)), top), None);
        assert_eq!(doubts.behind(&scope(1), None, top), None);
        let anew = doubts.behind(&scope(1), Some(Position::new(6, 1)), Position::new(6, 3));
        assert_eq!(anew, None, "begun anew below");
        assert_eq!(doubts.upto.len(), SCOPES_MAX);
    }
}
