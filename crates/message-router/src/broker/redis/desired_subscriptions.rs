//! Which scopes the router wants, and at which node of a cluster each one is subscribed. Pure.
//!
//! Every subscribe is confirmed once. A subscribe that cannot be sent, because no node serves the slot at the moment,
//! or that was sent to the wrong node, waits here until it can be sent to the right one.

use hashbrown::HashMap;
use keyspace::{Keyspace, Slot};
use redis_topology::Node;
use wire::Scope;

#[derive(Debug)]
pub(super) struct DesiredSubscriptions {
    keyspace: Keyspace,
    desired: HashMap<Scope, DesiredSubscription>,
}

#[derive(Debug, Default)]
struct DesiredSubscription {
    /// The node where the scope is subscribed or was asked for.
    node: Option<Node>,
    /// Whether the subscription was confirmed and has not ended since.
    confirmed_now: bool,
    /// Whether the last command was to subscribe.
    wanted: bool,
    /// Number of subscribes without a confirmation.
    sent: u32,
    /// Number of subscribes that wait for a node.
    waiting: u32,
}

/// A command for a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SubscriptionMove {
    pub(super) node: Node,
    pub(super) scope: Scope,
    pub(super) wanted: bool,
}

impl DesiredSubscriptions {
    pub(super) fn new(keyspace: Keyspace) -> Self {
        Self { keyspace, desired: HashMap::new() }
    }

    /// Forgets everything. The router subscribes again when the broker is up.
    pub(super) fn clear(&mut self) {
        self.desired.clear();
    }

    pub(super) fn has_unplaced(&self) -> bool {
        self.desired.values().any(|desired| desired.waiting > 0)
    }

    pub(super) fn subscribe(&mut self, scope: Scope, owner: impl Fn(Slot) -> Option<Node>) -> Vec<SubscriptionMove> {
        let slot = self.keyspace.slot(&scope);
        let desired = self.desired.entry_ref(&scope).or_default();
        desired.wanted = true;
        if desired.node.is_none() {
            desired.node = owner(slot);
        }
        match &desired.node {
            Some(node) => {
                desired.sent += 1;
                vec![SubscriptionMove { node: node.clone(), scope, wanted: true }]
            }
            None => {
                desired.waiting += 1;
                Vec::new()
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, scope: &Scope) -> Vec<SubscriptionMove> {
        let Some(desired) = self.desired.get_mut(scope) else { return Vec::new() };
        desired.wanted = false;
        desired.confirmed_now = false;
        let change = desired.node.clone().map(|node| SubscriptionMove { node, scope: scope.clone(), wanted: false });
        if desired.sent + desired.waiting == 0 {
            self.desired.remove(scope);
        }
        change.into_iter().collect()
    }

    /// Takes in that a subscribe could not be sent, because its node has no connection.
    pub(super) fn unplaced(&mut self, scope: &Scope) {
        if let Some(desired) = self.desired.get_mut(scope) {
            desired.sent = desired.sent.saturating_sub(1);
            desired.waiting += 1;
            if desired.sent == 0 && !desired.confirmed_now {
                desired.node = None;
            }
        }
    }

    /// Takes in that subscribes were sent to a node that no longer has the slot.
    pub(super) fn misrouted(&mut self, scopes: &[Scope]) {
        for scope in scopes {
            if let Some(desired) = self.desired.get_mut(scope) {
                desired.confirmed_now = false;
            }
            self.unplaced(scope);
        }
    }

    /// Takes in that a node has confirmed a subscription. A scope that is not wanted any more is unsubscribed again:
    /// the subscribe may have been sent before that was known.
    pub(super) fn confirmed(&mut self, scope: &Scope) -> Vec<SubscriptionMove> {
        let Some(desired) = self.desired.get_mut(scope) else { return Vec::new() };
        desired.sent = desired.sent.saturating_sub(1);
        desired.confirmed_now = desired.wanted;
        if desired.wanted || desired.sent + desired.waiting > 0 {
            return Vec::new();
        }
        let change = desired.node.clone().map(|node| SubscriptionMove { node, scope: scope.clone(), wanted: false });
        self.desired.remove(scope);
        change.into_iter().collect()
    }

    /// Takes in that a node has ended a subscription. Returns the scope, if it was lost.
    pub(super) fn ended(&mut self, scope: &str, node: &Node) -> Option<Scope> {
        let (scope, desired) = self.desired.get_key_value_mut(scope)?;
        let lost = (desired.confirmed_now && desired.node.as_ref() == Some(node)).then(|| scope.clone());
        desired.confirmed_now &= lost.is_none();
        if let Some(scope) = &lost
            && desired.sent + desired.waiting == 0
        {
            self.desired.remove(scope);
        }
        lost
    }

    /// Takes in that the connection to a node has ended. Returns the scopes that were confirmed there.
    pub(super) fn disconnected(&mut self, node: &Node) -> Vec<Scope> {
        let mut lost = Vec::new();
        self.desired.retain(|scope, desired| {
            if desired.node.as_ref() != Some(node) {
                return true;
            }
            desired.node = None;
            desired.waiting += std::mem::take(&mut desired.sent);
            if std::mem::take(&mut desired.confirmed_now) {
                lost.push(scope.clone());
            }
            desired.waiting > 0
        });
        lost
    }

    /// Takes in a new map: a subscription at a node that no longer has the slot is lost.
    pub(super) fn follow(&mut self, owner: impl Fn(Slot) -> Option<Node>) -> (Vec<Scope>, Vec<SubscriptionMove>) {
        let (mut lost, mut changes) = (Vec::new(), Vec::new());
        let keyspace = &self.keyspace;
        self.desired.retain(|scope, desired| {
            // A command without an answer comes back by itself, confirmed or refused.
            if !desired.confirmed_now || desired.sent > 0 {
                return true;
            }
            let Some(node) = desired.node.take_if(|node| owner(keyspace.slot(scope)).is_some_and(|new| new != *node))
            else {
                return true;
            };
            desired.confirmed_now = false;
            lost.push(scope.clone());
            changes.push(SubscriptionMove { node, scope: scope.clone(), wanted: false });
            desired.waiting > 0
        });
        (lost, changes)
    }

    /// Where to send the waiting subscribes, by the current map.
    pub(super) fn place(&mut self, owner: impl Fn(Slot) -> Option<Node>) -> Vec<SubscriptionMove> {
        let mut changes = Vec::new();
        for (scope, desired) in self.desired.iter_mut().filter(|(_, desired)| desired.waiting > 0 && desired.sent == 0)
        {
            let Some(node) = owner(self.keyspace.slot(scope)) else { continue };
            desired.sent = std::mem::take(&mut desired.waiting);
            let change = |wanted| SubscriptionMove { node: node.clone(), scope: scope.clone(), wanted };
            changes.extend((0..desired.sent).map(|_| change(true)));
            if !desired.wanted {
                changes.push(change(false));
            }
            desired.node = Some(node);
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

    fn as_sent(changes: &[SubscriptionMove]) -> Vec<(u16, bool)> {
        changes.iter().map(|change| (change.node.port, change.wanted)).collect()
    }

    fn desired() -> DesiredSubscriptions {
        DesiredSubscriptions::new(Keyspace::default())
    }

    /// A scope that is subscribed at a node, and confirmed.
    fn confirmed_now(port: u16) -> DesiredSubscriptions {
        let mut desired = desired();
        desired.subscribe(scope(1), |_| Some(node(port)));
        assert_eq!(desired.confirmed(&scope(1)), []);
        desired
    }

    #[test]
    fn what_no_node_serves_waits_and_each_subscribe_is_sent_once() {
        let mut desired = desired();
        assert_eq!(desired.subscribe(scope(1), |_| None), []);
        assert_eq!(desired.subscribe(scope(1), |_| None), []);
        assert!(desired.has_unplaced());
        assert_eq!(as_sent(&desired.place(|_| Some(node(2)))), [(2, true), (2, true)]);
        assert_eq!(desired.place(|_| Some(node(2))), [], "they are on their way");
    }

    #[test]
    fn one_that_was_given_up_meanwhile_is_confirmed_and_given_up_again() {
        let mut desired = desired();
        desired.subscribe(scope(1), |_| None);
        assert_eq!(desired.unsubscribe(&scope(1)), []);
        assert_eq!(as_sent(&desired.place(|_| Some(node(2)))), [(2, true), (2, false)]);
        desired.confirmed(&scope(1));
        assert!(desired.desired.is_empty());
    }

    #[test]
    fn only_what_was_confirmed_is_lost() {
        let mut desired = confirmed_now(1);
        desired.subscribe(scope(2), |_| Some(node(1)));
        desired.subscribe(scope(3), |_| Some(node(2)));
        desired.confirmed(&scope(3));
        assert_eq!(desired.disconnected(&node(1)), [scope(1)]);
        assert_eq!(as_sent(&desired.place(|_| Some(node(2)))), [(2, true)], "the other is still owed its confirmation");
    }

    #[test]
    fn a_subscription_is_lost_once_however_it_ends() {
        let mut ended = confirmed_now(1);
        assert_eq!(ended.ended("t/user:1", &node(2)), None, "not there");
        assert_eq!(ended.ended("t/user:1", &node(1)), Some(scope(1)));
        assert_eq!(ended.ended("t/user:1", &node(1)), None);
        assert_eq!(ended.disconnected(&node(1)), []);
        let mut moved = confirmed_now(1);
        let (lost, changes) = moved.follow(|_| Some(node(2)));
        assert_eq!((lost, as_sent(&changes)), (vec![scope(1)], vec![(1, false)]));
        assert_eq!(moved.ended("t/user:1", &node(1)), None);
        assert_eq!(as_sent(&moved.subscribe(scope(1), |_| Some(node(2)))), [(2, true)]);
    }

    #[test]
    fn what_came_to_the_wrong_node_is_sent_to_the_right_one() {
        let mut desired = desired();
        desired.subscribe(scope(1), |_| Some(node(1)));
        desired.misrouted(&[scope(1)]);
        assert_eq!(as_sent(&desired.place(|_| Some(node(2)))), [(2, true)]);
        assert_eq!(desired.follow(|_| Some(node(3))), (vec![], vec![]), "its answer tells where it is");
    }
}
