//! What a node of a cluster says when a key is not, or not quite, its own.

use keyspace::Slot;
use redis_topology::Node;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirection {
    /// The slot has another owner now.
    Moved(Slot, Node),
    /// The slot is on its way, and this key is there already.
    Ask(Node),
    /// Some of the keys are there and some are not, or nobody has the slot at this moment.
    Later,
}

impl Redirection {
    /// Reads an error of `node`, which leaves its own host out when it does not know it.
    pub(super) fn parse(error: &str, node: &Node) -> Option<Self> {
        let mut words = error.split_ascii_whitespace();
        let code = words.next()?;
        if matches!(code, "TRYAGAIN" | "CLUSTERDOWN") {
            return Some(Self::Later);
        }
        if !matches!(code, "MOVED" | "ASK") {
            return None;
        }
        let slot = words.next()?.parse().ok().and_then(Slot::new)?;
        let mut to = Node::parse(words.next()?)?;
        if to.host.is_empty() {
            to.host.clone_from(&node.host);
        }
        Some(if code == "ASK" { Self::Ask(to) } else { Self::Moved(slot, to) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_read_and_other_errors_are_not() {
        let here = Node::parse("10.0.0.1:7000").unwrap();
        let read = |error| Redirection::parse(error, &here);
        let slot = Slot::new(3999).unwrap();
        let other = Node::parse("10.0.0.2:7001").unwrap();
        assert_eq!(read("MOVED 3999 10.0.0.2:7001"), Some(Redirection::Moved(slot, other.clone())));
        assert_eq!(read("ASK 3999 10.0.0.2:7001"), Some(Redirection::Ask(other)));
        let own = Node::parse("10.0.0.1:7001").unwrap();
        assert_eq!(read("MOVED 3999 :7001"), Some(Redirection::Moved(slot, own)), "the host we asked");
        assert_eq!(read("TRYAGAIN Multiple keys request during rehashing of slot"), Some(Redirection::Later));
        assert_eq!(read("CLUSTERDOWN Hash slot not served"), Some(Redirection::Later));
        for error in ["READONLY x", "MOVED", "MOVED 99999 h:1", "MOVED 1 h", "", "ERR MOVED 1 h:1"] {
            assert_eq!(read(error), None, "{error}");
        }
    }
}
