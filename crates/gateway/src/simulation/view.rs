//! One subscription as its client sees it, compared with the ledger frame by frame.

use std::collections::BTreeMap;

use redis_model::{Deployment, NodeIndex};
use wire::{Filter, GapReason, Pattern, Position, Scope};

use super::ledger::{Ledger, Stretch};
use super::plan::Mode;

/// What the frames are held against.
pub(super) struct Judge<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) deployment: &'a Deployment,
    pub(super) primary: NodeIndex,
    pub(super) mode: Mode,
    /// Something was heard here that was never stored, or there were two primaries a moment ago, or Redis' clock has
    /// jumped, so that generations are not in order: to an instance each looks as if Redis had lost something.
    pub(super) is_haunted: bool,
    /// What a family keeps: nothing, or for how long.
    pub(super) keeps_ms: Option<u64>,
    /// Behind these, messages were lost that others have been told of since before the client connected.
    pub(super) losses: Vec<Position>,
    /// By each node's clock.
    pub(super) clocks_ms: [u64; 2],
}

/// A `gap` as it came.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) after: Option<Position>,
    pub(super) upto: Option<Position>,
    pub(super) reason: String,
    pub(super) certain: bool,
}

/// What the client has been told of its subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It stands, and the broker is away.
    Degraded,
    /// A gap must follow before anything else.
    OwedGap,
    Live,
}

#[derive(Debug)]
pub(super) struct View {
    pub(super) scope: Scope,
    pub(super) filter: Filter,
    /// The position that the client gave.
    given: Option<Position>,
    /// Nobody had given it that one.
    forged: bool,
    standing: Standing,
    /// Where the stream of this subscription stands.
    last: Position,
    /// What the client would give when it comes back.
    pub(super) stored: Option<Position>,
    /// A message without a position has come: a gap must say so.
    pub(super) owes_isolated: bool,
    /// It resumed without a gap.
    pub(super) resumed: bool,
    /// Where the stream goes on behind the gap that is owed.
    begins: Position,
    /// By generation: the newest offset that came through it.
    newest: BTreeMap<u64, u64>,
    /// By generation: up to where it was told of gaps. What Redis loses may come back with an old primary.
    covered: BTreeMap<u64, u64>,
    /// When it began afresh: what was stored before is not owed, even if it comes back.
    since_ms: u64,
    /// Messages since, and those among them that had been stored before the connection began.
    pub(super) heard: u64,
    pub(super) replayed: u64,
    /// It was moved to a newer generation, and to a smaller offset.
    pub(super) moved: Option<u64>,
    /// It is brought back, and has not been told where it goes on: what its client had before, and whether some of that
    /// may come again.
    restored: Option<(Option<Box<View>>, bool)>,
}

/// The `subscribed` of a subscription.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscribed {
    pub(super) position: Option<Position>,
    pub(super) resumed: bool,
    pub(super) degraded: bool,
}

impl Judge<'_> {
    /// The newest offset of a generation that the primary knows of.
    fn kept_of(&self, scope: &str, generation: u64) -> Option<u64> {
        let meta = self.deployment.node(self.primary).meta(scope)?;
        let known = meta.earlier.iter().chain([&meta.top()]).find(|top| top.generation == generation)?.offset;
        Some(known)
    }
}

impl Judge<'_> {
    /// The end on this way, newest stretch first, behind which something is known to have been lost.
    fn loss_on(&self, way: &[Stretch]) -> Option<Position> {
        let ends = |end: &&Position| way.iter().skip(1).any(|stretch| stretch.generation == end.generation);
        self.losses.iter().find(ends).copied()
    }
}

impl View {
    pub(super) fn new(pattern: Pattern, given: Option<Position>, forged: bool) -> Self {
        let Pattern { scope, filter } = pattern;
        Self {
            scope,
            filter,
            given,
            forged,
            standing: Standing::Degraded,
            last: given.unwrap_or_default(),
            stored: given.filter(|_| !forged),
            owes_isolated: false,
            resumed: false,
            begins: Position::default(),
            newest: BTreeMap::new(),
            covered: BTreeMap::new(),
            since_ms: 0,
            heard: 0,
            replayed: 0,
            moved: None,
            restored: None,
        }
    }

    /// Of a client that has given no position, because it keeps none.
    pub(super) fn restored(pattern: Pattern, before: Option<Box<Self>>, repeats: bool) -> Self {
        Self { restored: Some((before, repeats)), ..Self::new(pattern, None, false) }
    }

    /// What its client has had of it, on this connection or before.
    pub(super) fn had(mut self) -> Option<Box<Self>> {
        match self.restored.take() {
            Some((before, _)) => before,
            None => Some(Box::new(self)),
        }
    }

    /// It goes on behind this position: nothing is passed over, and nothing comes again of which that was not said.
    fn may_go_on(&self, at: Position, repeats: bool, judge: &Judge<'_>) -> Result<(), String> {
        let seen = self.newest.last_key_value().map(|(generation, offset)| Position::new(*generation, *offset));
        if !repeats && seen > Some(at) {
            return Err(format!("goes on behind {at}, has had {seen:?}, and is told that nothing comes twice"));
        }
        // What a client keeps is the larger of what it was told, also behind a gap that leads back. One that has never been
        // told where it stands is owed nothing.
        if at <= self.last || self.stored.is_none_or(|stored| at <= stored) {
            return Ok(());
        }
        match self.first_owed(at, judge)? {
            None => Ok(()),
            Some(first) => Err(format!("goes on behind {at}, had come to {}, and {first} lies between", self.last)),
        }
    }

    /// Takes a `subscribed`: the only one, or the second after one that said degraded.
    pub(super) fn subscribed(&mut self, told: Subscribed, now_ms: u64, judge: &Judge<'_>) -> Result<(), String> {
        if self.standing != Standing::Degraded {
            return Err("subscribed twice".into());
        }
        let Subscribed { position, resumed, degraded } = told;
        let Some(position) = position else {
            return if degraded && !resumed { Ok(()) } else { Err(format!("{told:?} has no position")) };
        };
        let before = self.restored.as_ref().and_then(|(before, _)| before.as_deref());
        let stood = before.is_some_and(|before| before.stored.is_some());
        match self.given {
            None if self.restored.is_some() && resumed => {
                let (before, repeats) = self.restored.take().unwrap_or_default();
                before.map_or(Ok(()), |before| before.may_go_on(position, repeats, judge))?;
                self.given = Some(position);
                self.standing = Standing::Live;
                self.last = position;
            }
            None if stood && !degraded => {
                self.standing = Standing::OwedGap;
                self.begins = position;
            }
            _ if degraded => return Err(format!("{told:?} has a position")),
            None if resumed => return Err("resumed from nowhere".into()),
            Some(given) if resumed && given != position => {
                return Err(format!("resumed from {position}, and it gave {given}"));
            }
            Some(_) if !resumed => {
                self.standing = Standing::OwedGap;
                self.begins = position;
            }
            given => {
                self.since_ms = if given.is_none() { now_ms } else { 0 };
                self.standing = Standing::Live;
                self.last = position;
            }
        }
        self.resumed = resumed;
        self.store(position);
        Ok(())
    }

    /// Whether a message of this topic could come through it.
    pub(super) fn hears(&self, scope: &Scope, topic: &str) -> bool {
        self.scope == *scope && self.filter.matches(topic)
    }

    pub(super) fn is_new(&self, position: Position) -> bool {
        self.standing == Standing::Live && position > self.last
    }

    pub(super) fn is_live(&self) -> bool {
        self.standing == Standing::Live
    }

    /// A message came through it.
    pub(super) fn hear(&mut self, position: Position, judge: &Judge<'_>) -> Result<(), String> {
        if self.owes_isolated {
            return Err("local messages came before, and no gap has said so".into());
        }
        let first = self.first_owed(position, judge)?;
        if first.is_some_and(|first| first != position) {
            return Err(format!("{position} behind {}, and {first:?} lies between", self.last));
        }
        if position.generation > self.last.generation && position.offset < self.last.offset {
            self.moved = Some(position.generation);
        }
        if self.newest.insert(position.generation, position.offset) >= Some(position.offset) {
            return Err("it came before".into());
        }
        self.heard += 1;
        self.restored = None;
        self.last = position;
        self.store(position);
        Ok(())
    }

    /// A `position` frame: nothing for it lies between.
    pub(super) fn position(&mut self, position: Position, judge: &Judge<'_>) -> Result<(), String> {
        self.must_be_live("a position")?;
        if position < self.last {
            return Err(format!("moved back to {position} from {}", self.last));
        }
        self.skip(position, judge)
    }

    pub(super) fn gap(&mut self, told: &Told, judge: &Judge<'_>) -> Result<(), String> {
        let (Some(after), Some(upto)) = (told.after, told.upto) else { return Err(format!("{told:?} has no ends")) };
        // One that leads elsewhere than to where the subscription has been said to begin tells of something else.
        let is_first = self.standing == Standing::OwedGap || (self.is_live() && upto == self.last);
        if let Some((before, repeats)) = self.restored.take_if(|_| is_first) {
            before.map_or(Ok(()), |before| before.may_go_on(after, repeats, judge))?;
            // Where it was, the client hears only now.
            self.begins = self.last.max(self.begins);
            self.standing = Standing::OwedGap;
            self.given = Some(after);
            self.store(after);
        }
        match self.standing {
            Standing::Degraded => return Err("a gap before it was subscribed".into()),
            Standing::OwedGap if self.given != told.after => {
                return Err(format!("{told:?}, and it gave {:?}", self.given));
            }
            Standing::Live if after > self.last => self.skip(after, judge)?,
            Standing::OwedGap | Standing::Live => {}
        }
        if !self.forged || self.standing == Standing::Live {
            self.must_be_true(told, after, upto, judge)?;
        }
        if judge.mode == Mode::Lossless
            && !self.forged
            && upto < self.last
            && judge.ledger.way(self.scope.as_str(), upto, self.last).is_ok()
        {
            return Err(format!("{told:?} sets it back from {}", self.last));
        }
        self.last = if self.standing == Standing::OwedGap { self.begins } else { upto };
        self.standing = Standing::Live;
        self.resumed = false;
        let covered = self.covered.entry(upto.generation).or_default();
        *covered = upto.offset.max(*covered);
        self.store(upto);
        Ok(())
    }

    /// Whether a gap leaves out what others have been told was lost, and nothing else shows.
    pub(super) fn spans_loss(&self, told: &Told, judge: &Judge<'_>) -> bool {
        let (Some(after), Some(upto)) = (told.after, told.upto) else { return false };
        let way = judge.ledger.way(self.scope.as_str(), after, upto);
        !self.forged && way.is_ok_and(|way| judge.loss_on(&way).is_some())
    }

    /// Messages have stayed on the instance. Its ends are where the subscription stands.
    pub(super) fn isolated(&mut self, told: &Told, judge: &Judge<'_>) -> Result<(), String> {
        self.owes_isolated = false;
        if let (Some((Some(before), repeats)), Some(after)) = (&self.restored, told.after) {
            before.may_go_on(after, *repeats, judge)?;
        }
        let stands = match self.standing {
            Standing::Degraded if self.restored.is_some() => told.after,
            Standing::Degraded => self.given,
            Standing::OwedGap => return Err(format!("{told:?} before the gap that is owed")),
            Standing::Live => told.after,
        };
        if told.after != stands || told.upto != stands || told.certain {
            return Err(format!("{told:?}, and it stands at {:?}", stands.unwrap_or(self.last)));
        }
        match stands {
            Some(stands) if self.is_live() && stands > self.last => self.skip(stands, judge),
            _ => Ok(()),
        }
    }

    /// Nothing is on its way any more: nothing is missing up to the scope's top.
    pub(super) fn must_have_all(&self, judge: &Judge<'_>) -> Result<(), String> {
        self.must_be_live("the end")?;
        if self.owes_isolated {
            return Err("local messages came, and no gap has said so".into());
        }
        let meta = judge.deployment.node(judge.primary).meta(self.scope.as_str()).ok_or("the scope has no metadata")?;
        match self.first_owed(meta.top(), judge)? {
            None => Ok(()),
            Some(first) => Err(format!("stands at {}, and {first} never came", self.last)),
        }
    }

    /// The first message on the way to `to` that it must have got.
    fn first_owed(&self, to: Position, judge: &Judge<'_>) -> Result<Option<Position>, String> {
        let scope = self.scope.as_str();
        let way = judge.ledger.way(scope, self.last, to);
        let way =
            way.map_err(|_| format!("{to} does not continue {}: that was lost, and no gap said so", self.last))?;
        if let Some(end) = judge.loss_on(&way) {
            return Err(format!("{to} behind {}: what followed {end} was lost, as others have been told", self.last));
        }
        let is_known = |position: &Position| {
            let upto = |known: &BTreeMap<u64, u64>| known.get(&position.generation).copied();
            Some(position.offset) <= upto(&self.covered).max(upto(&self.newest))
        };
        let is_owed = |position: &Position| {
            let message = judge.ledger.message(scope, *position);
            message.is_some_and(|m| self.filter.matches(&m.topic) && m.at_ms >= self.since_ms) && !is_known(position)
        };
        Ok(way.iter().rev().flat_map(Stretch::positions).find(is_owed))
    }

    fn skip(&mut self, position: Position, judge: &Judge<'_>) -> Result<(), String> {
        if let Some(first) = self.first_owed(position, judge)? {
            return Err(format!("told that it has come to {position} from {}, and {first} lies between", self.last));
        }
        self.restored = None;
        self.last = position;
        self.store(position);
        Ok(())
    }

    fn must_be_live(&self, what: &str) -> Result<(), String> {
        if self.is_live() { Ok(()) } else { Err(format!("{what} came while it was {:?}", self.standing)) }
    }

    /// A gap is told when something is missing, or may be: never otherwise.
    fn must_be_true(&self, told: &Told, after: Position, upto: Position, judge: &Judge<'_>) -> Result<(), String> {
        let scope = self.scope.as_str();
        let may_look_lost = [GapReason::Failover.as_str(), GapReason::UnknownPosition.as_str()];
        if judge.is_haunted && may_look_lost.contains(&told.reason.as_str()) {
            return Ok(());
        }
        let Ok(way) = judge.ledger.way(scope, after, upto) else {
            // On a branch that was lost, or never there.
            return if told.certain && told.reason != GapReason::Failover.as_str() {
                Err(format!("{told:?} is certain of what nobody can know"))
            } else {
                self.may_be_lost(told, judge)
            };
        };
        let is_lost = |stretch: &Stretch| {
            let kept = judge.kept_of(scope, stretch.generation);
            judge.ledger.stored(scope, stretch.generation) > kept.unwrap_or(0)
        };
        let is_lost = way.iter().any(is_lost) || judge.ledger.has_lost_branch(scope, after, &way);
        let is_missing = match judge.keeps_ms {
            None if may_look_lost.contains(&told.reason.as_str()) => is_lost,
            None => way.iter().any(|stretch| !stretch.is_empty()),
            Some(ttl_ms) => is_lost || self.is_past(&way, ttl_ms, judge),
        };
        // What is gone, and told already, seems to have followed where it cannot have: generations of one second, or begun
        // ahead of the clock, are in no order, and to Redis the loss of one may be that of another.
        let is_told_again =
            told.reason == GapReason::Failover.as_str() && !told.certain && judge.ledger.is_belated(scope, &way);
        // Only so many generations are listed.
        let is_too_old = way.len() > 16;
        if is_missing || is_told_again || (is_too_old && !told.certain) {
            if judge.keeps_ms.is_none() { Ok(()) } else { self.may_be_lost(told, judge) }
        } else {
            Err(format!("{told:?}, and nothing is missing"))
        }
    }

    /// In a run that loses nothing, no gap of a family with history is true.
    fn may_be_lost(&self, told: &Told, judge: &Judge<'_>) -> Result<(), String> {
        match judge.mode {
            Mode::Lossless if told.reason != GapReason::UnknownPosition.as_str() => {
                Err(format!("{told:?}, and Redis keeps everything"))
            }
            Mode::Lossless | Mode::Losing => Ok(()),
        }
    }

    /// Whether some of it is not kept any more, by some node.
    fn is_past(&self, way: &[Stretch], ttl_ms: u64, judge: &Judge<'_>) -> bool {
        let scope = self.scope.as_str();
        [0, 1].into_iter().any(|at| {
            let kept = judge.deployment.node(NodeIndex(at)).stream(scope);
            let is_kept = |position: Position| {
                let entry = kept.and_then(|stream| stream.find(position));
                entry.is_some_and(|entry| entry.time_ms + ttl_ms > judge.clocks_ms[at])
            };
            way.iter().flat_map(Stretch::positions).any(|position| !is_kept(position))
        })
    }

    fn store(&mut self, position: Position) {
        self.stored = self.stored.max(Some(position));
    }
}
