//! The actions that the router requests.

use bytes::Bytes;
use wire::{Position, Scope};

use super::shard::{ShardIndex, ShardSet};
use crate::broker::{Command, Draft, Entry};
use crate::history::{Entries, Gap};

/// A shard's own number for the connection that joins. The router does not interpret it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Joiner(pub u64);

/// One action. All actions for one shard must be handed to it in this order.
#[derive(Debug)]
pub enum Output {
    /// A command for the broker.
    Command(Command),
    /// Hand on the messages of `envelope` above `after`.
    Deliver {
        /// The shards with members in the scope.
        shards: ShardSet,
        /// The scope of the messages.
        scope: Scope,
        /// Already validated: [`wire::Envelope::parse`] and its items succeed.
        envelope: Bytes,
        /// The position that the shards have received already.
        after: Position,
    },
    /// Hand on missed messages that were read from history.
    Replay {
        /// The shards with members in the scope.
        shards: ShardSet,
        /// The scope of the messages.
        scope: Scope,
        /// The messages, in order.
        entries: Vec<Entry>,
    },
    /// The answer to a join.
    Joined {
        /// The shard of the joiner.
        shard: ShardIndex,
        /// The joiner, as its shard numbered it.
        joiner: Joiner,
        /// The answer, interim or final.
        joined: Joined,
    },
    /// Messages of a scope may be missing for all of its members. Joiners without an answer are not affected: their
    /// answer ends after the gap, or contains one.
    Gap {
        /// The shards with members in the scope.
        shards: ShardSet,
        /// The scope with the gap.
        scope: Scope,
        /// The missing messages and the reason.
        gap: Gap,
    },
    /// Hand on messages that the broker has not taken and never will. They have no position. Joiners receive them too,
    /// after their interim answer.
    Local {
        /// The shards with members in the scope.
        shards: ShardSet,
        /// The scope of the messages.
        scope: Scope,
        /// The messages, in order.
        messages: Vec<Draft>,
    },
    /// The broker is back: report to all members of the scope, and to its joiners, that messages were delivered within
    /// this instance only. Their place is directly after what was handed on last.
    Isolated {
        /// The shards with members in the scope.
        shards: ShardSet,
        /// The scope of the messages.
        scope: Scope,
    },
    /// The broker is lost; or it is back, and every scope has been repaired or has got its gap.
    Degraded {
        /// True if the broker is lost.
        degraded: bool,
    },
}

/// The answer to a join.
///
/// The shard keeps for the joiner what it receives of the scope between its `join` and this answer. After an answer
/// without `more`, the joiner gets what was kept above `upto`, and then every message as it comes. Nothing that is
/// output after this answer has a position at or before `upto`.
#[derive(Debug, PartialEq, Eq)]
pub struct Joined {
    /// The scope that was joined.
    pub scope: Scope,
    /// The position at which the joiner begins.
    pub start: Start,
    /// The further positions of the joiner that cannot be honoured, if it gave several. Each continues at the end of
    /// its gap.
    pub lost: Vec<Gap>,
    /// The messages that it missed, in order.
    pub entries: Entries,
    /// The position that it has reached with `entries`. Absent only with [`Start::Degraded`].
    pub upto: Option<Position>,
    /// True if there are more missed messages: join again after `upto`, and keep what arrives meanwhile.
    pub more: bool,
}

/// The position at which a joiner begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the newest message: the joiner gave no position.
    Fresh,
    /// Directly after the position that it gave; with several, after the lowest that can be honoured.
    Resumed,
    /// At the newest message: none of its positions can be honoured. This is the gap of the lowest.
    Gap(Gap),
    /// Unknown yet: the broker is away. This is an interim answer. When the broker is back, another answer follows for
    /// the same joiner with the missed messages, unless its shard left.
    Degraded,
}
