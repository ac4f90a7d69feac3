//! The directory's names and functions: who is connected where, how many of whom, and who is to be closed.

use std::fmt::Display;

use wire::{InstanceId, TenantId, UserId};

use crate::{Footprint, Function, Keyspace};

/// The functions' text; the header says what each takes and answers.
pub(crate) const LUA: &str = include_str!("../lua/directory.lua");

impl Function {
    /// Changes directory rows, within the limits of their owners.
    pub const REGISTRY_WRITE: Self = Self { name: "tidegate_registry_write", keys: 4, args_min: 5, read_only: false };
    /// Deletes the rows of one incarnation.
    pub const REGISTRY_DELETE: Self = Self { name: "tidegate_registry_delete", keys: 3, args_min: 1, read_only: false };
    /// Tells where a user is connected.
    pub const REGISTRY_WHO: Self = Self { name: "tidegate_registry_who", keys: 1, args_min: 1, read_only: true };
    /// Has a user's connections closed.
    pub const REGISTRY_KICK: Self = Self { name: "tidegate_registry_kick", keys: 1, args_min: 2, read_only: false };
    /// Has a notice sent to a user's connections.
    pub const REGISTRY_SEND: Self = Self { name: "tidegate_registry_send", keys: 1, args_min: 3, read_only: false };
}

/// What the directory keeps in Redis.
pub(crate) const FOOTPRINT: [Footprint; 5] = [
    Footprint {
        name: ":{registry}:rows:INSTANCE:INCARNATION",
        kind: "hash of session id → JSON `{tenant, user, shard, connected_at}`",
        ttl: "removed when the instance releases its lease, or within about 10 s after it dies; 60 s after its last heartbeat in any case",
        writer: "`tidegate_registry_write`, up to 128 changes per call, no call when idle; \
                 `tidegate_registry_delete`, `tidegate_registry_reap`",
        reader: "operators; `tidegate_registry_renew` counts them",
    },
    Footprint {
        name: ":{registry}:users:INSTANCE:INCARNATION",
        kind: "hash of `#TENANT/USER` and `#TENANT` → number of connections, `TENANT/USER` → `session@ms session@ms …`, at \
               most 128, and `-` → number of rows removed by other instances",
        ttl: "as the rows",
        writer: "as the rows; `tidegate_registry_write` of any instance removes a replaced session",
        reader: "`tidegate_registry_write` of every instance, `tidegate_registry_who`, `tidegate_registry_kick`, \
                 `tidegate_registry_send`",
    },
    Footprint {
        name: ":{registry}:commands:INSTANCE:INCARNATION",
        kind: "hash of session id or `TENANT/USER` → reason of the close, for a session followed by `@` and the time (ms) since \
               which that connection exists; and `notice NUMBER RECIPIENT` → notice",
        ttl: "60 s; the instance takes them when it is woken up, or at its next heartbeat",
        writer: "`tidegate_registry_write` and `tidegate_registry_take` of any instance, `tidegate_registry_kick`, \
                 `tidegate_registry_send`",
        reader: "`tidegate_registry_renew`",
    },
    Footprint {
        name: ":{registry}:commands:INSTANCE:INCARNATION:pending",
        kind: "hash of commands that the instance may not have received, and `heartbeat` → number of the heartbeat whose reply carried them",
        ttl: "60 s; removed when a later heartbeat confirms that the reply was read",
        writer: "`tidegate_registry_renew`",
        reader: "`tidegate_registry_renew`",
    },
    Footprint {
        name: ":{registry}:wakeup:INSTANCE",
        kind: "list with one empty element: commands are waiting",
        ttl: "60 s; the instance waits for the element and removes it",
        writer: "every function that writes commands",
        reader: "the instance (`BLPOP`)",
    },
];

impl Keyspace {
    /// Who is connected to one incarnation of an instance.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::InstanceId;
    /// let gw = InstanceId::parse("gw-1").unwrap();
    /// assert_eq!(Keyspace::default().rows(&gw, "650000000000002a"), "tidegate:{registry}:rows:gw-1:650000000000002a");
    /// ```
    #[must_use]
    pub fn rows(&self, instance: &InstanceId, incarnation: impl Display) -> String {
        self.per_incarnation("rows", instance, incarnation)
    }

    /// How many of whom are connected to one incarnation of an instance.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::InstanceId;
    /// let gw = InstanceId::parse("gw-1").unwrap();
    /// assert_eq!(Keyspace::default().users(&gw, "650000000000002a"), "tidegate:{registry}:users:gw-1:650000000000002a");
    /// ```
    #[must_use]
    pub fn users(&self, instance: &InstanceId, incarnation: impl Display) -> String {
        self.per_incarnation("users", instance, incarnation)
    }

    /// Whom one incarnation of an instance is to close.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::InstanceId;
    /// let gw = InstanceId::parse("gw-1").unwrap();
    /// assert_eq!(Keyspace::default().commands(&gw, "650000000000002a"), "tidegate:{registry}:commands:gw-1:650000000000002a");
    /// ```
    #[must_use]
    pub fn commands(&self, instance: &InstanceId, incarnation: impl Display) -> String {
        self.per_incarnation("commands", instance, incarnation)
    }

    /// Notified when there are commands for an instance.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::InstanceId;
    /// let gw = InstanceId::parse("gw-1").unwrap();
    /// assert_eq!(Keyspace::default().wakeup(&gw), "tidegate:{registry}:wakeup:gw-1");
    /// ```
    #[must_use]
    pub fn wakeup(&self, instance: &InstanceId) -> String {
        format!("{}:{{registry}}:wakeup:{instance}", self.prefix())
    }

    /// The name under which the directory counts a user's connections.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::{TenantId, UserId};
    /// let owner = Keyspace::owner(&TenantId::parse("acme").unwrap(), &UserId::parse("42").unwrap());
    /// assert_eq!(owner, "acme/42");
    /// ```
    #[must_use]
    pub fn owner(tenant: &TenantId, user: &UserId) -> String {
        format!("{tenant}/{user}")
    }

    pub(crate) fn per_incarnation(&self, kind: &str, instance: &InstanceId, incarnation: impl Display) -> String {
        format!("{}:{{registry}}:{kind}:{instance}:{incarnation}", self.prefix())
    }
}
