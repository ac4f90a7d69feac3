//! Who serves which slot, from what several nodes say at different times.

use keyspace::Slot;
use redis_topology::{ClusterMap, Node};

/// How many numbers are tried for a node's probe: enough for a node with a single slot.
const NUMBERS_MAX: u32 = 400_000;

/// The best claim to each slot.
///
/// Nodes hear of changes one after the other, so a later answer may be older than an earlier one. Claims carry their
/// owner's epoch: a higher one wins, and one that is not higher is taken only where the present owner does not answer.
#[derive(Debug, Default)]
pub(super) struct Slots {
    nodes: Vec<Node>,
    /// By number; empty before anything is known.
    claims: Vec<Option<Claim>>,
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    /// Index into `nodes`.
    node: usize,
    epoch: u64,
}

impl Slots {
    pub(super) fn owner(&self, slot: Slot) -> Option<&Node> {
        let claim = self.claims.get(usize::from(slot.number()))?.as_ref()?;
        Some(&self.nodes[claim.node])
    }

    /// Those that serve anything.
    pub(super) fn nodes(&self) -> Vec<Node> {
        let mut serves = vec![false; self.nodes.len()];
        self.claims.iter().flatten().for_each(|claim| serves[claim.node] = true);
        self.nodes.iter().zip(serves).filter(|(_, serves)| *serves).map(|(node, _)| node.clone()).collect()
    }

    /// A number, written out, whose slot is this node's.
    pub(super) fn number_at(&self, node: &Node) -> Option<u32> {
        self.nodes.iter().position(|known| known == node)?;
        (0..NUMBERS_MAX).find(|number| self.owner(Slot::of(&number.to_string())) == Some(node))
    }

    /// Takes over a map.
    pub(super) fn learn(&mut self, map: &ClusterMap, answers: impl Fn(&Node) -> bool) {
        for primary in &map.primaries {
            let node = self.index(&primary.node);
            for slot in primary.slots.iter().flat_map(|(first, last)| *first..=*last) {
                let known = self.claim(slot);
                let is_better = known.is_none_or(|claim| {
                    claim.node == node || primary.epoch > claim.epoch || !answers(&self.nodes[claim.node])
                });
                if is_better {
                    *self.claim_mut(slot) = Some(Claim { node, epoch: primary.epoch });
                }
            }
        }
    }

    /// Takes the former owner's own word for it, which is newer than any map of its epoch.
    pub(super) fn moved(&mut self, slot: Slot, to: Node) {
        let node = self.index(&to);
        let epoch = self.claim(slot.number()).map_or(0, |claim| claim.epoch);
        *self.claim_mut(slot.number()) = Some(Claim { node, epoch });
    }

    fn claim(&self, slot: u16) -> Option<Claim> {
        *self.claims.get(usize::from(slot))?
    }

    fn claim_mut(&mut self, slot: u16) -> &mut Option<Claim> {
        self.claims.resize(usize::from(Slot::COUNT), None);
        &mut self.claims[usize::from(slot)]
    }

    /// Nodes are few, and stay known: a place in the list means the same for ever.
    fn index(&mut self, node: &Node) -> usize {
        self.nodes.iter().position(|known| known == node).unwrap_or_else(|| {
            self.nodes.push(node.clone());
            self.nodes.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use redis_topology::Primary;

    use super::*;

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

    #[test]
    fn the_word_of_the_former_owner_outweighs_a_map_of_its_time() {
        let mut slots = Slots::default();
        let old = map(&[(1, 1, 0, 99)]);
        slots.learn(&old, |_| true);
        slots.moved(Slot::new(7).unwrap(), node(3));
        slots.learn(&old, |_| true);
        assert_eq!((owner(&slots, 7), owner(&slots, 8)), (3, 1));
        slots.learn(&map(&[(1, 9, 0, 99)]), |_| true);
        assert_eq!(owner(&slots, 7), 1, "it has gone back since");
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
