//! A primary with a replica, and three Sentinels that watch them.

use super::{RedisServer, SENTINEL_MASTER, wait_until};

/// Number of Sentinels, of three, that must agree.
const QUORUM: usize = 2;
/// `down-after-milliseconds`: longer than a loaded machine delays a server, so that only a fault of the test causes a
/// failover.
const PATIENT_MS: u32 = 120_000;
/// `down-after-milliseconds` while a test waits for a failover.
const IMPATIENT_MS: u32 = 2_000;

/// All five processes. Dropping it ends them and removes their files.
#[derive(Debug)]
pub struct SentinelSet {
    /// The two servers. The first one is the primary at the beginning.
    pub servers: [RedisServer; 2],
    pub sentinels: [RedisServer; 3],
}

impl SentinelSet {
    /// Starts all processes and waits until the Sentinels know each other and the replica. Before that, no failover is
    /// possible. `arguments` are for the two servers.
    pub fn start(arguments: &[&str]) -> Self {
        // A replica synchronizes at once. By default Redis waits for further replicas.
        let arguments = [&["--repl-diskless-sync-delay", "0"], arguments].concat();
        let primary = RedisServer::start(&arguments);
        let port = primary.port().to_string();
        let replica = RedisServer::start(&[&arguments[..], &["--replicaof", "127.0.0.1", &port]].concat());
        let config = format!(
            "sentinel monitor {SENTINEL_MASTER} 127.0.0.1 {port} {QUORUM}\n\
             sentinel down-after-milliseconds {SENTINEL_MASTER} {PATIENT_MS}\n\
             sentinel failover-timeout {SENTINEL_MASTER} 10000\n"
        );
        let sentinels = std::array::from_fn(|_| RedisServer::launch(&[], Some(config.clone())));
        let set = Self { servers: [primary, replica], sentinels };
        wait_until("copying the primary", || set.servers[1].info("master_link_status").as_deref() == Some("up"));
        for sentinel in &set.sentinels {
            let known = |field: &str, count: &str| master_field(sentinel, field).as_deref() == Some(count);
            wait_until("Sentinels meeting", || known("num-slaves", "1") && known("num-other-sentinels", "2"));
        }
        set
    }

    pub fn url(&self) -> String {
        let nodes: Vec<_> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("redis+sentinel://{}/{SENTINEL_MASTER}", nodes.join(","))
    }

    /// From now on the Sentinels treat a silent primary as dead after 2 s instead of two minutes.
    pub fn expect_a_failure(&self) {
        self.set_patience(IMPATIENT_MS);
    }

    /// Undoes [`SentinelSet::expect_a_failure`].
    pub fn expect_no_failure(&self) {
        self.set_patience(PATIENT_MS);
    }

    fn set_patience(&self, milliseconds: u32) {
        for sentinel in &self.sentinels {
            let milliseconds = milliseconds.to_string();
            sentinel.command::<()>(&["SENTINEL", "SET", SENTINEL_MASTER, "down-after-milliseconds", &milliseconds]);
        }
    }

    /// Makes the replica the primary while both run, and waits until every Sentinel reports it. The Sentinels make the
    /// old primary a replica some time afterwards.
    pub fn switch(&self) {
        // A busy Sentinel rejects a replica from which it has had no reply for a while.
        let failover = ["SENTINEL", "FAILOVER", SENTINEL_MASTER];
        wait_until("a good replica", || self.sentinels[0].try_command::<()>(&failover).is_ok());
        let port = self.servers[1].port().to_string();
        for sentinel in &self.sentinels {
            wait_until("a failover", || master_field(sentinel, "port").as_ref() == Some(&port));
        }
    }
}

fn master_field(sentinel: &RedisServer, field: &str) -> Option<String> {
    let fields: Vec<String> = sentinel.try_command(&["SENTINEL", "MASTER", SENTINEL_MASTER]).ok()?;
    fields.chunks_exact(2).find(|pair| pair[0] == field).map(|pair| pair[1].clone())
}
