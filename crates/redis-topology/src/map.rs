//! The map of a cluster, as one of its nodes sends it.

use std::collections::BTreeMap;

use keyspace::Slot;
use redis::Value;

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
    /// Combines the answers of one node to `CLUSTER SLOTS` and `CLUSTER NODES`.
    ///
    /// `CLUSTER SLOTS` is what clients are meant to read: only it has the endpoints that the server wants used, such as
    /// names where the addresses cannot be reached (`cluster-preferred-endpoint-type`). `CLUSTER NODES` alone has the
    /// epochs, by which maps are ordered. A server may refuse it: then all epochs are 0. `asked` is the host that
    /// answered.
    pub(crate) fn combine(slots: &Value, nodes: Option<&str>, asked: &str) -> Option<Self> {
        let endpoints = parse_slots(slots, asked)?;
        let Some(nodes) = nodes else {
            let primary = |(_, Endpoint { node, slots })| Primary { node, epoch: 0, slots };
            return Some(Self { primaries: endpoints.into_iter().map(primary).collect() });
        };
        // A node without an endpoint got its first slot between the two answers. The next map has it.
        let primary = |line| {
            let (id, epoch, slots) = parse_line(line)?;
            Some(Primary { node: endpoints.get(id)?.node.clone(), epoch, slots })
        };
        Some(Self { primaries: nodes.lines().filter_map(primary).collect() })
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

/// What `CLUSTER SLOTS` says of one primary.
struct Endpoint {
    node: Node,
    slots: Vec<(u16, u16)>,
}

/// Parses `[[FIRST, LAST, [ENDPOINT, PORT, ID, …], replicas…], …]`, by id.
fn parse_slots(answer: &Value, asked: &str) -> Option<BTreeMap<String, Endpoint>> {
    let Value::Array(ranges) = answer else { return None };
    let mut endpoints = BTreeMap::new();
    for range in ranges {
        let Value::Array(range) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &range[..] else { return None };
        let [endpoint, Value::Int(port), id, ..] = &primary[..] else { return None };
        let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        if first > last || last >= Slot::COUNT {
            return None;
        }
        let host = match endpoint {
            Value::Nil => "",
            endpoint => text(endpoint)?,
        };
        let node = Node { host: Node::known_host(host, asked).to_owned(), port: u16::try_from(*port).ok()? };
        let known = endpoints.entry(text(id)?.to_owned()).or_insert(Endpoint { node, slots: Vec::new() });
        known.slots.push((first, last));
    }
    Some(endpoints)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// Ranges of slots: the first and the last of each.
type SlotRanges = Vec<(u16, u16)>;

/// Parses `ID HOST:PORT@BUS[,NAME] FLAGS REPLICA-OF PING PONG EPOCH LINK [SLOT…]`, if it is a primary with slots. The
/// address is for the other nodes, and is not read.
fn parse_line(line: &str) -> Option<(&str, u64, SlotRanges)> {
    let mut words = line.split_ascii_whitespace();
    let (id, flags) = (words.next()?, words.nth(1)?);
    if !flags.split(',').any(|flag| flag == "master") {
        return None;
    }
    let epoch = words.nth(3)?.parse().ok()?;
    // A slot in brackets is moving, and still belongs to its old owner.
    let slots: Vec<_> = words.skip(1).filter(|part| !part.starts_with('[')).filter_map(range).collect();
    (!slots.is_empty()).then_some((id, epoch, slots))
}

fn range(part: &str) -> Option<(u16, u16)> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < Slot::COUNT).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(ranges: &[(i64, i64, Value, i64, &str)]) -> Value {
        let range = |(first, last, endpoint, port, id): &(i64, i64, Value, i64, &str)| {
            let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
            let metadata = Value::Array(vec![bulk("ip"), bulk("192.0.2.1")]);
            let node = |port| Value::Array(vec![endpoint.clone(), Value::Int(port), bulk(id), metadata.clone()]);
            Value::Array(vec![Value::Int(*first), Value::Int(*last), node(*port), node(port + 1_000)])
        };
        Value::Array(ranges.iter().map(range).collect())
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    const NODES: &str = "\
        07c3 192.0.2.2:7001@17001,redis-2 master - 0 1426238316232 2 connected 5461-10922 16000 [5461->-67ed]\n\
        67ed :7000@17000 myself,master - 0 0 3 connected 0-5460\n\
        292f 192.0.2.3:7002@17002 master,fail - 0 1 9 disconnected 10923-15999\n\
        5aaa 192.0.2.3:7009@17002 master - 0 1 9 connected 16001-16383\n\
        6bbb 192.0.2.3:7010@17002 master - 0 1 9 connected\n\
        824f 192.0.2.4:7003@17003 slave 67ed 0 1426238317741 3 connected\n";

    #[test]
    fn addresses_come_from_slots_and_epochs_from_nodes() {
        let answer = slots(&[
            (0, 5460, bulk(""), 7000, "67ed"),
            (5461, 10922, bulk("redis-2"), 7001, "07c3"),
            (10923, 15999, bulk("redis-3"), 7002, "292f"),
            (16000, 16000, bulk("redis-2"), 7001, "07c3"),
        ]);
        let map = ClusterMap::combine(&answer, Some(NODES), "10.0.0.1").unwrap();
        let found: Vec<_> = map.primaries.iter().map(|p| (p.node.to_string(), p.epoch, p.slots.clone())).collect();
        let expected = [
            ("redis-2:7001".to_owned(), 2, vec![(5461, 10922), (16000, 16000)]),
            ("10.0.0.1:7000".to_owned(), 3, vec![(0, 5460)]),
            // A failed primary has its slots until a replica takes them.
            ("redis-3:7002".to_owned(), 9, vec![(10923, 15999)]),
        ];
        assert_eq!(found, expected, "5aaa has no endpoint yet");
        let map = ClusterMap::combine(&answer, None, "10.0.0.1").unwrap();
        assert!(map.primaries.iter().all(|primary| primary.epoch == 0), "its user may not ask for the nodes");
        assert_eq!(map.owner(Slot::new(16000).unwrap()).unwrap().to_string(), "redis-2:7001");
    }

    #[test]
    fn an_unknown_endpoint_is_the_host_that_was_asked() {
        for unknown in [Value::Nil, bulk(""), bulk("?")] {
            let map = ClusterMap::combine(&slots(&[(0, 16383, unknown, 7000, "a")]), None, "proxy").unwrap();
            assert_eq!(map.primaries[0].node.to_string(), "proxy:7000");
        }
    }

    #[test]
    fn another_answer_is_no_map() {
        for answer in [Value::Nil, Value::Okay, bulk("x"), Value::Array(vec![Value::Int(1)])] {
            assert_eq!(ClusterMap::combine(&answer, None, "h"), None);
        }
        for (first, last, port) in [(5, 4, 1), (0, 16384, 1), (-1, 4, 1), (0, 1, 65536), (0, 1, -1)] {
            assert_eq!(ClusterMap::combine(&slots(&[(first, last, bulk("h"), port, "a")]), None, "h"), None);
        }
    }
}
