//! A real Redis for one test: on a free port, in memory only, gone with the test.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use connection_registry::{Incarnation, Instance, RedisStore, RedisStoreConfig, Row, Timings};
use keyspace::{Keyspace, Library};
use redis::aio::MultiplexedConnection;
use wire::{Families, InstanceId, TenantId, Timestamp, UserId};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub(crate) struct RedisServer {
    process: Child,
    port: u16,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        // Another process may take the port between our letting go and the server's binding; then the next is tried.
        for _ in 0..5 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let port_text = port.to_string();
            let args = ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
            let process = Command::new("redis-server")
                .args(args)
                .args(["--enable-debug-command", "local", "--dir", "/tmp"])
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server 7.0 or later must be installed to run these tests");
            let mut server = Self { process, port };
            if server.is_ready().await {
                return server;
            }
        }
        panic!("redis-server did not start");
    }

    async fn is_ready(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && self.process.try_wait().unwrap().is_none() {
            if let Ok(client) = redis::Client::open(self.url())
                && let Ok(mut connection) = client.get_multiplexed_async_connection().await
                && redis::cmd("PING").exec_async(&mut connection).await.is_ok()
            {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection past the store.
    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        redis::Client::open(self.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
    }

    pub(crate) fn store(&self, timings: Timings) -> RedisStore {
        let families = Families::default();
        let library = Library::new(families.iter().map(|(_, shape)| (shape, 60_000, 100)));
        let keyspace = Keyspace::default();
        RedisStore::new(RedisStoreConfig { url: self.url(), connections_max: 100, keyspace, library, timings }).unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs one command past the store.
pub(crate) async fn command<T: redis::FromRedisValue>(connection: &mut MultiplexedConnection, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(connection).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

pub(crate) fn instance(id: &str, life: u32) -> Instance {
    let address = format!("127.0.0.1:{life}").into();
    Instance { id: InstanceId::parse(id).unwrap(), incarnation: Incarnation::new(1_700_000_000, life), address }
}

pub(crate) fn row(user: &str) -> Row {
    Row {
        tenant: TenantId::default(),
        user: UserId::parse(user).unwrap(),
        shard: 1,
        connected_at: Timestamp(1_795_176_000_000),
    }
}
