//! A Redis Cluster: primaries that share the slots, with or without a replica.

use std::ops::RangeInclusive;

use super::{RedisServer, reserve_port, wait_until};
use crate::ReservedPort;

const PRIMARIES: usize = 3;
const SLOTS: u16 = 16384;
/// `cluster-node-timeout` in milliseconds: longer than a loaded machine delays a node.
const PATIENT_MS: &str = "60000";
/// `cluster-node-timeout` in milliseconds while a test waits for a failover.
const IMPATIENT_MS: &str = "2000";

/// All nodes. Dropping it ends them and removes their files.
#[derive(Debug)]
pub struct RedisCluster {
    pub primaries: Vec<RedisServer>,
    /// The first replica copies the first primary, and so on.
    pub replicas: Vec<RedisServer>,
    _buses: Vec<ReservedPort>,
}

impl RedisCluster {
    /// Starts three primaries and waits until each knows the others.
    pub fn start() -> Self {
        Self::form(0)
    }

    /// Starts three primaries and a replica of the first primary.
    pub fn start_with_replica() -> Self {
        Self::form(1)
    }

    /// Starts one primary with all slots, with these additional arguments of redis-server.
    pub fn start_alone(arguments: &[&str]) -> Self {
        let bus = reserve_port();
        let number = bus.number().to_string();
        let primary =
            RedisServer::start(&[&["--cluster-enabled", "yes", "--cluster-port", &number], arguments].concat());
        primary.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", &(SLOTS - 1).to_string()]);
        let cluster = Self { primaries: vec![primary], replicas: Vec::new(), _buses: vec![bus] };
        cluster.wait_until_ok();
        cluster
    }

    fn form(replicas: usize) -> Self {
        let buses: Vec<_> = (0..PRIMARIES + replicas).map(|_| reserve_port()).collect();
        let server = |index: usize| {
            // The default bus port is 10,000 above the port, and the port may be too high for that.
            let bus = buses[index].number().to_string();
            RedisServer::start(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                PATIENT_MS,
                "--cluster-require-full-coverage",
                "no",
                "--repl-diskless-sync-delay",
                "0",
            ])
        };
        let primaries = (0..PRIMARIES).map(server).collect();
        let replicas_started = (PRIMARIES..PRIMARIES + replicas).map(server).collect();
        let cluster = Self { primaries, replicas: replicas_started, _buses: buses };
        for (index, primary) in cluster.primaries.iter().enumerate() {
            let (first, last) = Self::slots_of(index).into_inner();
            primary.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            primary.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        for node in cluster.nodes().skip(1) {
            let bus = node.arguments[3].clone();
            cluster.primaries[0].command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string(), &bus]);
        }
        let count = (PRIMARIES + replicas).to_string();
        for node in cluster.nodes() {
            wait_until("nodes meeting", || cluster_field(node, "cluster_known_nodes").as_ref() == Some(&count));
        }
        for (replica, primary) in cluster.replicas.iter().zip(&cluster.primaries) {
            let id: String = primary.command(&["CLUSTER", "MYID"]);
            wait_until("a replica's first step", || replica.try_command::<()>(&["CLUSTER", "REPLICATE", &id]).is_ok());
            wait_until("copying the primary", || replica.info("master_link_status").as_deref() == Some("up"));
        }
        cluster.wait_until_ok();
        cluster
    }

    pub fn url(&self) -> String {
        let nodes: Vec<_> = self.nodes().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    pub fn nodes(&self) -> impl Iterator<Item = &RedisServer> {
        self.primaries.iter().chain(&self.replicas)
    }

    /// The slots that this primary has at the beginning.
    pub fn slots_of(primary: usize) -> RangeInclusive<u16> {
        let part = |index: usize| SLOTS * u16::try_from(index).expect("a few primaries") / 3;
        part(primary)..=part(primary + 1) - 1
    }

    /// Waits until every node knows which node serves each slot.
    pub fn wait_until_ok(&self) {
        let slots = SLOTS.to_string();
        for node in self.nodes() {
            let is = |field: &str, value: &str| cluster_field(node, field).as_deref() == Some(value);
            wait_until("a cluster", || is("cluster_state", "ok") && is("cluster_slots_ok", &slots));
        }
    }

    /// Begins to move a slot. From now on clients look for its keys at both primaries.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let (slot, [from, to]) = (slot.to_string(), [from, to].map(|index| &self.primaries[index]));
        let [from_id, to_id] = [from, to].map(|node| node.command::<String>(&["CLUSTER", "MYID"]));
        to.command::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        from.command::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    }

    /// Moves the keys and returns their number.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize) -> usize {
        let (from, to) = (&self.primaries[from], self.primaries[to].port().to_string());
        let mut moved = 0;
        loop {
            let keys: Vec<String> = from.command(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "100"]);
            if keys.is_empty() {
                return moved;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &to, "", "0", "5000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            from.command::<()>(&migrate);
            moved += keys.len();
        }
    }

    /// Ends the move. The slot now belongs to `to`.
    pub fn end_move(&self, slot: u16, from: usize, to: usize) {
        let id: String = self.primaries[to].command(&["CLUSTER", "MYID"]);
        for index in [to, from] {
            self.primaries[index].command::<()>(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &id]);
        }
    }

    pub fn move_slot(&self, slot: u16, from: usize, to: usize) {
        self.begin_move(slot, from, to);
        self.move_keys(slot, from, to);
        self.end_move(slot, from, to);
    }

    /// From now on the nodes treat a silent node as dead after 2 s instead of a minute.
    pub fn expect_a_failure(&self) {
        for node in self.nodes() {
            node.command::<()>(&["CONFIG", "SET", "cluster-node-timeout", IMPATIENT_MS]);
        }
    }

    /// Ends every node, as a power failure would, and restarts them.
    pub fn crash_and_restart(&mut self) {
        self.primaries.iter_mut().chain(&mut self.replicas).for_each(RedisServer::crash);
        self.primaries.iter_mut().chain(&mut self.replicas).for_each(RedisServer::restart);
        self.wait_until_ok();
    }

    /// Deletes all data and functions. The slots do not move.
    pub fn clear(&self) {
        for primary in &self.primaries {
            primary.command::<()>(&["FLUSHALL"]);
            primary.command::<()>(&["FUNCTION", "FLUSH"]);
        }
    }
}

fn cluster_field(node: &RedisServer, field: &str) -> Option<String> {
    let text: String = node.try_command(&["CLUSTER", "INFO"]).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.to_owned())
}
