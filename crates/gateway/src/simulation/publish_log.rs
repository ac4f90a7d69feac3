//! What was published, by whatever node stored it: the truth that clients' frames are compared with.
//!
//! ```text
//!   generation 7:  1 2 3 4 5          5 and 4 were lost by a failover: generation 9 begins behind 7-3
//!   generation 9:      └─▶ 1 2 3
//! ```
//!
//! A client that stands at 7-2 and is handed 9-2 must have been handed 7-3 and 9-1 as well, or have been told of a
//! gap. One that stands at 7-5 is on a branch that was lost: it must have been told.

use std::collections::BTreeMap;

use wire::Position;

/// Every message of every scope.
#[derive(Debug, Default)]
pub(super) struct PublishLog {
    scopes: BTreeMap<Box<str>, Scope>,
    /// Where each message was stored.
    places: BTreeMap<u64, Vec<(Box<str>, Position)>>,
}

#[derive(Debug, Default)]
struct Scope {
    generations: BTreeMap<u64, Generation>,
}

#[derive(Debug, Default)]
struct Generation {
    /// Where the one before ended; none after an erasure.
    parent: Option<Position>,
    /// One with a higher number was begun before: by its number it seems to have come first.
    is_belated: bool,
    /// In order; the first has offset 1.
    messages: Vec<Message>,
}

#[derive(Debug)]
pub(super) struct Message {
    /// Its number in the run, which is its payload.
    pub(super) number: u64,
    pub(super) topic: Box<str>,
    /// When, in the run's time.
    pub(super) at_ms: u64,
}

/// A stretch of one generation: behind `after`, up to and with `upto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffsetRange {
    pub(super) generation: u64,
    pub(super) after: u64,
    pub(super) upto: u64,
}

/// The position is on no branch that leads there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Elsewhere;

impl PublishLog {
    /// A generation has begun.
    pub(super) fn begin(&mut self, scope: &str, generation: u64, parent: Option<Position>) {
        let scope = self.scope_mut(scope);
        let is_belated = scope.generations.keys().next_back().is_some_and(|newest| *newest > generation);
        scope.generations.entry(generation).or_insert(Generation { parent, is_belated, messages: Vec::new() });
    }

    /// A message was stored.
    ///
    /// # Errors
    /// When its position was another message's, or it was stored before on the same branch.
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
        let generation = generation.ok_or_else(|| format!("{scope}: {at} is stored in no generation"))?;
        if generation.messages.len() as u64 + 1 != at.offset {
            return Err(format!("{scope}: {at} was handed out before, or what is before it never was"));
        }
        generation.messages.push(message);
        Ok(())
    }

    /// Where a message was stored, wherever that is now.
    pub(super) fn places(&self, number: u64) -> &[(Box<str>, Position)] {
        self.places.get(&number).map_or(&[], Vec::as_slice)
    }

    pub(super) fn message(&self, scope: &str, at: Position) -> Option<&Message> {
        let index = usize::try_from(at.offset.checked_sub(1)?).ok()?;
        self.scopes.get(scope)?.generations.get(&at.generation)?.messages.get(index)
    }

    /// How many were stored in a generation, lost or not.
    pub(super) fn stored(&self, scope: &str, generation: u64) -> u64 {
        let generation = self.scopes.get(scope).and_then(|scope| scope.generations.get(&generation));
        generation.map_or(0, |generation| generation.messages.len() as u64)
    }

    /// The way from one position to another, newest stretch first.
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

    /// Whether messages that are not on the way were stored later than the one at `from`: those Redis has lost.
    pub(super) fn has_lost_branch(&self, scope: &str, from: Position, path: &[OffsetRange]) -> bool {
        let since_ms = self.message(scope, from).map_or(0, |message| message.at_ms);
        let generations = self.scopes.get(scope).into_iter().flat_map(|scope| &scope.generations);
        let mut branches = generations.filter(|(number, _)| !path.iter().any(|range| range.generation == **number));
        branches.any(|(_, generation)| generation.messages.last().is_some_and(|message| message.at_ms >= since_ms))
    }

    /// Where the way to `top` leaves that to `gone`, of which something was lost behind it. None if nothing was, or if they
    /// have nothing in common.
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
        // What lies between is a generation in which nothing was stored.
        (gone.offset > 0 && !is_whole && end != top).then_some(end)
    }

    /// Whether the way leads through a generation that was begun after one with a higher number.
    pub(super) fn is_belated(&self, scope: &str, path: &[OffsetRange]) -> bool {
        let Some(scope) = self.scopes.get(scope) else { return false };
        path.iter().any(|range| scope.generations.get(&range.generation).is_some_and(|it| it.is_belated))
    }

    /// The generations of a scope, a line each.
    pub(super) fn story(&self, scope: &str) -> Vec<String> {
        let generations = self.scopes.get(scope).into_iter().flat_map(|scope| &scope.generations);
        let line = |(number, Generation { parent, messages, .. }): (&u64, &Generation)| {
            let times: Vec<_> = messages.iter().map(|message| message.at_ms).collect();
            format!("{scope}: {number} behind {parent:?}, stored at {times:?}")
        };
        generations.map(line).collect()
    }

    fn scope_mut(&mut self, scope: &str) -> &mut Scope {
        if !self.scopes.contains_key(scope) {
            self.scopes.insert(scope.into(), Scope::default());
        }
        self.scopes.get_mut(scope).expect("just seen to")
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
