//! Counts what the runs have reached: each injected fault and each race.

use std::fmt;

/// Defines an enum whose variants are counted.
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
    /// The kinds of faults.
    Fault {
        /// An instance crashes with everything it holds, and a new incarnation begins in its place.
        InstanceKilled,
        /// An instance was stopped past its lease: it begins a new incarnation and moves its clients.
        InstanceFenced,
        /// The connection of a client breaks. The client reconnects, usually to another instance.
        ClientDisconnected,
        /// The connection of a client ends without informing the instance. The client reconnects, while the instance
        /// keeps the old connection for seconds.
        ClientVanished,
        /// The socket of a client accepts nothing for a while.
        ClientStalled,
        /// A client reconnects with a forged position.
        PositionForged,
        /// A client unsubscribes and subscribes again at once, or the other way round.
        SubscribeRace,
        /// An instance and Redis cannot reach each other for a while.
        LinkDisconnected,
        /// CLIENT KILL TYPE pubsub, or an output buffer that exceeded its limit.
        SubscribersKilled,
        /// One subscription ends while the connection stays, because a slot has moved.
        SubscriptionLost,
        /// A message is lost between Redis and an instance, without notice.
        MessageDropped,
        /// The last message of a scope for a while is lost.
        LastMessageDropped,
        /// A call never reaches Redis.
        CallLost,
        /// A call is executed and its reply is lost.
        AnswerLost,
        /// Redis answers every call slowly.
        RedisSlow,
        /// OOM: Redis refuses writes.
        RedisFull,
        /// FUNCTION FLUSH: the library is loaded again.
        LibraryFlushed,
        /// A message is published that was never stored.
        UnstoredPublished,
        /// A restart that loses nothing.
        RestartedWhole,
        /// A failover to a replica that has everything.
        FailedOverWhole,
        /// A replica receives nothing for a while.
        ReplicationStopped,
        /// A failover to a replica that lacks the last writes.
        FailedOverLosing,
        /// A failover while the old primary still accepts writes.
        Split,
        /// A failover back to the first primary, after writes on both sides.
        FailedBack,
        /// A subscriber stays on a node that receives nothing any more.
        SubscriberStuck,
        /// A restart without data.
        RestartedEmpty,
        /// A restart with an older snapshot.
        RestartedOlder,
        /// FLUSHALL: all data is erased.
        Erased,
        /// The metadata of a scope has expired.
        MetadataExpired,
        /// The stream of a scope has expired.
        StreamExpired,
        /// The clock of Redis jumps ahead.
        ClockAhead,
        /// The clock of Redis jumps back.
        ClockBack,
    }
}

kinds! {
    /// The races of resuming (R1 to R12 in this order), each with the observation that shows it.
    Race {
        /// A message is stored after a client requested its scope and before Redis received the subscription.
        StoredBeforeSubscribed,
        /// A message is stored after the subscription and before the history is read: it arrives on both paths.
        StoredBeforeRead,
        /// An instance receives a message that is not in the history.
        NeverStored,
        /// A client resumes on an instance that has not received as much.
        InstanceBehind,
        /// A message is lost while an instance reads the history that contains it.
        DroppedWhileReading,
        /// The last message of a scope is lost, and none follows for a second.
        LastOneDropped,
        /// A generation begins between the read of a history and its arrival.
        GenerationWhileReading,
        /// A client unsubscribes and subscribes again while the first reply is on its way.
        AnswerOutlived,
        /// Redis assigns offsets again that a client has seen.
        OffsetsRewound,
        /// A live message reaches a shard while a client there waits for its history.
        OvertakenAnswer,
        /// A client that was moved to a new generation, with a smaller offset, resumes from there.
        MovedGeneration,
        /// A client resumes again after a replay, with no live message in between.
        ResumedBehindReplay,
    }
}

/// The counts of one run, or of many.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    faults: Vec<u64>,
    races: Vec<u64>,
    /// Messages that clients received and that were compared with the publish log.
    pub(super) delivered: u64,
    /// Gaps that clients received.
    pub(super) gaps: u64,
    /// Gaps that clients received only because Redis has a record of the loss.
    pub(super) known_losses: u64,
    /// Subscriptions resumed without a gap.
    pub(super) resumed: u64,
    /// Publishes whose result the publisher does not know.
    pub(super) unknown: u64,
    /// Publishes that were retried and had been stored.
    pub(super) retried: u64,
    /// Connections closed because the client read too slowly.
    pub(super) slow_closes: u64,
    /// Sessions that were restored.
    pub(super) restored: u64,
    /// Sessions of which nothing was known.
    pub(super) forgotten: u64,
    /// Requests for a session that could not be answered.
    pub(super) asked_in_vain: u64,
    /// Messages that only one instance delivered.
    pub(super) local: u64,
    /// Subscriptions whose last message Redis has lost.
    pub(super) lost_by_redis: u64,
    /// Events that the runs have handled.
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
            "{events} events, {delivered} messages delivered, {gaps} gaps, {known_losses} of them from recorded losses, {resumed} resumed, {slow_closes} slow \
             clients closed, {unknown} publishes unknown, {retried} found stored when retried, {local} kept \
             local, {restored} sessions restored, {forgotten} forgotten, {asked_in_vain} requested without an answer, {lost_by_redis} lost by Redis after clients had seen them"
        )
    }
}
