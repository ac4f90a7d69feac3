//! Which scopes are wanted, and at which node of a cluster each is subscribed. Pure.
//!
//! Every subscribe is confirmed once. One that cannot be sent, because the slot has no working node at the moment, and
//! one that came to the wrong node, waits here and is sent to the right one.

use hashbrown::HashMap;
use keyspace::{Keyspace, Slot};
use redis_topology::Node;
use wire::Scope;

#[derive(Debug)]
pub(super) struct Wishes {
    keyspace: Keyspace,
    wishes: HashMap<Scope, Wish>,
}

#[derive(Debug, Default)]
struct Wish {
    /// Where it is subscribed, or has been asked for.
    node: Option<Node>,
    /// Confirmed, and not ended since.
    held: bool,
    /// The last command was to subscribe.
    wanted: bool,
    /// Subscribes on their way.
    sent: u32,
    /// Subscribes that wait for a node.
    waiting: u32,
}

/// To be told to a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) node: Node,
    pub(super) scope: Scope,
    pub(super) wanted: bool,
}

impl Wishes {
    pub(super) fn new(keyspace: Keyspace) -> Self {
        Self { keyspace, wishes: HashMap::new() }
    }

    /// Everything is forgotten: the caller asks again when the broker is up.
    pub(super) fn clear(&mut self) {
        self.wishes.clear();
    }

    pub(super) fn has_unplaced(&self) -> bool {
        self.wishes.values().any(|wish| wish.waiting > 0)
    }

    pub(super) fn subscribe(&mut self, scope: Scope, owner: impl Fn(Slot) -> Option<Node>) -> Vec<Change> {
        let slot = self.keyspace.slot(&scope);
        let wish = self.wishes.entry_ref(&scope).or_default();
        wish.wanted = true;
        if wish.node.is_none() {
            wish.node = owner(slot);
        }
        match &wish.node {
            Some(node) => {
                wish.sent += 1;
                vec![Change { node: node.clone(), scope, wanted: true }]
            }
            None => {
                wish.waiting += 1;
                Vec::new()
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, scope: &Scope) -> Vec<Change> {
        let Some(wish) = self.wishes.get_mut(scope) else { return Vec::new() };
        wish.wanted = false;
        wish.held = false;
        let change = wish.node.clone().map(|node| Change { node, scope: scope.clone(), wanted: false });
        if wish.sent + wish.waiting == 0 {
            self.wishes.remove(scope);
        }
        change.into_iter().collect()
    }

    /// A subscribe could not be sent: its node has no link.
    pub(super) fn unplaced(&mut self, scope: &Scope) {
        if let Some(wish) = self.wishes.get_mut(scope) {
            wish.sent = wish.sent.saturating_sub(1);
            wish.waiting += 1;
            if wish.sent == 0 && !wish.held {
                wish.node = None;
            }
        }
    }

    /// Subscribes came to a node that has the slot no more.
    pub(super) fn bounced(&mut self, scopes: &[Scope]) {
        for scope in scopes {
            if let Some(wish) = self.wishes.get_mut(scope) {
                wish.held = false;
            }
            self.unplaced(scope);
        }
    }

    /// A node has confirmed one. What is not wanted any more is given up again: it was asked for before that was known
    /// here, and may have been sent after.
    pub(super) fn confirmed(&mut self, scope: &Scope) -> Vec<Change> {
        let Some(wish) = self.wishes.get_mut(scope) else { return Vec::new() };
        wish.sent = wish.sent.saturating_sub(1);
        wish.held = wish.wanted;
        if wish.wanted || wish.sent + wish.waiting > 0 {
            return Vec::new();
        }
        let change = wish.node.clone().map(|node| Change { node, scope: scope.clone(), wanted: false });
        self.wishes.remove(scope);
        change.into_iter().collect()
    }

    /// A node has ended a subscription: the scope, if it was lost by that.
    pub(super) fn ended(&mut self, scope: &str, node: &Node) -> Option<Scope> {
        let (scope, wish) = self.wishes.get_key_value_mut(scope)?;
        let lost = (wish.held && wish.node.as_ref() == Some(node)).then(|| scope.clone());
        wish.held &= lost.is_none();
        if let Some(scope) = &lost
            && wish.sent + wish.waiting == 0
        {
            self.wishes.remove(scope);
        }
        lost
    }

    /// The link to a node has ended: what was heard there.
    pub(super) fn cut(&mut self, node: &Node) -> Vec<Scope> {
        let mut lost = Vec::new();
        self.wishes.retain(|scope, wish| {
            if wish.node.as_ref() != Some(node) {
                return true;
            }
            wish.node = None;
            wish.waiting += std::mem::take(&mut wish.sent);
            if std::mem::take(&mut wish.held) {
                lost.push(scope.clone());
            }
            wish.waiting > 0
        });
        lost
    }

    /// The map has changed: what is subscribed at a node that has the slot no more is lost there.
    pub(super) fn follow(&mut self, owner: impl Fn(Slot) -> Option<Node>) -> (Vec<Scope>, Vec<Change>) {
        let (mut lost, mut changes) = (Vec::new(), Vec::new());
        let keyspace = &self.keyspace;
        self.wishes.retain(|scope, wish| {
            // What is on its way comes back by itself, confirmed or not.
            if !wish.held || wish.sent > 0 {
                return true;
            }
            let Some(node) = wish.node.take_if(|node| owner(keyspace.slot(scope)).is_some_and(|new| new != *node))
            else {
                return true;
            };
            wish.held = false;
            lost.push(scope.clone());
            changes.push(Change { node, scope: scope.clone(), wanted: false });
            wish.waiting > 0
        });
        (lost, changes)
    }

    /// Where to send what waits, as the map is now.
    pub(super) fn place(&mut self, owner: impl Fn(Slot) -> Option<Node>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (scope, wish) in self.wishes.iter_mut().filter(|(_, wish)| wish.waiting > 0 && wish.sent == 0) {
            let Some(node) = owner(self.keyspace.slot(scope)) else { continue };
            wish.sent = std::mem::take(&mut wish.waiting);
            let change = |wanted| Change { node: node.clone(), scope: scope.clone(), wanted };
            changes.extend((0..wish.sent).map(|_| change(true)));
            if !wish.wanted {
                changes.push(change(false));
            }
            wish.node = Some(node);
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use wire::Families;

    use super::*;

    fn scope(number: u32) -> Scope {
        Families::default().parse_scope(&format!("t/user:{number}")).unwrap()
    }

    fn node(port: u16) -> Node {
        Node { host: "h".into(), port }
    }

    fn told(changes: &[Change]) -> Vec<(u16, bool)> {
        changes.iter().map(|change| (change.node.port, change.wanted)).collect()
    }

    fn wishes() -> Wishes {
        Wishes::new(Keyspace::default())
    }

    /// Subscribed at a node, and confirmed.
    fn held(port: u16) -> Wishes {
        let mut wishes = wishes();
        wishes.subscribe(scope(1), |_| Some(node(port)));
        assert_eq!(wishes.confirmed(&scope(1)), []);
        wishes
    }

    #[test]
    fn what_no_node_serves_waits_and_each_subscribe_is_sent_once() {
        let mut wishes = wishes();
        assert_eq!(wishes.subscribe(scope(1), |_| None), []);
        assert_eq!(wishes.subscribe(scope(1), |_| None), []);
        assert!(wishes.has_unplaced());
        assert_eq!(told(&wishes.place(|_| Some(node(2)))), [(2, true), (2, true)]);
        assert_eq!(wishes.place(|_| Some(node(2))), [], "they are on their way");
    }

    #[test]
    fn one_that_was_given_up_meanwhile_is_confirmed_and_given_up_again() {
        let mut wishes = wishes();
        wishes.subscribe(scope(1), |_| None);
        assert_eq!(wishes.unsubscribe(&scope(1)), []);
        assert_eq!(told(&wishes.place(|_| Some(node(2)))), [(2, true), (2, false)]);
        wishes.confirmed(&scope(1));
        assert!(wishes.wishes.is_empty());
    }

    #[test]
    fn only_what_was_confirmed_is_lost() {
        let mut wishes = held(1);
        wishes.subscribe(scope(2), |_| Some(node(1)));
        wishes.subscribe(scope(3), |_| Some(node(2)));
        wishes.confirmed(&scope(3));
        assert_eq!(wishes.cut(&node(1)), [scope(1)]);
        assert_eq!(told(&wishes.place(|_| Some(node(2)))), [(2, true)], "the other is still owed its confirmation");
    }

    #[test]
    fn a_subscription_is_lost_once_however_it_ends() {
        let mut ended = held(1);
        assert_eq!(ended.ended("t/user:1", &node(2)), None, "not there");
        assert_eq!(ended.ended("t/user:1", &node(1)), Some(scope(1)));
        assert_eq!(ended.ended("t/user:1", &node(1)), None);
        assert_eq!(ended.cut(&node(1)), []);
        let mut moved = held(1);
        let (lost, changes) = moved.follow(|_| Some(node(2)));
        assert_eq!((lost, told(&changes)), (vec![scope(1)], vec![(1, false)]));
        assert_eq!(moved.ended("t/user:1", &node(1)), None);
        assert_eq!(told(&moved.subscribe(scope(1), |_| Some(node(2)))), [(2, true)]);
    }

    #[test]
    fn what_came_to_the_wrong_node_is_sent_to_the_right_one() {
        let mut wishes = wishes();
        wishes.subscribe(scope(1), |_| Some(node(1)));
        wishes.bounced(&[scope(1)]);
        assert_eq!(told(&wishes.place(|_| Some(node(2)))), [(2, true)]);
        assert_eq!(wishes.follow(|_| Some(node(3))), (vec![], vec![]), "its answer tells where it is");
    }
}
