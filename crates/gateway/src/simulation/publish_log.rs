//! Every message that was published, on whichever node it was stored. The clients' frames are compared with this log.
//!
//! ```text
//!   generation 7:  1 2 3 4 5          4 and 5 were lost in a failover: generation 9 begins after 7-3
//!   generation 9:      └─▶ 1 2 3
//! ```
//!
//! A client at 7-2 that receives 9-2 must have received 7-3 and 9-1 too, or a gap. A client at 7-5 is on a lost
//! branch: it must have received a gap.

use std::collections::BTreeMap;

use wire::Position;

/// Every message of every scope.
#[derive(Debug, Default)]
pub(super) struct PublishLog {
    scopes: BTreeMap<Box<str>, Scope>,
    /// The positions at which each message was stored, by its number.
    places: BTreeMap<u64, Vec<(Box<str>, Position)>>,
}

#[derive(Debug, Default)]
struct Scope {
    generations: BTreeMap<u64, Generation>,
}

#[derive(Debug, Default)]
struct Generation {
    /// The last position of the generation before; `None` after an erasure.
    parent: Option<Position>,
    /// A generation with a higher number began before, so that the numbers are not in the order of time.
    is_belated: bool,
    /// The messages in order. The first has offset 1.
    messages: Vec<Message>,
}

#[derive(Debug)]
pub(super) struct Message {
    /// Number of the message in the run. It is also its payload.
    pub(super) number: u64,
    pub(super) topic: Box<str>,
    /// Time at which it was stored, in virtual milliseconds.
    pub(super) at_ms: u64,
}

/// A range of one generation: the offsets after `after`, up to and including `upto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffsetRange {
    pub(super) generation: u64,
    pub(super) after: u64,
    pub(super) upto: u64,
}

/// The error for a position that is not on the path to the other position.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Elsewhere;

impl PublishLog {
    /// Records that a generation has begun.
    pub(super) fn begin(&mut self, scope: &str, generation: u64, parent: Option<Position>) {
        let scope = self.scope_mut(scope);
        let is_belated = scope.generations.keys().next_back().is_some_and(|newest| *newest > generation);
        scope.generations.entry(generation).or_insert(Generation { parent, is_belated, messages: Vec::new() });
    }

    /// Records that a message was stored.
    ///
    /// # Errors
    /// If another message has its position, or if it was stored before on the same branch.
    pub(super) fn store(&mut self, scope: &str, at: Position, message: Message, once: bool) -> Result<(), String> {
        let number = message.number;
        let places = self.places.get(&number).cloned().unwrap_or_default();
        for (_, before) in places {
            if once && self.path(scope, before, at).is_ok() {
                return Err(format!("{scope}: message {number} is stored at {before} and again at {at}"));
            }
        }
        self.places.entry(number).or_default().push((scope.into(), at));
        let generation = self.scope_mut(scope).generations.get_mut(&at.generation);
        let generation = generation.ok_or_else(|| format!("{scope}: {at} belongs to no generation"))?;
        if generation.messages.len() as u64 + 1 != at.offset {
            return Err(format!("{scope}: {at} was assigned before, or the position before it never was"));
        }
        generation.messages.push(message);
        Ok(())
    }

    /// Returns all positions at which a message was stored, including lost ones.
    pub(super) fn places(&self, number: u64) -> &[(Box<str>, Position)] {
        self.places.get(&number).map_or(&[], Vec::as_slice)
    }

    pub(super) fn message(&self, scope: &str, at: Position) -> Option<&Message> {
        let index = usize::try_from(at.offset.checked_sub(1)?).ok()?;
        self.scopes.get(scope)?.generations.get(&at.generation)?.messages.get(index)
    }

    /// Returns the number of messages that were stored in a generation, including lost ones.
    pub(super) fn stored(&self, scope: &str, generation: u64) -> u64 {
        let generation = self.scopes.get(scope).and_then(|scope| scope.generations.get(&generation));
        generation.map_or(0, |generation| generation.messages.len() as u64)
    }

    /// Returns the path from one position to another, newest range first.
    pub(super) fn path(&self, scope: &str, from: Position, to: Position) -> Result<Vec<OffsetRange>, Elsewhere> {
        let scope = self.scopes.get(scope).ok_or(Elsewhere)?;
        let (mut stretches, mut end) = (Vec::new(), to);
        while end.generation != from.generation {
            stretches.push(OffsetRange { generation: end.generation, after: 0, upto: end.offset });
            let generation = scope.generations.get(&end.generation).ok_or(Elsewhere)?;
            end = generation.parent.ok_or(Elsewhere)?;
        }
        if from.offset > end.offset {
            return Err(Elsewhere);
        }
        stretches.push(OffsetRange { generation: end.generation, after: from.offset, upto: end.offset });
        Ok(stretches)
    }

    /// Whether messages that are not on the path were stored later than the message at `from`. Redis has lost these
    /// messages.
    pub(super) fn has_lost_branch(&self, scope: &str, from: Position, path: &[OffsetRange]) -> bool {
        let since_ms = self.message(scope, from).map_or(0, |message| message.at_ms);
        let generations = self.scopes.get(scope).into_iter().flat_map(|scope| &scope.generations);
        let mut branches = generations.filter(|(number, _)| !path.iter().any(|range| range.generation == **number));
        branches.any(|(_, generation)| generation.messages.last().is_some_and(|message| message.at_ms >= since_ms))
    }

    /// Returns the position at which the path to `top` leaves the path to `gone`, if messages after it were lost.
    /// `None` if none were lost, or if the paths have nothing in common.
    pub(super) fn fork(&self, scope: &str, gone: Position, top: Position) -> Option<Position> {
        let ends = |mut at: Position| {
            let generations = &self.scopes.get(scope)?.generations;
            let mut ends = vec![at];
            while let Some(parent) = generations.get(&at.generation)?.parent {
                ends.push(parent);
                at = parent;
            }
            Some(ends)
        };
        let (lost, kept) = (ends(gone)?, ends(top)?);
        let (own, end) = lost.iter().find_map(|own| {
            let end = kept.iter().find(|end| end.generation == own.generation)?;
            Some((*own, *end))
        })?;
        let is_whole = own == gone && own.offset <= end.offset;
        // Between them is a generation in which nothing was stored.
        (gone.offset > 0 && !is_whole && end != top).then_some(end)
    }

    /// Whether the path contains a generation that began after one with a higher number.
    pub(super) fn is_belated(&self, scope: &str, path: &[OffsetRange]) -> bool {
        let Some(scope) = self.scopes.get(scope) else { return false };
        path.iter().any(|range| scope.generations.get(&range.generation).is_some_and(|it| it.is_belated))
    }

    /// Returns one line per generation of a scope.
    pub(super) fn story(&self, scope: &str) -> Vec<String> {
        let generations = self.scopes.get(scope).into_iter().flat_map(|scope| &scope.generations);
        let line = |(number, Generation { parent, messages, .. }): (&u64, &Generation)| {
            let times: Vec<_> = messages.iter().map(|message| message.at_ms).collect();
            format!("{scope}: {number} after {parent:?}, stored at {times:?}")
        };
        generations.map(line).collect()
    }

    fn scope_mut(&mut self, scope: &str) -> &mut Scope {
        if !self.scopes.contains_key(scope) {
            self.scopes.insert(scope.into(), Scope::default());
        }
        self.scopes.get_mut(scope).expect("inserted above")
    }
}

impl OffsetRange {
    pub(super) fn positions(&self) -> impl Iterator<Item = Position> + use<> {
        let generation = self.generation;
        (self.after + 1..=self.upto).map(move |offset| Position::new(generation, offset))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.upto <= self.after
    }
}
