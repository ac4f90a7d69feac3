//! What was asked on a sharded subscriber and is not answered yet: each command names channels of one slot.
//!
//! Redis answers in order, but for one thing: when a slot goes to another node, every subscription in it is ended by
//! the same push that answers SUNSUBSCRIBE, and a command for it that is still on its way is refused with MOVED and
//! the number of its slot. A refusal whose slot is not that of the oldest command answers one that was thought answered.

use std::collections::VecDeque;

use bytes::Bytes;
use keyspace::Slot;
use redis_topology::{Node, Redirection};
use wire::Scope;

#[derive(Debug, Default)]
pub(super) struct ShardedCommands {
    asked: VecDeque<PendingCommand>,
}

/// One command on its way.
#[derive(Debug)]
struct PendingCommand {
    slot: Slot,
    wanted: bool,
    scopes: VecDeque<Scope>,
}

/// Subscribes that came to the wrong node.
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

    /// Which scope is confirmed; none when nobody asked.
    pub(super) fn subscribed(&mut self, scope: &str) -> Option<Scope> {
        self.answered(true, scope)
    }

    /// The scope whose subscription Redis has ended by itself; none when it was asked to.
    pub(super) fn unsubscribed(&mut self, scope: &str, text: Bytes) -> Option<Bytes> {
        match self.answered(false, scope) {
            Some(_) => None,
            None => Some(text),
        }
    }

    /// What a refusal says of the oldest command; an error when it is no redirection.
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

    /// The slot went while the command to give it up was on its way: the push is taken for the answer, and the refusal
    /// behind it is nobody's.
    #[test]
    fn the_refusal_of_what_was_ended_before_is_passed_over() {
        let mut sharded = asked(&[(1, false, &["t/user:1"]), (2, true, &["t/user:3"])]);
        assert!(!ended(&mut sharded, "t/user:1"));
        assert_eq!(sharded.refused("MOVED 1 h:2", &here()), Ok(None));
        assert_eq!(sharded.subscribed("t/user:3"), Some(scope("t/user:3")));
        assert_eq!(sharded.refused("MOVED 1 h:2", &here()), Ok(None));
    }
}
