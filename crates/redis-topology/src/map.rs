//! The map of a cluster, as one of its nodes sends it.

use keyspace::Slot;

use crate::node::Node;

/// Which primary serves which slots, as one node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterMap {
    /// The primaries that have slots.
    pub primaries: Vec<Primary>,
}

/// A primary and the slots that it claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Primary {
    /// Address of the primary.
    pub node: Node,
    /// Configuration epoch. It grows with every change of owners: of two primaries that claim a slot, the one with the
    /// higher epoch has it.
    pub epoch: u64,
    /// First and last slot of each range.
    pub slots: Vec<(u16, u16)>,
}

impl ClusterMap {
    /// Parses the answer to `CLUSTER NODES`. `asked` is the host that gave it: a node that no other node has met does
    /// not know its own address.
    ///
    /// ```
    /// use redis_topology::{ClusterMap, Node};
    /// let text = "\
    /// 07c3 10.0.0.2:7001@17001,redis-2 master - 0 1426238316232 2 connected 5461-10922 16000 [5461->-67ed]\n\
    /// 67ed :7000@17000 myself,master - 0 0 3 connected 0-5460\n\
    /// 292f 10.0.0.3:7002@17002 master,fail - 0 1 9 disconnected 10923-15999\n\
    /// 824f 10.0.0.4:7003@17003 slave 67ed 0 1426238317741 3 connected\n";
    /// let map = ClusterMap::parse(text, "10.0.0.1");
    /// assert_eq!(map.primaries.len(), 3);
    /// assert_eq!(map.primaries[0].slots, [(5461, 10922), (16000, 16000)]);
    /// assert_eq!(map.primaries[1].node, Node { host: "10.0.0.1".into(), port: 7000 });
    /// assert_eq!((map.primaries[0].epoch, map.primaries[1].epoch), (2, 3));
    /// // A failed primary has its slots until a replica takes them:
    /// assert_eq!(map.primaries[2].node.port, 7002);
    /// ```
    #[must_use]
    pub fn parse(text: &str, asked: &str) -> Self {
        Self { primaries: text.lines().filter_map(|line| Primary::parse(line, asked)).collect() }
    }

    /// The primary that serves a slot, by the highest epoch.
    #[must_use]
    pub fn owner(&self, slot: Slot) -> Option<&Node> {
        let number = slot.number();
        let claims = self
            .primaries
            .iter()
            .filter(|primary| primary.slots.iter().any(|(first, last)| (*first..=*last).contains(&number)));
        claims.max_by_key(|primary| primary.epoch).map(|primary| &primary.node)
    }
}

impl Primary {
    /// `ID HOST:PORT@BUS[,NAME] FLAGS REPLICA-OF PING PONG EPOCH LINK [SLOT…]`
    fn parse(line: &str, asked: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (address, flags) = (words.nth(1)?, words.next()?);
        let mut flags = flags.split(',');
        if !flags.clone().any(|flag| flag == "master") || flags.any(|flag| flag == "noaddr") {
            return None;
        }
        let mut node = Node::parse(address.split(['@', ',']).next()?)?;
        if node.host.is_empty() {
            asked.clone_into(&mut node.host);
        }
        let epoch = words.nth(3)?.parse().ok()?;
        // A slot in brackets is moving, and still belongs to its old owner.
        let slots: Vec<_> = words.skip(1).filter(|part| !part.starts_with('[')).filter_map(range).collect();
        (!slots.is_empty()).then_some(Self { node, epoch, slots })
    }
}

fn range(part: &str) -> Option<(u16, u16)> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < Slot::COUNT).then_some((first, last))
}
