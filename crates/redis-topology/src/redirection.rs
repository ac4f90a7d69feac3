//! Where a node of a cluster sends a command whose keys it does not have, or not all of them.

use std::time::Duration;

use keyspace::Slot;
use tokio::time::Instant;

use crate::command_error::CommandError;
use crate::node::Node;

/// Where to send a command instead. A redirected command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirection {
    /// The slot has another owner now.
    Moved(Slot, Node),
    /// The slot is moving to this node, which has the key already: the command goes there, with `ASKING` before it.
    Ask(Node),
    /// Each of the two nodes has some of the keys, or no node serves the slot at the moment: the same command, a little later.
    Later,
}

impl Redirection {
    /// Wait between two attempts while a slot moves; a small slot takes a few milliseconds.
    pub const PAUSE: Duration = Duration::from_millis(20);

    /// The redirection in an error of `from`, if there is time for another attempt by `deadline`.
    #[must_use]
    pub fn of(error: &CommandError, from: &Node, deadline: Instant) -> Option<Self> {
        match error {
            CommandError::Refused(text) if Instant::now() + Self::PAUSE <= deadline => Self::parse(text, from),
            _ => None,
        }
    }

    /// Parses the text of an error reply of `from`. An unknown host in it stands for the host of `from`.
    ///
    /// ```
    /// use redis_topology::{Node, Redirection};
    /// let from = Node::parse("10.0.0.1:7000").unwrap();
    /// assert_eq!(Redirection::parse("ASK 3999 :7001", &from), Some(Redirection::Ask(Node::parse("10.0.0.1:7001").unwrap())));
    /// ```
    #[must_use]
    pub fn parse(error: &str, from: &Node) -> Option<Self> {
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
        to.host = Node::known_host(&to.host, &from.host).to_owned();
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
        for unknown in ["MOVED 3999 :7001", "MOVED 3999 ?:7001"] {
            assert_eq!(read(unknown), Some(Redirection::Moved(slot, own.clone())), "the host we asked");
        }
        assert_eq!(read("TRYAGAIN Multiple keys request during rehashing of slot"), Some(Redirection::Later));
        assert_eq!(read("CLUSTERDOWN Hash slot not served"), Some(Redirection::Later));
        for error in ["READONLY x", "MOVED", "MOVED 99999 h:1", "MOVED 1 h", "", "ERR MOVED 1 h:1"] {
            assert_eq!(read(error), None, "{error}");
        }
    }

    #[test]
    fn without_time_for_another_attempt_there_is_no_redirection() {
        let here = Node::parse("10.0.0.1:7000").unwrap();
        let (error, now) = (CommandError::Refused("TRYAGAIN x".into()), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(Redirection::of(&error, &here, now + second), Some(Redirection::Later));
        assert_eq!(Redirection::of(&error, &here, now), None);
        assert_eq!(Redirection::of(&CommandError::Late, &here, now + second), None);
    }
}
