//! PURE. Which node serves which slot, combined from what several nodes say at different times.

use keyspace::Slot;

use crate::map::ClusterMap;
use crate::node::Node;

/// How many numbers are tried for the probe of a node: enough for a node with a single slot.
const NUMBERS_MAX: u32 = 400_000;

/// The best claim to each slot.
///
/// Nodes learn of changes one after the other, so a later answer may be older than an earlier one. A claim carries the
/// epoch of its owner. A higher epoch wins; one that is not higher is accepted only if the present owner does not
/// answer.
#[derive(Debug, Default)]
pub struct Slots {
    nodes: Vec<Node>,
    /// By slot number; empty before anything is known.
    claims: Vec<Option<Claim>>,
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    /// Index into `nodes`.
    node: usize,
    epoch: u64,
}

impl Slots {
    /// The node that serves a slot, as far as it is known.
    #[must_use]
    pub fn owner(&self, slot: Slot) -> Option<&Node> {
        self.claim(slot.number()).map(|claim| &self.nodes[claim.node])
    }

    /// The nodes that serve at least one slot.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        let mut serves = vec![false; self.nodes.len()];
        self.claims.iter().flatten().for_each(|claim| serves[claim.node] = true);
        self.nodes.iter().zip(serves).filter(|(_, serves)| *serves).map(|(node, _)| node.clone()).collect()
    }

    /// A number whose decimal text has a slot of this node.
    #[must_use]
    pub fn number_at(&self, node: &Node) -> Option<u32> {
        self.nodes.iter().position(|state| state == node)?;
        (0..NUMBERS_MAX).find(|number| self.owner(Slot::of(&number.to_string())) == Some(node))
    }

    /// Takes over the claims of a map that are newer than the known ones. `answers` says whether a node can be
    /// reached.
    pub fn learn(&mut self, map: &ClusterMap, answers: impl Fn(&Node) -> bool) {
        let claimants: Vec<usize> = map.primaries.iter().map(|primary| self.index(&primary.node)).collect();
        let answers: Vec<bool> = self.nodes.iter().map(answers).collect();
        for (primary, node) in map.primaries.iter().zip(claimants) {
            let claim = Claim { node, epoch: primary.epoch };
            for slot in primary.slots.iter().flat_map(|(first, last)| *first..=*last) {
                let state = self.claim(slot);
                // A lower claim of the present owner is old. If it replaced the known one, an older claim of another
                // node would win.
                if state.is_none_or(|state| primary.epoch > state.epoch || !answers[state.node]) {
                    *self.claim_mut(slot) = Some(claim);
                }
            }
        }
    }

    /// Takes in that `from` has answered MOVED, and returns the node to call.
    ///
    /// The answer of the known owner is newer than any map of its time. So is the answer of any node while that owner
    /// does not answer. The answer of another node is older than what is known. A node that receives a slot gets the
    /// highest epoch in the cluster, so the claim counts as one of the highest known.
    pub fn moved(&mut self, slot: Slot, from: &Node, to: &Node, answers: impl Fn(&Node) -> bool) -> Node {
        if let Some(owner) = self.owner(slot)
            && owner != from
            && answers(owner)
        {
            return owner.clone();
        }
        let epoch = self.claims.iter().flatten().map(|claim| claim.epoch).max().unwrap_or(0);
        let node = self.index(to);
        *self.claim_mut(slot.number()) = Some(Claim { node, epoch });
        to.clone()
    }

    fn claim(&self, slot: u16) -> Option<Claim> {
        *self.claims.get(usize::from(slot))?
    }

    fn claim_mut(&mut self, slot: u16) -> &mut Option<Claim> {
        self.claims.resize(usize::from(Slot::COUNT), None);
        &mut self.claims[usize::from(slot)]
    }

    /// Nodes are few and stay known, so an index means the same node for ever.
    fn index(&mut self, node: &Node) -> usize {
        self.nodes.iter().position(|state| state == node).unwrap_or_else(|| {
            self.nodes.push(node.clone());
            self.nodes.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::Primary;

    fn node(port: u16) -> Node {
        Node { host: "h".into(), port }
    }

    fn map(claims: &[(u16, u64, u16, u16)]) -> ClusterMap {
        let primary = |&(port, epoch, first, last)| Primary { node: node(port), epoch, slots: vec![(first, last)] };
        ClusterMap { primaries: claims.iter().map(primary).collect() }
    }

    fn owner(slots: &Slots, slot: u16) -> u16 {
        slots.owner(Slot::new(slot).unwrap()).unwrap().port
    }

    #[test]
    fn an_older_map_does_not_take_back_what_a_newer_one_gave() {
        let mut slots = Slots::default();
        let (old, new) = (map(&[(1, 1, 0, 99), (2, 2, 100, 199)]), map(&[(1, 1, 0, 49), (2, 3, 50, 199)]));
        slots.learn(&old, |_| true);
        assert_eq!((owner(&slots, 50), owner(&slots, 100)), (1, 2));
        slots.learn(&new, |_| true);
        assert_eq!((owner(&slots, 49), owner(&slots, 50)), (1, 2));
        slots.learn(&old, |_| true);
        assert_eq!(owner(&slots, 50), 2);
        assert_eq!(slots.nodes(), [node(1), node(2)]);
    }

    /// The slot moved 1 → 2 → 1. The two old maps arrive late, one after the other.
    #[test]
    fn older_maps_do_not_undo_a_newer_one_by_turns() {
        let mut slots = Slots::default();
        slots.learn(&map(&[(1, 3, 0, 99)]), |_| true);
        slots.learn(&map(&[(1, 1, 0, 99)]), |_| true);
        slots.learn(&map(&[(2, 2, 0, 99)]), |_| true);
        assert_eq!(owner(&slots, 7), 1);
    }

    fn moved(slots: &mut Slots, from: u16, to: u16) -> u16 {
        slots.moved(Slot::new(7).unwrap(), &node(from), &node(to), |_| true).port
    }

    #[test]
    fn the_word_of_the_former_owner_outweighs_a_map_of_its_time() {
        let mut slots = Slots::default();
        let old = map(&[(1, 1, 0, 99)]);
        slots.learn(&old, |_| true);
        assert_eq!(moved(&mut slots, 1, 3), 3);
        slots.learn(&old, |_| true);
        assert_eq!((owner(&slots, 7), owner(&slots, 8)), (3, 1));
        slots.learn(&map(&[(1, 9, 0, 99)]), |_| true);
        assert_eq!(owner(&slots, 7), 1, "it has gone back since");
    }

    /// The slot moved 1 → 2 → 3. The first owner names the third one, and a map of the time in between arrives late.
    #[test]
    fn the_word_of_the_former_owner_outweighs_what_was_in_between() {
        let mut slots = Slots::default();
        slots.learn(&map(&[(1, 1, 0, 99), (4, 5, 200, 299)]), |_| true);
        assert_eq!(moved(&mut slots, 1, 3), 3);
        slots.learn(&map(&[(2, 5, 0, 99)]), |_| true);
        assert_eq!((owner(&slots, 7), owner(&slots, 8)), (3, 2));
        slots.learn(&map(&[(2, 6, 0, 99)]), |_| true);
        assert_eq!(owner(&slots, 7), 2);
    }

    /// The node was asked before the newer map came.
    #[test]
    fn the_word_of_whom_we_know_not_to_own_the_slot_is_old() {
        let mut slots = Slots::default();
        slots.learn(&map(&[(1, 1, 0, 99)]), |_| true);
        slots.learn(&map(&[(3, 6, 0, 99)]), |_| true);
        assert_eq!(moved(&mut slots, 1, 2), 3, "go where the newer map says");
        assert_eq!(owner(&slots, 7), 3);
        assert_eq!(moved(&mut slots, 3, 2), 2, "the owner itself knows");
        assert_eq!(owner(&slots, 7), 2);
        let to = slots.moved(Slot::new(7).unwrap(), &node(1), &node(4), |node| node.port != 2);
        assert_eq!((to.port, owner(&slots, 7)), (4, 4), "the owner does not answer");
    }

    #[test]
    fn a_silent_owner_loses_to_any_claim() {
        let mut slots = Slots::default();
        slots.learn(&map(&[(1, 9, 0, 99)]), |_| true);
        slots.learn(&map(&[(2, 1, 0, 99)]), |node| node.port != 1);
        assert_eq!(owner(&slots, 7), 2, "a cluster made anew begins with low epochs");
    }

    #[test]
    fn a_number_is_found_for_each_node_even_with_one_slot() {
        let mut slots = Slots::default();
        slots.learn(&map(&[(1, 1, 0, 16382), (2, 2, 16383, 16383)]), |_| true);
        for port in [1, 2] {
            let number = slots.number_at(&node(port)).unwrap();
            assert_eq!(owner(&slots, Slot::of(&number.to_string()).number()), port);
        }
        assert_eq!(slots.number_at(&node(3)), None);
    }
}
