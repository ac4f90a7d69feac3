//! PURE. The state of the instance: one word for its phase, broker, lease and event loops, and what follows from it.
//!
//! | state | publishes | deliveries | agent check | `/ws/health` | `/readyz` | upgrades |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | starting | | | up 0% | 404 | 503 | 503 |
//! | connecting | by family | local | up 0% | 404 | 503 | accepted |
//! | connected | stored | all | up 100% | 200 | 200 | accepted |
//! | lease_lost | stored | all | up 1% | 200 | 200 | accepted |
//! | isolated | by family | local | up 1% | 200 | 200 | accepted |
//! | fenced | none | none, clients are moved | up 1% | 200 | 200 | 503 |
//! | terminating | as before | as before | up 0% | 404 | 503 | accepted |
//! | draining | as before | as before, clients are moved | up 0% | 404 | 503 | 503 |
//! | frozen | | | no answer | no answer | no answer | |
//!
//! "Not yet" and "no more" are two states. An instance that has never reached Redis is not ready: its password or its
//! URL may be wrong, and a rolling update must not replace instances that work by it. An instance that has lost Redis
//! stays ready.
//!
//! The instance never reports "down" to HAProxy because Redis is away (`http/agent.rs` says why). An instance that
//! terminates, drains or is frozen stays in this state while Redis is away or its lease ends; pump and shards follow
//! the broker and the lease in any case.

/// The phase of the process. It only advances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The instance does not accept connections yet.
    Starting,
    /// The instance accepts connections.
    Running,
    /// The instance reports that it is not ready, and still accepts connections.
    Terminating,
    /// The instance accepts no connections and moves its clients.
    Draining,
}

/// Whether messages travel from this instance through the broker and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum BrokerStatus {
    /// They never have.
    NeverUp,
    /// They do.
    Up,
    /// They did, and do no more.
    Down,
}

/// The status of the lease at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseStatus {
    /// The instance holds its lease.
    Held,
    /// The instance does not hold its lease, and noticed this before the lease ended in the store.
    Lost,
    /// The process was stopped past the end of its lease, or another process took it. Data in memory may be stale.
    Fenced,
}

/// The state of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum InstanceState {
    /// The instance does not accept connections yet.
    Starting,
    /// The instance listens, and has never reached the broker.
    Connecting,
    /// The broker and the lease are available.
    Connected,
    /// Messages travel, but the lease is lost: peers may have removed the instance's rows.
    LeaseLost,
    /// Messages no longer travel, because the broker is away.
    Isolated,
    /// The incarnation has ended.
    Fenced,
    /// The instance is about to drain. It still accepts connections.
    Terminating,
    /// The instance accepts no connections and moves its clients.
    Draining,
    /// The event loop of a shard or of the pump is stuck.
    Frozen,
}

impl InstanceState {
    /// Every state, for metrics and documents.
    pub(crate) const ALL: [Self; 9] = [
        Self::Starting,
        Self::Connecting,
        Self::Connected,
        Self::LeaseLost,
        Self::Isolated,
        Self::Fenced,
        Self::Terminating,
        Self::Draining,
        Self::Frozen,
    ];

    /// Derives the state from phase, event loops, broker and lease.
    pub(crate) fn of(phase: Phase, is_frozen: bool, broker: BrokerStatus, lease: LeaseStatus) -> Self {
        match (phase, lease) {
            _ if is_frozen => Self::Frozen,
            (Phase::Starting, _) => Self::Starting,
            // A fenced instance takes no clients, so nothing is left of the announcement.
            (Phase::Draining, _) | (Phase::Terminating, LeaseStatus::Fenced) => Self::Draining,
            (Phase::Terminating, _) => Self::Terminating,
            (Phase::Running, LeaseStatus::Fenced) => Self::Fenced,
            (Phase::Running, _) if broker == BrokerStatus::NeverUp => Self::Connecting,
            (Phase::Running, _) if broker == BrokerStatus::Down => Self::Isolated,
            (Phase::Running, LeaseStatus::Lost) => Self::LeaseLost,
            (Phase::Running, LeaseStatus::Held) => Self::Connected,
        }
    }

    /// The word that logs, metrics and `/livez` show.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::LeaseLost => "lease_lost",
            Self::Isolated => "isolated",
            Self::Fenced => "fenced",
            Self::Terminating => "terminating",
            Self::Draining => "draining",
            Self::Frozen => "frozen",
        }
    }

    /// The line of the agent check. `None` while frozen: the check is not answered.
    pub(crate) const fn agent_line(self) -> Option<&'static str> {
        match self {
            Self::Starting | Self::Connecting | Self::Terminating | Self::Draining => Some("up 0%\n"),
            Self::Connected => Some("up 100%\n"),
            Self::LeaseLost | Self::Isolated | Self::Fenced => Some("up 1%\n"),
            Self::Frozen => None,
        }
    }

    /// Whether `/ws/health` and `/readyz` answer 200. Only an instance that starts or stops is not ready. A load
    /// balancer that removed every instance while Redis is away would help no client.
    pub(crate) const fn is_ready(self) -> bool {
        !matches!(self, Self::Starting | Self::Connecting | Self::Terminating | Self::Draining | Self::Frozen)
    }

    /// Whether upgrades are accepted. HAProxy tries a refused upgrade at another instance. A stuck shard does not
    /// prevent connections on the other shards.
    pub(crate) const fn takes_clients(self) -> bool {
        !matches!(self, Self::Starting | Self::Draining | Self::Fenced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Phase, broker, lease, and the state of the instance if no event loop is stuck.
    const TABLE: &[(Phase, BrokerStatus, LeaseStatus, InstanceState)] = &[
        (Phase::Starting, BrokerStatus::Up, LeaseStatus::Held, InstanceState::Starting),
        (Phase::Starting, BrokerStatus::NeverUp, LeaseStatus::Lost, InstanceState::Starting),
        (Phase::Starting, BrokerStatus::Up, LeaseStatus::Fenced, InstanceState::Starting),
        (Phase::Running, BrokerStatus::NeverUp, LeaseStatus::Lost, InstanceState::Connecting),
        (Phase::Running, BrokerStatus::NeverUp, LeaseStatus::Held, InstanceState::Connecting),
        (Phase::Running, BrokerStatus::NeverUp, LeaseStatus::Fenced, InstanceState::Fenced),
        (Phase::Running, BrokerStatus::Up, LeaseStatus::Held, InstanceState::Connected),
        (Phase::Running, BrokerStatus::Up, LeaseStatus::Lost, InstanceState::LeaseLost),
        (Phase::Running, BrokerStatus::Down, LeaseStatus::Held, InstanceState::Isolated),
        (Phase::Running, BrokerStatus::Down, LeaseStatus::Lost, InstanceState::Isolated),
        (Phase::Running, BrokerStatus::Up, LeaseStatus::Fenced, InstanceState::Fenced),
        (Phase::Running, BrokerStatus::Down, LeaseStatus::Fenced, InstanceState::Fenced),
        (Phase::Terminating, BrokerStatus::NeverUp, LeaseStatus::Lost, InstanceState::Terminating),
        (Phase::Terminating, BrokerStatus::Up, LeaseStatus::Held, InstanceState::Terminating),
        (Phase::Terminating, BrokerStatus::Down, LeaseStatus::Lost, InstanceState::Terminating),
        (Phase::Terminating, BrokerStatus::Up, LeaseStatus::Fenced, InstanceState::Draining),
        (Phase::Draining, BrokerStatus::NeverUp, LeaseStatus::Lost, InstanceState::Draining),
        (Phase::Draining, BrokerStatus::Up, LeaseStatus::Held, InstanceState::Draining),
        (Phase::Draining, BrokerStatus::Down, LeaseStatus::Lost, InstanceState::Draining),
        (Phase::Draining, BrokerStatus::Down, LeaseStatus::Fenced, InstanceState::Draining),
    ];

    #[test]
    fn one_state_from_all_that_is_known() {
        for (phase, broker, lease, instance_state) in TABLE {
            assert_eq!(
                InstanceState::of(*phase, false, *broker, *lease),
                *instance_state,
                "{phase:?} {broker:?} {lease:?}"
            );
            assert_eq!(InstanceState::of(*phase, true, *broker, *lease), InstanceState::Frozen);
        }
        let reached = |instance_state: &InstanceState| TABLE.iter().any(|(.., other)| other == instance_state);
        assert!(
            InstanceState::ALL
                .iter()
                .all(|instance_state| reached(instance_state) || *instance_state == InstanceState::Frozen)
        );
    }

    #[test]
    fn each_state_answers_as_the_table_at_the_top_says() {
        let page = include_str!("instance_state.rs");
        for instance_state in InstanceState::ALL {
            let code = |good| if good { "200" } else { "503" };
            let [agent, health, ready, upgrades] = match instance_state {
                InstanceState::Frozen => ["no answer", "no answer", "no answer", ""],
                _ => [
                    instance_state.agent_line().unwrap().trim_end(),
                    if instance_state.is_ready() { "200" } else { "404" },
                    code(instance_state.is_ready()),
                    if instance_state.takes_clients() { "accepted" } else { "503" },
                ],
            };
            let begin = format!("//! | {} |", instance_state.as_str());
            let row = page.lines().find(|line| line.starts_with(&begin)).expect("every state has a row");
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            assert_eq!(cells[4..8], [agent, health, ready, upgrades], "{row}");
        }
    }
}
