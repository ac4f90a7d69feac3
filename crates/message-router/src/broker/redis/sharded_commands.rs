//! Commands of a sharded subscriber that are not answered yet. Each command names channels of one slot.
//!
//! Redis answers in order, with one exception. When a slot moves to another node, the push that answers SUNSUBSCRIBE
//! also ends every subscription of the slot, and a command for the slot that was already sent is refused with MOVED
//! and the slot's number. So a refusal with another slot than that of the oldest command belongs to a command that
//! counts as answered.

use std::collections::VecDeque;

use bytes::Bytes;
use keyspace::Slot;
use redis_topology::{Node, Redirection};
use wire::Scope;

#[derive(Debug, Default)]
pub(super) struct ShardedCommands {
    asked: VecDeque<PendingCommand>,
}

/// One command without an answer.
#[derive(Debug)]
struct PendingCommand {
    slot: Slot,
    wanted: bool,
    scopes: VecDeque<Scope>,
}

/// Subscribe commands that were sent to the wrong node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misrouted {
    pub(super) scopes: Vec<Scope>,
    pub(super) slot: Slot,
    pub(super) to: Node,
}

impl ShardedCommands {
    pub(super) fn ask(&mut self, slot: Slot, wanted: bool, scopes: VecDeque<Scope>) {
        self.asked.push_back(PendingCommand { slot, wanted, scopes });
    }

    /// The scope that is confirmed; nothing if it was not asked for.
    pub(super) fn subscribed(&mut self, scope: &str) -> Option<Scope> {
        self.answered(true, scope)
    }

    /// The scope whose subscription Redis has ended by itself; nothing if that was asked for.
    pub(super) fn unsubscribed(&mut self, scope: &str, text: Bytes) -> Option<Bytes> {
        match self.answered(false, scope) {
            Some(_) => None,
            None => Some(text),
        }
    }

    /// What a refusal means for the oldest command. An error if it is no redirection.
    pub(super) fn refused(&mut self, error: &str, node: &Node) -> Result<Option<Misrouted>, ()> {
        let Some(Redirection::Moved(slot, to)) = Redirection::parse(error, node) else { return Err(()) };
        if self.asked.front().is_none_or(|asked| asked.slot != slot) {
            return Ok(None);
        }
        let PendingCommand { wanted, scopes, .. } = self.asked.pop_front().expect("just seen");
        Ok(wanted.then(|| Misrouted { scopes: scopes.into(), slot, to }))
    }

    fn answered(&mut self, wanted: bool, scope: &str) -> Option<Scope> {
        let asked = self.asked.front_mut().filter(|asked| asked.wanted == wanted)?;
        if asked.scopes.front()?.as_str() != scope {
            return None;
        }
        let answered = asked.scopes.pop_front();
        if asked.scopes.is_empty() {
            self.asked.pop_front();
        }
        answered
    }
}

#[cfg(test)]
mod tests {
    use wire::Families;

    use super::*;

    fn scope(text: &str) -> Scope {
        Families::default().parse_scope(text).unwrap()
    }

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    fn here() -> Node {
        Node::parse("h:1").unwrap()
    }

    fn asked(changes: &[(u16, bool, &[&str])]) -> ShardedCommands {
        let mut sharded = ShardedCommands::default();
        for (number, wanted, scopes) in changes {
            sharded.ask(slot(*number), *wanted, scopes.iter().map(|text| scope(text)).collect());
        }
        sharded
    }

    fn ended(sharded: &mut ShardedCommands, text: &'static str) -> bool {
        sharded.unsubscribed(text, Bytes::from_static(text.as_bytes())).is_some()
    }

    #[test]
    fn answers_come_in_the_order_asked() {
        let mut sharded =
            asked(&[(1, true, &["t/user:1", "t/user:2"]), (1, false, &["t/user:1"]), (2, true, &["t/user:3"])]);
        assert_eq!(sharded.subscribed("t/user:1"), Some(scope("t/user:1")));
        assert_eq!(sharded.subscribed("t/user:2"), Some(scope("t/user:2")));
        assert!(!ended(&mut sharded, "t/user:1"), "it was asked for");
        assert_eq!(sharded.subscribed("t/user:9"), None);
        assert_eq!(sharded.subscribed("t/user:3"), Some(scope("t/user:3")));
        assert!(ended(&mut sharded, "t/user:3"), "nobody asked for it");
    }

    #[test]
    fn a_refused_command_comes_back_whole_and_no_other() {
        let mut sharded = asked(&[(1, true, &["t/user:1", "t/user:2"]), (2, true, &["t/user:3"])]);
        let misrouted = sharded.refused("MOVED 1 h:2", &here()).unwrap().unwrap();
        assert_eq!((misrouted.scopes, misrouted.to.port), (vec![scope("t/user:1"), scope("t/user:2")], 2));
        assert_eq!(sharded.refused("NOPERM x", &here()), Err(()));
        assert_eq!(sharded.subscribed("t/user:3"), Some(scope("t/user:3")));
    }

    /// The slot moved while SUNSUBSCRIBE was on its way: the push counts as the answer, and the refusal behind it
    /// belongs to no command.
    #[test]
    fn the_refusal_of_what_was_ended_before_is_passed_over() {
        let mut sharded = asked(&[(1, false, &["t/user:1"]), (2, true, &["t/user:3"])]);
        assert!(!ended(&mut sharded, "t/user:1"));
        assert_eq!(sharded.refused("MOVED 1 h:2", &here()), Ok(None));
        assert_eq!(sharded.subscribed("t/user:3"), Some(scope("t/user:3")));
        assert_eq!(sharded.refused("MOVED 1 h:2", &here()), Ok(None));
    }
}
