//! What the router wants done.

use bytes::Bytes;
use wire::{Position, Scope};

use super::shard::{ShardIndex, ShardSet};
use crate::broker::{Command, Draft, Entry};
use crate::history::{Entries, Gap};

/// A shard's own name for who asked to join. Opaque here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Joiner(pub u64);

/// One thing to do. Everything for one shard is to be handed to it in the order given.
#[derive(Debug)]
pub enum Output {
    /// For the broker.
    Command(Command),
    /// Hand on the messages of `envelope` behind `after`.
    Deliver {
        /// To these shards.
        shards: ShardSet,
        /// Whose messages they are.
        scope: Scope,
        /// Checked: [`wire::Envelope::parse`] and its items succeed.
        envelope: Bytes,
        /// Where the shards stand already.
        after: Position,
    },
    /// Hand on messages that were missed and have been read.
    Replay {
        /// To these shards.
        shards: ShardSet,
        /// Whose messages they are.
        scope: Scope,
        /// In order.
        entries: Vec<Entry>,
    },
    /// The answer to a join.
    Joined {
        /// The shard that asked.
        shard: ShardIndex,
        /// For whom.
        joiner: Joiner,
        /// What came of it.
        joined: Joined,
    },
    /// Messages of a scope may be missing for everybody who is in it. Not for those who still join: their answer
    /// ends behind the gap, or tells of one.
    Gap {
        /// The shards to tell.
        shards: ShardSet,
        /// The scope.
        scope: Scope,
        /// Which messages, and why.
        gap: Gap,
    },
    /// Hand on messages that the broker has not taken and never will: they have no position. Also to those who still
    /// join, once they have been told that they may wait.
    Local {
        /// To these shards.
        shards: ShardSet,
        /// Whose messages they are.
        scope: Scope,
        /// In order.
        messages: Vec<Draft>,
    },
    /// The broker is back: tell everybody in the scope, and those who still join, that messages travelled within this
    /// instance alone since it was lost. They lie directly behind what was handed on last.
    Isolated {
        /// The shards to tell.
        shards: ShardSet,
        /// The scope.
        scope: Scope,
    },
    /// The broker is lost, or is back and every scope has been repaired or told of its gap.
    Degraded {
        /// Whether it is lost now.
        degraded: bool,
    },
}

/// The answer to a join.
///
/// What the shard hears of the scope between its `join` and this answer is kept for the joiner. Once the answer
/// is there without `more`, what was kept is handed on behind `upto`, and everything after it as it comes:
/// nothing that is output after this answer stands at or before `upto`.
#[derive(Debug, PartialEq, Eq)]
pub struct Joined {
    /// Of which scope.
    pub scope: Scope,
    /// Where the joiner begins.
    pub start: Start,
    /// Further positions of the joiner that cannot be honoured, if it gave several: what was seen behind each goes on at
    /// the gap's end.
    pub lost: Vec<Gap>,
    /// What it missed, in order.
    pub entries: Entries,
    /// How far it has come with `entries`. Absent only with [`Start::Degraded`].
    pub upto: Option<Position>,
    /// True when there is more to catch up with: join again behind `upto`, and go on keeping what is heard.
    pub more: bool,
}

/// Where a joiner begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the newest message: it gave no position.
    Fresh,
    /// Directly behind the position it gave; of several, the lowest that can be honoured.
    Resumed,
    /// At the newest message: its position could not be honoured, of several none. The gap of the lowest.
    Gap(Gap),
    /// Not yet: the broker cannot be asked. This is an interim answer; when the broker is back, another one with
    /// what was missed follows for the same joiner, unless its shard left.
    Degraded,
}
