//! The registry's names and functions: leases and peers. All share one hash tag, so that every change of what an
//! instance owns can compare the lease in the same step.

use wire::InstanceId;

use crate::{Footprint, Function, Keyspace};

/// The functions' text; the header says what each takes and answers.
pub(crate) const LUA: &str = include_str!("../lua/registry.lua");

impl Function {
    /// Asks for an instance's lease.
    pub const REGISTRY_ACQUIRE: Self =
        Self { name: "tidegate_registry_acquire", keys: 3, args_min: 5, read_only: false };
    /// Renews it, and shows a heartbeat.
    pub const REGISTRY_RENEW: Self = Self { name: "tidegate_registry_renew", keys: 5, args_min: 6, read_only: false };
    /// Gives it back.
    pub const REGISTRY_RELEASE: Self =
        Self { name: "tidegate_registry_release", keys: 5, args_min: 2, read_only: false };
    /// Lists every instance's newest heartbeat.
    pub const REGISTRY_PEERS: Self = Self { name: "tidegate_registry_peers", keys: 1, args_min: 0, read_only: true };
    /// Removes a dead peer with its rows.
    pub const REGISTRY_REAP: Self = Self { name: "tidegate_registry_reap", keys: 6, args_min: 4, read_only: false };
}

/// What the registry keeps in Redis.
pub(crate) const FOOTPRINT: [Footprint; 3] = [
    Footprint {
        name: ":{registry}:lease:INSTANCE",
        kind: "string, the fence token `REPLICATION-ID:NUMBER:INCARNATION`",
        ttl: "the lease duration (6 s), renewed at every heartbeat (2 s)",
        writer: "`tidegate_registry_acquire`, `tidegate_registry_renew`, `tidegate_registry_release`",
        reader: "every `tidegate_registry_…` function that changes data",
    },
    Footprint {
        name: ":{registry}:fence",
        kind: "string, the number of the newest token",
        ttl: "no expiry",
        writer: "`tidegate_registry_acquire`",
        reader: "`tidegate_registry_acquire`",
    },
    Footprint {
        name: ":{registry}:peers",
        kind: "hash of instance id → time of the last heartbeat (ms) and JSON `{incarnation, heartbeat, address, connections, connects_per_second, duty}`",
        ttl: "no expiry; a peer removes the entry of a dead instance within about 10 s",
        writer: "`tidegate_registry_acquire`, `tidegate_registry_renew`, `tidegate_registry_release`; \
                 `tidegate_registry_reap`, called by the peers of a dead instance",
        reader: "`tidegate_registry_peers`, called by every instance at every heartbeat",
    },
];

impl Keyspace {
    /// Who holds an instance id: the fence token of one incarnation.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::InstanceId;
    /// let gw = InstanceId::parse("gw-1").unwrap();
    /// assert_eq!(Keyspace::default().lease(&gw), "tidegate:{registry}:lease:gw-1");
    /// ```
    #[must_use]
    pub fn lease(&self, instance: &InstanceId) -> String {
        format!("{}:{{registry}}:lease:{instance}", self.prefix())
    }

    /// The number of the newest fence token.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// assert_eq!(Keyspace::default().fence(), "tidegate:{registry}:fence");
    /// ```
    #[must_use]
    pub fn fence(&self) -> String {
        format!("{}:{{registry}}:fence", self.prefix())
    }

    /// Every instance's newest heartbeat.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// assert_eq!(Keyspace::default().peers(), "tidegate:{registry}:peers");
    /// ```
    #[must_use]
    pub fn peers(&self) -> String {
        format!("{}:{{registry}}:peers", self.prefix())
    }
}
