//! PURE. How the instance stands: one word from all it knows of itself, and what everybody is told of it.
//!
//! | state | publishes | deliveries | agent check | `/ws/health` | `/readyz` | upgrades |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | starting | | | up 0% | 404 | 503 | 503 |
//! | connected | stored | all | up 100% | 200 | 200 | taken |
//! | lease_lost | stored | all | up 1% | 200 | 200 | taken |
//! | isolated | by family | local | up 1% | 200 | 200 | taken |
//! | fenced | none | none, clients are moved | up 1% | 200 | 200 | 503 |
//! | draining | as before | as before, clients are moved | up 0% | 404 | 503 | 503 |
//! | frozen | | | silence | silence | silence | |
//!
//! HAProxy is never told "down" because Redis is away (the agent check says why). Who drains or freezes while Redis is
//! away, or is fenced meanwhile, stands as draining or frozen; pump and shards go by broker and lease all the same.

/// Where the process stands in its life. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Not ready for connections.
    Starting,
    /// Taking connections.
    Running,
    /// Taking none, moving those it has.
    Draining,
}

/// What the instance may believe of its lease now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseStatus {
    /// It is ours.
    Held,
    /// It is not, and we know it in time.
    Lost,
    /// We slept through its end, or another took it: what we have in hand may be stale.
    Fenced,
}

/// In one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum InstanceState {
    /// Not ready for connections.
    Starting,
    /// All is well.
    Connected,
    /// Messages travel, but its place among the instances is not its own: peers may have removed its rows.
    LeaseLost,
    /// Messages do not travel: the broker is away.
    Isolated,
    /// Its incarnation is over.
    Fenced,
    /// Taking no connections, moving those it has.
    Draining,
    /// A shard or the pump is stuck.
    Frozen,
}

impl InstanceState {
    /// Every standing, for metrics and documents.
    pub(crate) const ALL: [Self; 7] =
        [Self::Starting, Self::Connected, Self::LeaseLost, Self::Isolated, Self::Fenced, Self::Draining, Self::Frozen];

    /// From all that the instance knows.
    pub(crate) fn of(phase: Phase, is_frozen: bool, is_broker_up: bool, lease: LeaseStatus) -> Self {
        match (phase, lease) {
            _ if is_frozen => Self::Frozen,
            (Phase::Starting, _) => Self::Starting,
            (Phase::Draining, _) => Self::Draining,
            (Phase::Running, LeaseStatus::Fenced) => Self::Fenced,
            (Phase::Running, _) if !is_broker_up => Self::Isolated,
            (Phase::Running, LeaseStatus::Lost) => Self::LeaseLost,
            (Phase::Running, LeaseStatus::Held) => Self::Connected,
        }
    }

    /// As operators read it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Connected => "connected",
            Self::LeaseLost => "lease_lost",
            Self::Isolated => "isolated",
            Self::Fenced => "fenced",
            Self::Draining => "draining",
            Self::Frozen => "frozen",
        }
    }

    /// The line of the agent check; nothing is said while frozen.
    pub(crate) const fn agent_line(self) -> Option<&'static str> {
        match self {
            Self::Starting | Self::Draining => Some("up 0%\n"),
            Self::Connected => Some("up 100%\n"),
            Self::LeaseLost | Self::Isolated | Self::Fenced => Some("up 1%\n"),
            Self::Frozen => None,
        }
    }

    /// Whether `/ws/health` is answered 200 and `/readyz` too. Only a process that begins or ends is not ready: to take
    /// every instance away because Redis is gone helps nobody.
    pub(crate) const fn is_ready(self) -> bool {
        !matches!(self, Self::Starting | Self::Draining | Self::Frozen)
    }

    /// Whether upgrades are taken. One that is refused is tried elsewhere by HAProxy. A stuck shard does not keep clients
    /// from the others.
    pub(crate) const fn takes_clients(self) -> bool {
        !matches!(self, Self::Starting | Self::Draining | Self::Fenced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Phase, broker, lease, and how the instance stands with all shards turning.
    const TABLE: &[(Phase, bool, LeaseStatus, InstanceState)] = &[
        (Phase::Starting, true, LeaseStatus::Held, InstanceState::Starting),
        (Phase::Starting, false, LeaseStatus::Lost, InstanceState::Starting),
        (Phase::Starting, true, LeaseStatus::Fenced, InstanceState::Starting),
        (Phase::Running, true, LeaseStatus::Held, InstanceState::Connected),
        (Phase::Running, true, LeaseStatus::Lost, InstanceState::LeaseLost),
        (Phase::Running, false, LeaseStatus::Held, InstanceState::Isolated),
        (Phase::Running, false, LeaseStatus::Lost, InstanceState::Isolated),
        (Phase::Running, true, LeaseStatus::Fenced, InstanceState::Fenced),
        (Phase::Running, false, LeaseStatus::Fenced, InstanceState::Fenced),
        (Phase::Draining, true, LeaseStatus::Held, InstanceState::Draining),
        (Phase::Draining, false, LeaseStatus::Lost, InstanceState::Draining),
        (Phase::Draining, false, LeaseStatus::Fenced, InstanceState::Draining),
    ];

    #[test]
    fn one_state_from_all_that_is_known() {
        for (phase, is_broker_up, lease, instance_state) in TABLE {
            assert_eq!(
                InstanceState::of(*phase, false, *is_broker_up, *lease),
                *instance_state,
                "{phase:?} {is_broker_up} {lease:?}"
            );
            assert_eq!(InstanceState::of(*phase, true, *is_broker_up, *lease), InstanceState::Frozen);
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
                InstanceState::Frozen => ["silence", "silence", "silence", ""],
                _ => [
                    instance_state.agent_line().unwrap().trim_end(),
                    if instance_state.is_ready() { "200" } else { "404" },
                    code(instance_state.is_ready()),
                    if instance_state.takes_clients() { "taken" } else { "503" },
                ],
            };
            let begin = format!("//! | {} |", instance_state.as_str());
            let row = page.lines().find(|line| line.starts_with(&begin)).expect("a row each");
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            assert_eq!(cells[4..8], [agent, health, ready, upgrades], "{row}");
        }
    }
}
