//! The faults, one per run, and what a run with each fault needs and permits.

use clap::ValueEnum;
use history_checker::Transport;

use crate::entrance::Via;

/// One fault, as `--fault` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// Nothing is broken. An anomaly is a bug of the checker or of the product.
    None,
    /// Redis is killed and restarts empty.
    RestartEmpty,
    /// Redis is killed and restarts with older data.
    RestartOlder,
    /// Redis is killed and restarts with all data (append-only file, written always).
    RestartAof,
    /// The primary dies with writes that its replica never received. The replica takes over.
    FailoverLost,
    /// The replica takes over with all data.
    FailoverClean,
    /// The replica takes over without its old primary, and later the old primary takes over again. Writes are lost on
    /// both sides.
    Failback,
    /// The primary dies with writes that its replica never received. Sentinels promote the replica.
    SentinelKill,
    /// The primary is stopped until Sentinels have replaced it, and then continues.
    SentinelStop,
    /// Sentinels fail over. For a while two of three do not know it and name the old primary, which accepts writes.
    SentinelStale,
    /// `FLUSHALL` erases all data of Redis.
    Flushall,
    /// The metadata of scopes has expired, but their streams have not.
    MetaExpired,
    /// `CLIENT KILL TYPE pubsub` ends the subscribers' connections three times.
    KillPubsub,
    /// The same as `kill-pubsub` on a slow path to Redis: many messages are published while histories are read.
    KillPubsubSlow,
    /// Another program overwrites streams for a moment.
    WrongType,
    /// `FUNCTION FLUSH` and `SCRIPT FLUSH` erase the functions in Redis.
    FunctionFlush,
    /// Redis disconnects subscribers that do not read.
    OutputBuffer,
    /// Redis has reached `maxmemory` and refuses writes.
    Oom,
    /// The primary accepts no writes for a while.
    Readonly,
    /// Subscribers stay connected to a demoted node that receives nothing. Calls go to the new primary.
    StuckSubscriber,
    /// Redis sleeps and answers nothing.
    SlowRedis,
    /// The process of Redis is stopped and continues later.
    StopRedis,
    /// Each piece of data to or from Redis takes up to 250 ms.
    Latency,
    /// A tenth of the packets to and from Redis is lost.
    PacketLoss,
    /// No gateway and no publisher reaches Redis.
    Cut,
    /// No gateway and no publisher reaches Redis. One family continues within each instance.
    CutLocal,
    /// One instance does not reach Redis.
    CutOne,
    /// Packets between one instance and Redis are dropped until its peers have removed its rows. Its clients reach it.
    Partition,
    /// The same as `partition`, only for packets to Redis.
    PartitionSend,
    /// The same as `partition`, only for packets from Redis.
    PartitionReceive,
    /// The bandwidth between one instance and Redis is a quarter of what it needs.
    Starve,
    /// Redis receives commands and executes them, but its replies do not arrive.
    OneWay,
    /// An instance is killed and restarts.
    KillGateway,
    /// An instance is stopped until its lease has ended and its peers have removed its rows, and then continues.
    StopGateway,
    /// An instance is killed and restarts at once, while its old incarnation still holds the lease.
    KillReturn,
    /// Two processes have the same instance id.
    Twin,
    /// Sessions are resumed from two sockets at once.
    TwoSockets,
    /// Redis' wall clock jumps five hours ahead.
    ClockRedisAhead,
    /// Redis' wall clock jumps five hours back.
    ClockRedisBack,
    /// An instance's wall clock jumps five hours ahead, ten hours back, and back to the correct time.
    ClockGateway,
    /// An instance is drained, and another one starts.
    Drain,
    /// Clients read more slowly than they are sent messages.
    SlowReaders,
}

/// The process whose wall clock differs from the machine's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jumping {
    Redis,
    /// The first gateway.
    Gateway,
}

impl Fault {
    /// The name as it is typed and printed.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether Redis itself loses acknowledged messages. If not, no client may receive a gap.
    pub(crate) fn loses(self) -> bool {
        use Fault::{Failback, FailoverLost, Flushall, MetaExpired, RestartEmpty, RestartOlder};
        // A replaced primary that does not know it accepts writes until a Sentinel makes it a replica.
        let is_lost = matches!(self, RestartEmpty | RestartOlder | FailoverLost | Failback | Flushall | MetaExpired);
        is_lost || self.needs_sentinels()
    }

    /// Whether a session may be unknown. The instance dies, or it cannot write the record because Redis accepts nothing
    /// from it, or Redis loses its data, also because its clock runs ahead. Otherwise every session must be found.
    pub(crate) fn forgets(self) -> bool {
        use Fault::{ClockRedisAhead, CutOne, KillGateway, KillReturn, StopGateway, Twin};
        let dies = matches!(self, KillGateway | KillReturn | StopGateway | Twin);
        let is_away = self.is_outage() || self.needs_namespace() || self == CutOne;
        dies || is_away || self.loses() || self == ClockRedisAhead
    }

    /// Whether Redis accepts nothing from any client for a while, or accepts it later than all deadlines.
    fn is_outage(self) -> bool {
        use Fault::{Cut, CutLocal, FailoverClean, OneWay, Oom, PacketLoss, Readonly, RestartAof, StopRedis};
        let is_silent = matches!(self, Cut | CutLocal | OneWay | StopRedis | FailoverClean | RestartAof);
        is_silent || matches!(self, Oom | PacketLoss | Readonly | Self::StuckSubscriber)
    }

    pub(crate) fn needs_replica(self) -> bool {
        use Fault::{Failback, FailoverClean, FailoverLost, StuckSubscriber};
        matches!(self, FailoverLost | FailoverClean | Failback | StuckSubscriber)
    }

    /// Whether Sentinels watch a primary and a replica.
    pub(crate) fn needs_sentinels(self) -> bool {
        matches!(self, Self::SentinelKill | Self::SentinelStop | Self::SentinelStale)
    }

    /// How clients reach gateways in the run with this seed: as `wanted`, or alternating. In one round, neighbours in
    /// the list of faults differ.
    pub(crate) fn via(self, wanted: Option<Via>, seed: u64) -> Via {
        match wanted {
            // The shipped file has a line for each of three gateways, and the twin is a fourth one. HAProxy and the
            // kernel buffer more for a slow client than a run sends it.
            _ if matches!(self, Self::Twin | Self::SlowReaders) => Via::Direct,
            Some(via) => via,
            None if (self as u64 + seed).is_multiple_of(2) => Via::Haproxy,
            None => Via::Direct,
        }
    }

    /// The transport over which clients receive in the run with this seed: as `wanted`, or alternating. Four rounds
    /// cover both transports, each directly and through HAProxy.
    pub(crate) fn transport(self, wanted: Option<Transport>, seed: u64) -> Transport {
        match wanted {
            // Only close codes show which of two sockets continues the session.
            _ if self == Self::TwoSockets => Transport::WebSocket,
            Some(transport) => transport,
            None if ((self as u64 + seed) / 2).is_multiple_of(2) => Transport::EventStream,
            None => Transport::WebSocket,
        }
    }

    /// Whether one gateway runs in its own network namespace.
    pub(crate) fn needs_namespace(self) -> bool {
        matches!(self, Self::Partition | Self::PartitionSend | Self::PartitionReceive | Self::Starve)
    }

    /// Whether the run has clients that read too slowly, and publishes enough for them to fall behind.
    pub(crate) fn has_slow_readers(self) -> bool {
        matches!(self, Self::SlowReaders | Self::StopGateway)
    }

    /// The process whose wall clock jumps.
    pub(crate) fn jumping_clock(self) -> Option<Jumping> {
        match self {
            Self::ClockRedisAhead | Self::ClockRedisBack => Some(Jumping::Redis),
            Self::ClockGateway => Some(Jumping::Gateway),
            _ => None,
        }
    }

    /// Families that an instance serves locally while it has no Redis.
    pub(crate) fn local(self) -> &'static [&'static str] {
        if self == Self::CutLocal { &["collection"] } else { &[] }
    }

    pub(crate) fn redis_args(self) -> &'static [&'static str] {
        match self {
            Self::RestartAof => &["--appendonly", "yes", "--appendfsync", "always"],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_turns_half_of_the_runs_go_through_haproxy_of_one_fault_and_of_one_round() {
        let through = |runs: Vec<(Fault, u64)>| {
            runs.into_iter().filter(|(fault, seed)| fault.via(None, *seed) == Via::Haproxy).count()
        };
        assert_eq!(through((1..=4).map(|seed| (Fault::KillGateway, seed)).collect()), 2);
        let has_choice = |fault: &Fault| fault.via(Some(Via::Haproxy), 1) == Via::Haproxy;
        let all: Vec<Fault> = Fault::value_variants().iter().copied().filter(has_choice).collect();
        for seed in [1, 2] {
            let count = through(all.iter().map(|fault| (*fault, seed)).collect());
            assert!(count.abs_diff(all.len() / 2) <= 1, "{count} of {}", all.len());
        }
        let runs = |fault: Fault| (1..=4).map(move |seed| (fault.via(None, seed), fault.transport(None, seed)));
        for fault in
            all.iter().filter(|fault| fault.transport(Some(Transport::EventStream), 1) == Transport::EventStream)
        {
            let seen: std::collections::BTreeSet<_> = runs(*fault).collect();
            assert_eq!(seen.len(), 4, "{fault:?}: four rounds show each transport on each way");
        }
        let over = all.iter().filter(|fault| fault.transport(None, 1) == Transport::EventStream).count();
        assert!(over.abs_diff(all.len() / 2) <= 2, "{over} of {}", all.len());
        assert_eq!(Fault::TwoSockets.transport(Some(Transport::EventStream), 1), Transport::WebSocket);
        assert_eq!(Fault::KillGateway.via(Some(Via::Haproxy), 1), Via::Haproxy);
        assert_eq!(Fault::Twin.via(Some(Via::Haproxy), 1), Via::Direct);
    }
}
