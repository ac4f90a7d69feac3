//! The faults, one in each run, and what a run with each of them needs and allows.

use clap::ValueEnum;
use history_checker::Transport;

use crate::entrance::Via;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// Nothing is broken: whatever the checker finds then is its own or the product's plain mistake.
    None,
    /// Redis is killed and comes back empty.
    RestartEmpty,
    /// Redis is killed and comes back as it was a while ago.
    RestartOlder,
    /// Redis is killed and comes back with everything (append-only file, written always).
    RestartAof,
    /// The primary dies with writes that its replica never got, and the replica takes over.
    FailoverLost,
    /// The replica takes over, with everything.
    FailoverClean,
    /// Over to the replica, on without its old primary, and back to that one, with writes lost on both sides.
    Failback,
    /// The primary dies with writes that its replica never got, and Sentinels put the replica in its place.
    SentinelKill,
    /// The primary stands still until Sentinels have replaced it, and goes on.
    SentinelStop,
    /// Sentinels fail over, and two of three do not know for a while: they name the old primary, which takes writes.
    SentinelStale,
    /// FLUSHALL.
    Flushall,
    /// The metadata of scopes has expired while their streams have not.
    MetaExpired,
    /// CLIENT KILL TYPE pubsub, three times.
    KillPubsub,
    /// The same while the way to Redis is slow, so that much is published while histories are read.
    KillPubsubSlow,
    /// Another program has overwritten streams for a moment.
    WrongType,
    /// FUNCTION FLUSH and SCRIPT FLUSH.
    FunctionFlush,
    /// Redis cuts subscribers that do not read.
    OutputBuffer,
    /// Redis is full.
    Oom,
    /// The primary takes no writes for a while.
    Readonly,
    /// Subscribers stay on a demoted node that hears nothing any more, calls go to the new primary.
    StuckSubscriber,
    /// Redis sleeps.
    SlowRedis,
    /// Redis is stopped and goes on.
    StopRedis,
    /// The way to Redis takes up to a quarter of a second, each way, for each piece.
    Latency,
    /// A tenth of the packets to and from Redis is lost.
    PacketLoss,
    /// Nobody reaches Redis.
    Cut,
    /// Nobody reaches Redis, and one family goes on within each instance.
    CutLocal,
    /// One instance does not reach Redis.
    CutOne,
    /// Packets between one instance and Redis are dropped until its peers have removed its rows; its clients reach it.
    Partition,
    /// The same for packets to Redis alone.
    PartitionSend,
    /// The same for packets from Redis alone.
    PartitionReceive,
    /// Between one instance and Redis there is a quarter of the bandwidth that it needs.
    Starve,
    /// Redis hears, and is not heard: what was asked of it happens.
    OneWay,
    /// An instance is killed, and comes back.
    KillGateway,
    /// An instance is stopped until its lease has ended and its peers have removed its rows, and goes on.
    StopGateway,
    /// An instance is killed and there again at once, while its old life still has the lease.
    KillReturn,
    /// Two processes have one instance id.
    Twin,
    /// Sessions are resumed from two sockets at once.
    TwoSockets,
    /// Redis' wall clock jumps five hours ahead.
    ClockRedisAhead,
    /// Redis' wall clock jumps five hours back.
    ClockRedisBack,
    /// An instance's wall clock jumps five hours ahead, ten back, and to where it was.
    ClockGateway,
    /// An instance is asked to leave, and another comes.
    Drain,
    /// Clients read less than they are sent.
    SlowReaders,
}

/// Whose wall clock is not the machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jumping {
    Redis,
    /// The first one.
    Gateway,
}

impl Fault {
    /// As it is typed and printed.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether Redis itself loses what it has acknowledged. If not, nobody may be told of a gap.
    pub(crate) fn loses(self) -> bool {
        use Fault::{Failback, FailoverLost, Flushall, MetaExpired, RestartEmpty, RestartOlder};
        // A primary that was replaced and does not know it takes writes until a Sentinel makes it a replica.
        let is_lost = matches!(self, RestartEmpty | RestartOlder | FailoverLost | Failback | Flushall | MetaExpired);
        is_lost || self.needs_sentinels()
    }

    /// Whether nothing may be known of a session: its instance dies, or has not written the record because Redis takes
    /// nothing from it, or Redis loses what it has, be it because its clock runs ahead. If not, every session must be
    /// found.
    pub(crate) fn forgets(self) -> bool {
        use Fault::{ClockRedisAhead, CutOne, KillGateway, KillReturn, StopGateway, Twin};
        let dies = matches!(self, KillGateway | KillReturn | StopGateway | Twin);
        let is_away = self.is_outage() || self.needs_namespace() || self == CutOne;
        dies || is_away || self.loses() || self == ClockRedisAhead
    }

    /// Whether Redis takes nothing from anybody for a while, or what it takes is late beyond all deadlines.
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

    /// How clients reach gateways in the run of this seed: as it is `wanted`, or by turns. In one round, neighbours
    /// among the faults differ.
    pub(crate) fn via(self, wanted: Option<Via>, seed: u64) -> Via {
        match wanted {
            // The shipped file has a line for each of three gateways, and the twin is a fourth. What HAProxy and the
            // kernel keep for a slow client is more than a run sends it.
            _ if matches!(self, Self::Twin | Self::SlowReaders) => Via::Direct,
            Some(via) => via,
            None if (self as u64 + seed).is_multiple_of(2) => Via::Haproxy,
            None => Via::Direct,
        }
    }

    /// The transport over which clients receive in the run of this seed: as it is `wanted`, or by turns. Four rounds show
    /// both transports, each directly and through HAProxy.
    pub(crate) fn transport(self, wanted: Option<Transport>, seed: u64) -> Transport {
        match wanted {
            // Close codes tell which of two sockets a session goes on with.
            _ if self == Self::TwoSockets => Transport::WebSocket,
            Some(transport) => transport,
            None if ((self as u64 + seed) / 2).is_multiple_of(2) => Transport::EventStream,
            None => Transport::WebSocket,
        }
    }

    /// Whether one gateway has a network of its own.
    pub(crate) fn needs_namespace(self) -> bool {
        matches!(self, Self::Partition | Self::PartitionSend | Self::PartitionReceive | Self::Starve)
    }

    /// Whether there are clients that read too slowly, and enough for them to fall behind.
    pub(crate) fn has_slow_readers(self) -> bool {
        matches!(self, Self::SlowReaders | Self::StopGateway)
    }

    /// Whose wall clock jumps.
    pub(crate) fn jumping_clock(self) -> Option<Jumping> {
        match self {
            Self::ClockRedisAhead | Self::ClockRedisBack => Some(Jumping::Redis),
            Self::ClockGateway => Some(Jumping::Gateway),
            _ => None,
        }
    }

    /// Families that are served within an instance while it is without Redis.
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
