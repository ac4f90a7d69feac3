//! PURE. What an instance knows from its peers' heartbeats: which peers accept clients, and how many per second.

use std::time::{Duration, Instant};

use connection_registry::{Duty, Load, Peer, Peers, Status};

/// The other instances, as of one read of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fleet {
    /// Loads of the peers that are up and report their load.
    loads: Vec<Load>,
    /// Time of the read.
    seen: Option<Instant>,
    /// Whether every listed peer is certainly alive and reports its load.
    is_certain: bool,
}

impl Fleet {
    pub(crate) fn of(peers: &Peers) -> Self {
        let listed = || peers.others.iter().filter(|peer| peer.status != Status::Gone);
        let alive = |peer: &&Peer| peer.status == Status::Up;
        Self {
            loads: listed().filter(alive).filter_map(|peer| peer.load).collect(),
            seen: peers.seen,
            is_certain: !peers.doubted && listed().all(|peer| alive(&peer) && peer.load.is_some()),
        }
    }

    /// Loads of the peers that serve clients without restriction.
    pub(crate) fn full(&self) -> impl Iterator<Item = &Load> {
        self.loads.iter().filter(|load| load.duty == Duty::Full)
    }

    /// Whether another instance drains.
    pub(crate) fn drains(&self) -> bool {
        self.draining() > 0
    }

    /// Whether decisions may be based on the loads: no load is missing, and they are not older than `age_max`.
    pub(crate) fn is_certain(&self, now: Instant, age_max: Duration) -> bool {
        let is_fresh = self.seen.is_some_and(|seen| now.saturating_duration_since(seen) <= age_max);
        self.is_certain && is_fresh
    }

    /// Returns how many clients per second may be moved to the other instances: all that they accept, shared with the
    /// other instances that drain. `None` if no peer reports its load or no peer accepts clients.
    ///
    /// A load balancer sends clients to the instance with the fewest. Therefore only those peers count whose
    /// connections are, or will be within a second, as few as the fewest. In a rolling restart this is the instance
    /// that restarted last.
    pub(crate) fn takes_per_second(&self) -> Option<u64> {
        let mut takers: Vec<&Load> = self.full().collect();
        if takers.is_empty() {
            takers = self.loads.iter().filter(|load| load.duty == Duty::Reduced).collect();
        }
        let fewest = takers.iter().min_by_key(|load| load.connections)?;
        let brim = fewest.connections.saturating_add(rate(fewest));
        let low = takers.iter().filter(|load| load.connections <= brim);
        let all = low.map(|load| rate(load)).fold(0, u64::saturating_add);
        Some((all / (1 + self.draining())).max(1))
    }

    fn draining(&self) -> u64 {
        self.loads.iter().filter(|load| load.duty == Duty::Draining).count() as u64
    }
}

/// Returns `limits.connects_per_second`, where 0 means no limit.
pub(crate) fn rate(load: &Load) -> u64 {
    match load.connects_per_second {
        0 => u64::MAX,
        per_second => per_second.into(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use connection_registry::{Incarnation, Instance};
    use wire::InstanceId;

    use super::*;

    pub(crate) fn load(connections: u64, connects_per_second: u32, duty: Duty) -> Load {
        Load { connections, connects_per_second, duty }
    }

    /// Returns peers with these states and loads, read at `seen`.
    pub(crate) fn peers(others: &[(Status, Option<Load>)], seen: Instant) -> Peers {
        let instance = |n: usize| Instance {
            id: InstanceId::parse(&format!("gw-{n}")).unwrap(),
            incarnation: Incarnation::new(1, n as u32),
            address: "".into(),
        };
        let peer = |(n, (status, load)): (usize, &(Status, Option<Load>))| Peer {
            instance: instance(n + 1),
            status: *status,
            silent: Duration::ZERO,
            load: *load,
            number: 1,
        };
        let others = others.iter().enumerate().map(peer).collect();
        Peers { own: instance(0), others, seen: Some(seen), doubted: false }
    }

    #[test]
    fn the_pace_is_what_those_take_to_whom_clients_will_go() {
        use Duty::{Draining, Full, Reduced};
        let up = |connections, rate, duty| (Status::Up, Some(load(connections, rate, duty)));
        for (what, others, takes) in [
            ("no other instance", vec![], None),
            ("no instance reports its load", vec![(Status::Up, None)], None),
            ("balanced: both", vec![up(4_000, 3_000, Full), up(5_000, 3_000, Full)], Some(6_000)),
            ("one restarted empty: it gets all clients", vec![up(9_000, 3_000, Full), up(0, 3_000, Full)], Some(3_000)),
            (
                "another one drains, and shares the capacity",
                vec![up(100, 3_000, Full), up(900, 3_000, Draining)],
                Some(1_500),
            ),
            ("two others drain", vec![up(1, 90, Full), up(9, 90, Draining), up(9, 90, Draining)], Some(30)),
            ("all other instances drain", vec![up(100, 3_000, Draining)], None),
            ("one without Redis counts only if no other does", vec![up(1, 50, Full), up(0, 9, Reduced)], Some(50)),
            ("all are without Redis", vec![up(1, 50, Reduced), up(0, 9, Reduced)], Some(59)),
            (
                "a silent one accepts no client",
                vec![up(1, 50, Full), (Status::Suspect, Some(load(1, 50, Full)))],
                Some(50),
            ),
            ("no limit", vec![up(1, 0, Full), up(1, 50, Full)], Some(u64::MAX)),
            ("hardly any client", vec![up(1, 1, Full), up(1, 1, Draining)], Some(1)),
        ] {
            assert_eq!(Fleet::of(&peers(&others, Instant::now())).takes_per_second(), takes, "{what}");
        }
    }

    #[test]
    fn a_fleet_is_certain_when_all_live_tell_and_the_look_is_fresh() {
        let seen = Instant::now();
        let fine = || (Status::Up, Some(load(1, 1, Duty::Full)));
        let is_certain = |others: &[(Status, Option<Load>)], age| {
            Fleet::of(&peers(others, seen)).is_certain(seen + age, Duration::from_secs(4))
        };
        let now = Duration::ZERO;
        assert!(is_certain(&[fine(), fine()], Duration::from_secs(4)));
        assert!(!is_certain(&[fine(), fine()], Duration::from_millis(4_001)), "Redis has not answered recently");
        assert!(!is_certain(&[fine(), (Status::Up, None)], now), "one has an older version");
        assert!(!is_certain(&[fine(), (Status::Suspect, fine().1)], now));
        assert!(is_certain(&[fine(), (Status::Gone, fine().1)], now), "a dead instance that is not removed yet");
        let doubted = Peers { doubted: true, ..peers(&[fine()], seen) };
        assert!(!Fleet::of(&doubted).is_certain(seen, Duration::from_secs(4)));
        let never = Peers { seen: None, ..peers(&[fine()], seen) };
        assert!(!Fleet::of(&never).is_certain(seen, Duration::from_secs(4)));
    }
}
