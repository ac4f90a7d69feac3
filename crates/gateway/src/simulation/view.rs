//! One subscription as its client sees it. Each frame is compared with the publish log.

use std::collections::BTreeMap;

use redis_model::{Deployment, NodeIndex};
use wire::{Filter, GapReason, Pattern, Position, Scope};

use super::plan::Mode;
use super::publish_log::{OffsetRange, PublishLog};

/// The facts that the frames are compared with.
pub(super) struct Judge<'a> {
    pub(super) publish_log: &'a PublishLog,
    pub(super) deployment: &'a Deployment,
    pub(super) primary: NodeIndex,
    pub(super) mode: Mode,
    /// Whether something may look like a loss to instances: a message that was never stored was received, there were
    /// two primaries recently, or Redis' clock has jumped, so that generations are not in order.
    pub(super) may_look_lost_to_instances: bool,
    /// How long the family keeps messages, in milliseconds; `None` if it keeps none.
    pub(super) keeps_ms: Option<u64>,
    /// Positions after which messages were lost, and about which other clients were informed before this client
    /// connected.
    pub(super) losses: Vec<Position>,
    /// The time by the clock of each node, in milliseconds since 1970.
    pub(super) clocks_ms: [u64; 2],
}

/// The content of a `gap` frame.
#[derive(Debug, Clone)]
pub(super) struct GapFrame {
    pub(super) after: Option<Position>,
    pub(super) upto: Option<Position>,
    pub(super) reason: String,
    pub(super) certain: bool,
}

/// What the client knows of the state of its subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ViewState {
    /// Subscribed, but the broker is away.
    Degraded,
    /// The next frame must be a gap.
    ExpectGap,
    Live,
}

#[derive(Debug)]
pub(super) struct View {
    pub(super) scope: Scope,
    pub(super) filter: Filter,
    /// The position that the client sent.
    given: Option<Position>,
    /// Whether that position was forged.
    forged: bool,
    state: ViewState,
    /// Position of the subscription's stream.
    last: Position,
    /// The position that the client would send after a reconnect.
    pub(super) stored: Option<Position>,
    /// The same without the `after` of gaps, which this client also stores. The id of an event stream leaves it out.
    stored_in_id: Option<Position>,
    /// A message without a position has arrived: a gap must report it.
    pub(super) expects_isolated_gap: bool,
    /// Whether it resumed without a gap.
    pub(super) resumed: bool,
    /// Position at which the stream continues after the pending gap.
    begins: Position,
    /// The newest offset that was received, by generation.
    newest: BTreeMap<u64, u64>,
    /// The offset up to which gaps were received, by generation. Data that Redis loses may come back with an old
    /// primary.
    covered: BTreeMap<u64, u64>,
    /// Time at which it began without a position. Messages stored before are not expected, even if they come back.
    since_ms: u64,
    /// Number of messages received, and of those that were stored before the connection began.
    pub(super) received: u64,
    pub(super) replayed: u64,
    /// Set when it was moved to a newer generation and a smaller offset.
    pub(super) moved: Option<u64>,
    /// Set while it is restored and its position is not known yet: the client's earlier view, and whether some
    /// messages may come again.
    restored: Option<(Option<Box<View>>, bool)>,
}

/// The content of a `subscribed` frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscribed {
    pub(super) position: Option<Position>,
    pub(super) resumed: bool,
    pub(super) degraded: bool,
}

impl Judge<'_> {
    /// Returns the newest offset of a generation that the primary knows.
    fn kept_of(&self, scope: &str, generation: u64) -> Option<u64> {
        let meta = self.deployment.node(self.primary).meta(scope)?;
        let known = meta.earlier.iter().chain([&meta.top()]).find(|top| top.generation == generation)?.offset;
        Some(known)
    }
}

impl Judge<'_> {
    /// Returns the end on this path, newest range first, after which a loss is known.
    fn loss_on(&self, path: &[OffsetRange]) -> Option<Position> {
        let ends = |end: &&Position| path.iter().skip(1).any(|range| range.generation == end.generation);
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
            state: ViewState::Degraded,
            last: given.unwrap_or_default(),
            stored: given.filter(|_| !forged),
            stored_in_id: given.filter(|_| !forged),
            expects_isolated_gap: false,
            resumed: false,
            begins: Position::default(),
            newest: BTreeMap::new(),
            covered: BTreeMap::new(),
            since_ms: 0,
            received: 0,
            replayed: 0,
            moved: None,
            restored: None,
        }
    }

    /// Creates the view of a client that sent no position, because it keeps none.
    pub(super) fn restored(pattern: Pattern, before: Option<Box<Self>>, repeats: bool) -> Self {
        Self { restored: Some((before, repeats)), ..Self::new(pattern, None, false) }
    }

    /// Returns the client's view of the subscription, from this connection or from an earlier one.
    pub(super) fn had(mut self) -> Option<Box<Self>> {
        match self.restored.take() {
            Some((before, _)) => before,
            None => Some(Box::new(self)),
        }
    }

    /// Checks that the subscription may continue after this position: no message is skipped, and none comes twice
    /// unless that was announced.
    fn may_go_on(&self, at: Position, repeats: bool, judge: &Judge<'_>) -> Result<(), String> {
        let seen = self.newest.last_key_value().map(|(generation, offset)| Position::new(*generation, *offset));
        if !repeats && seen > Some(at) {
            return Err(format!("continues after {at}, but it has received {seen:?} and no repetition was announced"));
        }
        // A client keeps the largest position that it was sent, even after a gap that leads back. A client that was
        // never sent a position can expect nothing.
        if at <= self.last || self.stored.is_none_or(|stored| at <= stored) {
            return Ok(());
        }
        match self.first_missing(at, judge)? {
            None => Ok(()),
            Some(first) => Err(format!("continues after {at}, but it was at {}, and {first} is missing", self.last)),
        }
    }

    /// Handles a `subscribed`: the only one, or the second one after a degraded one.
    pub(super) fn subscribed(&mut self, claim: Subscribed, now_ms: u64, judge: &Judge<'_>) -> Result<(), String> {
        if self.state != ViewState::Degraded {
            return Err("subscribed twice".into());
        }
        let Subscribed { position, resumed, degraded } = claim;
        let Some(position) = position else {
            return if degraded && !resumed { Ok(()) } else { Err(format!("{claim:?} has no position")) };
        };
        let before = self.restored.as_ref().and_then(|(before, _)| before.as_deref());
        let stood = before.is_some_and(|before| before.stored.is_some());
        match self.given {
            None if self.restored.is_some() && resumed => {
                let (before, repeats) = self.restored.take().unwrap_or_default();
                before.map_or(Ok(()), |before| before.may_go_on(position, repeats, judge))?;
                self.given = Some(position);
                self.state = ViewState::Live;
                self.last = position;
            }
            None if stood && !degraded => {
                self.state = ViewState::ExpectGap;
                self.begins = position;
            }
            _ if degraded => return Err(format!("{claim:?} has a position")),
            None if resumed => return Err("resumed without a position".into()),
            Some(given) if resumed && given != position => {
                return Err(format!("resumed from {position}, but it sent {given}"));
            }
            Some(_) if !resumed => {
                self.state = ViewState::ExpectGap;
                self.begins = position;
            }
            given => {
                self.since_ms = if given.is_none() { now_ms } else { 0 };
                self.state = ViewState::Live;
                self.last = position;
            }
        }
        self.resumed = resumed;
        self.store(position);
        Ok(())
    }

    /// The position in the id of an event stream. A `subscribed` that a gap follows moves none: a client that is cut
    /// between the two must learn of the gap.
    pub(super) fn in_id(&self) -> Option<Position> {
        match self.state {
            ViewState::Live => self.stored_in_id,
            ViewState::Degraded | ViewState::ExpectGap => self.given,
        }
    }

    /// Whether a message of this topic matches the subscription.
    pub(super) fn receives(&self, scope: &Scope, topic: &str) -> bool {
        self.scope == *scope && self.filter.matches(topic)
    }

    pub(super) fn is_new(&self, position: Position) -> bool {
        self.state == ViewState::Live && position > self.last
    }

    pub(super) fn is_live(&self) -> bool {
        self.state == ViewState::Live
    }

    /// Handles a message of the subscription.
    pub(super) fn receive(&mut self, position: Position, judge: &Judge<'_>) -> Result<(), String> {
        if self.expects_isolated_gap {
            return Err("local messages arrived before, and no gap reported them".into());
        }
        let first = self.first_missing(position, judge)?;
        if first.is_some_and(|first| first != position) {
            return Err(format!("{position} after {}, but {first:?} is missing", self.last));
        }
        if position.generation > self.last.generation && position.offset < self.last.offset {
            self.moved = Some(position.generation);
        }
        if self.newest.insert(position.generation, position.offset) >= Some(position.offset) {
            return Err("it arrived before".into());
        }
        self.received += 1;
        self.restored = None;
        self.last = position;
        self.store(position);
        Ok(())
    }

    /// Handles a `position` frame: no message of the subscription may be before it.
    pub(super) fn position(&mut self, position: Position, judge: &Judge<'_>) -> Result<(), String> {
        self.must_be_live("a position")?;
        if position < self.last {
            return Err(format!("moved back to {position} from {}", self.last));
        }
        self.skip(position, judge)
    }

    pub(super) fn gap(&mut self, claim: &GapFrame, judge: &Judge<'_>) -> Result<(), String> {
        let (Some(after), Some(upto)) = (claim.after, claim.upto) else { return Err(format!("{claim:?} has no ends")) };
        // A gap that leads to another position than the announced beginning is about something else.
        let is_first = self.state == ViewState::ExpectGap || (self.is_live() && upto == self.last);
        if let Some((before, repeats)) = self.restored.take_if(|_| is_first) {
            before.map_or(Ok(()), |before| before.may_go_on(after, repeats, judge))?;
            // The client learns its position only now.
            self.begins = self.last.max(self.begins);
            self.state = ViewState::ExpectGap;
            self.given = Some(after);
            self.store(after);
        }
        match self.state {
            ViewState::Degraded => return Err("a gap before it was subscribed".into()),
            ViewState::ExpectGap if self.given != claim.after => {
                return Err(format!("{claim:?}, but it sent {:?}", self.given));
            }
            ViewState::Live if after > self.last => {
                let stored_in_id = self.stored_in_id;
                self.skip(after, judge)?;
                self.stored_in_id = stored_in_id;
            }
            ViewState::ExpectGap | ViewState::Live => {}
        }
        if !self.forged || self.state == ViewState::Live {
            self.must_be_true(claim, after, upto, judge)?;
        }
        if judge.mode == Mode::Lossless
            && !self.forged
            && upto < self.last
            && judge.publish_log.path(self.scope.as_str(), upto, self.last).is_ok()
        {
            return Err(format!("{claim:?} moves it back from {}", self.last));
        }
        self.last = if self.state == ViewState::ExpectGap { self.begins } else { upto };
        self.state = ViewState::Live;
        self.resumed = false;
        let covered = self.covered.entry(upto.generation).or_default();
        *covered = upto.offset.max(*covered);
        self.store(upto);
        Ok(())
    }

    /// Whether a gap covers a recorded loss that nothing else shows.
    pub(super) fn spans_loss(&self, claim: &GapFrame, judge: &Judge<'_>) -> bool {
        let (Some(after), Some(upto)) = (claim.after, claim.upto) else { return false };
        let path = judge.publish_log.path(self.scope.as_str(), after, upto);
        !self.forged && path.is_ok_and(|path| judge.loss_on(&path).is_some())
    }

    /// Handles an `isolated` gap, whose ends must be the position of the subscription.
    pub(super) fn isolated(&mut self, claim: &GapFrame, judge: &Judge<'_>) -> Result<(), String> {
        self.expects_isolated_gap = false;
        if let (Some((Some(before), repeats)), Some(after)) = (&self.restored, claim.after) {
            before.may_go_on(after, *repeats, judge)?;
        }
        let position_now = match self.state {
            ViewState::Degraded if self.restored.is_some() => claim.after,
            ViewState::Degraded => self.given,
            ViewState::ExpectGap => return Err(format!("{claim:?} before the pending gap")),
            ViewState::Live => claim.after,
        };
        if claim.after != position_now || claim.upto != position_now || claim.certain {
            return Err(format!("{claim:?}, but it is at {:?}", position_now.unwrap_or(self.last)));
        }
        self.stored_in_id = self.stored_in_id.max(claim.upto);
        match position_now {
            Some(position_now) if self.is_live() && position_now > self.last => self.skip(position_now, judge),
            _ => Ok(()),
        }
    }

    /// Checks at the end of a run that no message up to the scope's newest position is missing.
    pub(super) fn must_have_all(&self, judge: &Judge<'_>) -> Result<(), String> {
        self.must_be_live("the end")?;
        if self.expects_isolated_gap {
            return Err("local messages arrived, and no gap reported them".into());
        }
        let meta = judge.deployment.node(judge.primary).meta(self.scope.as_str()).ok_or("the scope has no metadata")?;
        match self.first_missing(meta.top(), judge)? {
            None => Ok(()),
            Some(first) => Err(format!("it is at {}, and {first} never arrived", self.last)),
        }
    }

    /// Returns the first message on the path to `to` that the client should have received and has not.
    fn first_missing(&self, to: Position, judge: &Judge<'_>) -> Result<Option<Position>, String> {
        let scope = self.scope.as_str();
        let path = judge.publish_log.path(scope, self.last, to);
        let path =
            path.map_err(|_| format!("{to} does not continue {}: messages were lost without a gap", self.last))?;
        if let Some(end) = judge.loss_on(&path) {
            return Err(format!("{to} after {}: the recorded loss after {end} was skipped without a gap", self.last));
        }
        let is_known = |position: &Position| {
            let upto = |known: &BTreeMap<u64, u64>| known.get(&position.generation).copied();
            Some(position.offset) <= upto(&self.covered).max(upto(&self.newest))
        };
        let is_expected = |position: &Position| {
            let message = judge.publish_log.message(scope, *position);
            message.is_some_and(|m| self.filter.matches(&m.topic) && m.at_ms >= self.since_ms) && !is_known(position)
        };
        Ok(path.iter().rev().flat_map(OffsetRange::positions).find(is_expected))
    }

    fn skip(&mut self, position: Position, judge: &Judge<'_>) -> Result<(), String> {
        if let Some(first) = self.first_missing(position, judge)? {
            return Err(format!("moved to {position} from {}, but {first} is missing", self.last));
        }
        self.restored = None;
        self.last = position;
        self.store(position);
        Ok(())
    }

    fn must_be_live(&self, what: &str) -> Result<(), String> {
        if self.is_live() { Ok(()) } else { Err(format!("{what} arrived while it was {:?}", self.state)) }
    }

    /// Checks that a gap is sent only if messages are missing, or may be missing.
    fn must_be_true(&self, claim: &GapFrame, after: Position, upto: Position, judge: &Judge<'_>) -> Result<(), String> {
        let scope = self.scope.as_str();
        let may_look_lost = [GapReason::Failover.as_str(), GapReason::UnknownPosition.as_str()];
        if judge.may_look_lost_to_instances && may_look_lost.contains(&claim.reason.as_str()) {
            return Ok(());
        }
        let Ok(path) = judge.publish_log.path(scope, after, upto) else {
            // The position is on a lost branch, or never existed.
            return if claim.certain && claim.reason != GapReason::Failover.as_str() {
                Err(format!("{claim:?} is certain, but this cannot be known"))
            } else {
                self.may_be_lost(claim, judge)
            };
        };
        let is_lost = |range: &OffsetRange| {
            let kept = judge.kept_of(scope, range.generation);
            judge.publish_log.stored(scope, range.generation) > kept.unwrap_or(0)
        };
        let is_lost = path.iter().any(is_lost) || judge.publish_log.has_lost_branch(scope, after, &path);
        let is_missing = match judge.keeps_ms {
            None if may_look_lost.contains(&claim.reason.as_str()) => is_lost,
            None => path.iter().any(|range| !range.is_empty()),
            Some(ttl_ms) => is_lost || self.is_past(&path, ttl_ms, judge),
        };
        // A loss that was reported before can look as if it had happened again: generations of the same second, or
        // begun ahead of the clock, are in no order, and Redis may confuse their losses.
        let is_repeated = claim.reason == GapReason::Failover.as_str()
            && !claim.certain
            && judge.publish_log.is_belated(scope, &path);
        // Redis lists only this many generations.
        let is_too_old = path.len() > 16;
        if is_missing || is_repeated || (is_too_old && !claim.certain) {
            if judge.keeps_ms.is_none() { Ok(()) } else { self.may_be_lost(claim, judge) }
        } else {
            Err(format!("{claim:?}, but nothing is missing"))
        }
    }

    /// In a run without losses, every gap of a family with history is wrong.
    fn may_be_lost(&self, claim: &GapFrame, judge: &Judge<'_>) -> Result<(), String> {
        match judge.mode {
            Mode::Lossless if claim.reason != GapReason::UnknownPosition.as_str() => {
                Err(format!("{claim:?}, but Redis keeps everything"))
            }
            Mode::Lossless | Mode::Losing => Ok(()),
        }
    }

    /// Whether a node does not keep some of these messages any more.
    fn is_past(&self, path: &[OffsetRange], ttl_ms: u64, judge: &Judge<'_>) -> bool {
        let scope = self.scope.as_str();
        [0, 1].into_iter().any(|at| {
            let kept = judge.deployment.node(NodeIndex(at)).stream(scope);
            let is_kept = |position: Position| {
                let entry = kept.and_then(|stream| stream.find(position));
                entry.is_some_and(|entry| entry.time_ms + ttl_ms > judge.clocks_ms[at])
            };
            path.iter().flat_map(OffsetRange::positions).any(|position| !is_kept(position))
        })
    }

    fn store(&mut self, position: Position) {
        self.stored = self.stored.max(Some(position));
        self.stored_in_id = self.stored_in_id.max(Some(position));
    }
}
