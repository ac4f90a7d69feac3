//! The publish ids of one scope, kept as long as Redis keeps them.

use hashbrown::HashMap;
use keyspace::ID_WINDOW_MS;
use wire::Position;

/// Two maps that rotate, like the two hashes in Redis: an id is known for at least one window and at most two.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// Number of the window that `newest` belongs to.
    window: u64,
    newest: HashMap<Box<str>, Position>,
    before: HashMap<Box<str>, Position>,
}

impl Ids {
    /// The position of the message with this id, if the id is known.
    pub(super) fn find(&mut self, id: &str, now_ms: u64) -> Option<Position> {
        self.rotate(now_ms);
        self.newest.get(id).or_else(|| self.before.get(id)).copied()
    }

    pub(super) fn insert(&mut self, id: Box<str>, position: Position, now_ms: u64) {
        self.rotate(now_ms);
        self.newest.insert(id, position);
    }

    fn rotate(&mut self, now_ms: u64) {
        let window = now_ms / ID_WINDOW_MS;
        // If the clock is set back, ids are kept longer, never shorter.
        if window > self.window {
            self.before = std::mem::take(&mut self.newest);
            if window > self.window + 1 {
                self.before = HashMap::new();
            }
            self.window = window;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_for_one_window_at_least_and_two_at_most() {
        let mut ids = Ids::default();
        let (first, second) = (Position::new(7, 1), Position::new(7, 2));
        ids.insert("early".into(), first, 10 * ID_WINDOW_MS);
        ids.insert("late".into(), second, 11 * ID_WINDOW_MS - 1);
        assert_eq!(ids.find("early", 12 * ID_WINDOW_MS - 1), Some(first));
        assert_eq!(ids.find("late", 12 * ID_WINDOW_MS - 1), Some(second));
        assert_eq!(ids.find("late", 12 * ID_WINDOW_MS), None);
        ids.insert("late".into(), second, 12 * ID_WINDOW_MS);
        assert_eq!(ids.find("late", 14 * ID_WINDOW_MS), None, "a whole window without a use is one to forget, too");
    }
}
