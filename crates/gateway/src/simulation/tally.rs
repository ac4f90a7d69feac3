//! What the runs have met: each fault that was injected, each race that was reached.

use std::fmt;

/// A list of kinds, counted.
macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$kind_doc:meta])* $kind:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum $name { $($(#[$kind_doc])* $kind,)* }

        impl $name {
            pub(super) const ALL: &'static [Self] = &[$(Self::$kind,)*];
        }
    };
}

kinds! {
    /// What goes wrong.
    Fault {
        /// An instance dies with all it holds, and another begins in its place.
        InstanceKilled,
        /// An instance has slept through its lease: it begins anew and sends its clients away.
        InstanceFenced,
        /// A client's connection breaks; it comes back, mostly elsewhere.
        ClientDisconnected,
        /// A client's connection is gone without a word; it comes back, and the instance keeps the old one for seconds.
        ClientVanished,
        /// A client's socket takes nothing for a while.
        ClientStalled,
        /// A client comes back with a position that nobody gave it.
        PositionForged,
        /// Unsubscribe and subscribe in one breath, or the other way round.
        SubscribeRace,
        /// An instance and Redis cannot reach each other for a while.
        LinkDisconnected,
        /// CLIENT KILL TYPE pubsub, or an output buffer that ran over.
        SubscribersKilled,
        /// One subscription ends while the link stays: a slot has moved.
        SubscriptionLost,
        /// A message is lost between Redis and an instance, without a word.
        MessageDropped,
        /// The last message for a while is.
        LastMessageDropped,
        /// A call never reaches Redis.
        CallLost,
        /// A call is carried out and its answer never comes.
        AnswerLost,
        /// Redis takes long over everything.
        RedisSlow,
        /// OOM: writes are refused.
        RedisFull,
        /// FUNCTION FLUSH, and the library is loaded anew.
        LibraryFlushed,
        /// Somebody publishes what was never stored.
        UnstoredPublished,
        /// A restart that loses nothing.
        RestartedWhole,
        /// A failover to a replica that has everything.
        FailedOverWhole,
        /// A replica gets nothing for a while.
        ReplicationStopped,
        /// A failover to a replica that lacks the last writes.
        FailedOverLosing,
        /// A failover while the old primary goes on taking writes.
        Split,
        /// The way back, with writes on both sides.
        FailedBack,
        /// A subscriber is left on a node that gets nothing any more.
        SubscriberStuck,
        /// A restart without data.
        RestartedEmpty,
        /// A restart with an older snapshot.
        RestartedOlder,
        /// FLUSHALL.
        Erased,
        /// A scope's metadata has expired.
        MetadataExpired,
        /// A scope's stream has expired.
        StreamExpired,
        /// Redis' clock jumps ahead.
        ClockAhead,
        /// Redis' clock jumps back.
        ClockBack,
    }
}

kinds! {
    /// The races of resuming (R1 to R12 in the order of the list), each with what shows that it was reached.
    Race {
        /// A message is stored after a client asked for its scope and before Redis heard of it.
        StoredBeforeSubscribed,
        /// A message is stored after the subscription and before the history is read: it comes both ways.
        StoredBeforeRead,
        /// An instance hears what is not in the history.
        NeverStored,
        /// A client resumes on an instance that has not come as far.
        InstanceBehind,
        /// A message is lost while an instance reads the history it belongs to.
        DroppedWhileReading,
        /// The last message of a scope is lost, and none follows for a second.
        LastOneDropped,
        /// A generation begins between the reading of a history and its arrival.
        GenerationWhileReading,
        /// A client lets go of a channel and takes it again while the first answer is on its way.
        AnswerOutlived,
        /// Redis hands out offsets again that a client has seen.
        OffsetsRewound,
        /// A live message comes to a shard while a client there waits for its answer.
        OvertakenAnswer,
        /// A client that was moved to a new generation, with a smaller offset, resumes from there.
        MovedGeneration,
        /// A client resumes again behind a replay, with no live message between.
        ResumedBehindReplay,
    }
}

/// Counts of one run, or of many.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    faults: Vec<u64>,
    races: Vec<u64>,
    /// Messages that clients were handed and that were compared with the publish log.
    pub(super) delivered: u64,
    /// Gaps that clients were told of.
    pub(super) gaps: u64,
    /// Of those, told because of what others had seen lost.
    pub(super) known_losses: u64,
    /// Subscriptions resumed without a gap.
    pub(super) resumed: u64,
    /// Publishes whose fate the publisher was not told.
    pub(super) unknown: u64,
    /// Publishes that were tried again and had been stored.
    pub(super) retried: u64,
    /// Clients closed because they read too slowly.
    pub(super) slow_closes: u64,
    /// Sessions that were brought back, …
    pub(super) restored: u64,
    /// … those of which nothing was known, …
    pub(super) forgotten: u64,
    /// … and questions for them without an answer.
    pub(super) asked_in_vain: u64,
    /// Messages that stayed on one instance.
    pub(super) local: u64,
    /// Subscriptions whose last message Redis has lost.
    pub(super) lost_by_redis: u64,
    /// Events handled.
    pub(super) events: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            faults: vec![0; Fault::ALL.len()],
            races: vec![0; Race::ALL.len()],
            delivered: 0,
            gaps: 0,
            resumed: 0,
            unknown: 0,
            known_losses: 0,
            retried: 0,
            slow_closes: 0,
            restored: 0,
            forgotten: 0,
            asked_in_vain: 0,
            local: 0,
            lost_by_redis: 0,
            events: 0,
        }
    }
}

impl Tally {
    pub(super) fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    pub(super) fn race(&mut self, race: Race) {
        self.races[race as usize] += 1;
    }

    pub(super) fn faults(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    pub(super) fn races(&self, race: Race) -> u64 {
        self.races[race as usize]
    }

    pub(super) fn add(&mut self, other: &Self) {
        let sum = |into: &mut Vec<u64>, from: &[u64]| into.iter_mut().zip(from).for_each(|(a, b)| *a += b);
        sum(&mut self.faults, &other.faults);
        sum(&mut self.races, &other.races);
        self.delivered += other.delivered;
        self.gaps += other.gaps;
        self.known_losses += other.known_losses;
        self.resumed += other.resumed;
        self.unknown += other.unknown;
        self.retried += other.retried;
        self.slow_closes += other.slow_closes;
        self.restored += other.restored;
        self.forgotten += other.forgotten;
        self.asked_in_vain += other.asked_in_vain;
        self.local += other.local;
        self.lost_by_redis += other.lost_by_redis;
        self.events += other.events;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, count) in Fault::ALL.iter().zip(&self.faults) {
            writeln!(f, "fault {kind:?}: {count}")?;
        }
        for (number, (kind, count)) in (1..).zip(Race::ALL.iter().zip(&self.races)) {
            writeln!(f, "race R{number} {kind:?}: {count}")?;
        }
        let Self { delivered, gaps, resumed, unknown, retried, slow_closes, local, lost_by_redis, events, .. } = self;
        let known_losses = self.known_losses;
        let Self { restored, forgotten, asked_in_vain, .. } = self;
        write!(
            f,
            "{events} events, {delivered} messages delivered, {gaps} gaps, {known_losses} of them of what others had seen lost, {resumed} resumed, {slow_closes} slow \
             clients closed, {unknown} publishes unknown, {retried} found stored when tried again, {local} kept \
             local, {restored} sessions brought back, {forgotten} forgotten, {asked_in_vain} asked for in vain, {lost_by_redis} lost by Redis and seen before"
        )
    }
}
