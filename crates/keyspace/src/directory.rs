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
        ttl: "with its instance: at its goodbye, or within about 10 s of its death; 60 s after its last beat in any case",
        writer: "`tidegate_registry_write`, up to 128 changes a call and nothing when idle; \
                 `tidegate_registry_delete`, `tidegate_registry_reap`",
        reader: "operators; `tidegate_registry_renew` counts them",
    },
    Footprint {
        name: ":{registry}:users:INSTANCE:INCARNATION",
        kind: "hash of `#TENANT/USER` and `#TENANT` → number of connections, `TENANT/USER` → `session@ms session@ms …`, at \
               most 128, and `-` → number taken out by others",
        ttl: "as the rows",
        writer: "as the rows; `tidegate_registry_write` of any instance takes a replaced session out",
        reader: "`tidegate_registry_write` of every instance, `tidegate_registry_who`, `tidegate_registry_kick`, \
                 `tidegate_registry_send`",
    },
    Footprint {
        name: ":{registry}:orders:INSTANCE:INCARNATION",
        kind: "hash of session id or `TENANT/USER` → why it is to be closed, and for a session `@` and since when (ms) \
               the connection meant was there; and `notice NUMBER WHOM` → notice",
        ttl: "60 s; taken up when the instance has heard its bell, or at its next beat",
        writer: "`tidegate_registry_write` and `tidegate_registry_take` of any instance, `tidegate_registry_kick`, \
                 `tidegate_registry_send`",
        reader: "`tidegate_registry_renew`",
    },
    Footprint {
        name: ":{registry}:orders:INSTANCE:INCARNATION:told",
        kind: "hash, orders whose answer the instance may not have read, and `beat` → number of the beat that was answered",
        ttl: "60 s; until a later beat says that it has been read",
        writer: "`tidegate_registry_renew`",
        reader: "`tidegate_registry_renew`",
    },
    Footprint {
        name: ":{registry}:bell:INSTANCE",
        kind: "list of one empty text: there are orders",
        ttl: "60 s; the instance waits for it and takes it out",
        writer: "whoever writes orders",
        reader: "the instance, by `BLPOP`",
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
        self.of_life("rows", instance, incarnation)
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
        self.of_life("users", instance, incarnation)
    }

    /// Whom one incarnation of an instance is to close.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::InstanceId;
    /// let gw = InstanceId::parse("gw-1").unwrap();
    /// assert_eq!(Keyspace::default().orders(&gw, "650000000000002a"), "tidegate:{registry}:orders:gw-1:650000000000002a");
    /// ```
    #[must_use]
    pub fn orders(&self, instance: &InstanceId, incarnation: impl Display) -> String {
        self.of_life("orders", instance, incarnation)
    }

    /// Rung when there are orders for an instance.
    ///
    /// ```
    /// # use keyspace::Keyspace;
    /// # use wire::InstanceId;
    /// let gw = InstanceId::parse("gw-1").unwrap();
    /// assert_eq!(Keyspace::default().bell(&gw), "tidegate:{registry}:bell:gw-1");
    /// ```
    #[must_use]
    pub fn bell(&self, instance: &InstanceId) -> String {
        format!("{}:{{registry}}:bell:{instance}", self.prefix())
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

    pub(crate) fn of_life(&self, kind: &str, instance: &InstanceId, incarnation: impl Display) -> String {
        format!("{}:{{registry}}:{kind}:{instance}:{incarnation}", self.prefix())
    }
}
