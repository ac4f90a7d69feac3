//! Gateways in this process, on a Redis of the test's own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use test_support::token;
use tidegate_gateway::Gateway;
use tidegate_gateway::config::{Config, RawConfig, Sources};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::dial;

/// Where a test says nothing of the registry. Who notices the end of its lease later than a tenth of it before, fences
/// itself and sends its clients elsewhere; while Redis is away, a busy machine may well be late by half a second.
const REGISTRY: &str = "[registry]\nlease_ms = 20000\nreap_ms = 24000\n";

/// Some gateways and what they share.
pub(crate) struct Fleet {
    pub(crate) gateways: Vec<Option<Gateway>>,
    /// More lines for each configuration file.
    pub(crate) settings: String,
    pub(crate) broker: String,
}

impl Fleet {
    /// As many gateways on Redis at `url`, or on a broker of their own each.
    pub(crate) fn start(instances: usize, url: Option<&str>, settings: &str) -> Self {
        let broker = match url {
            Some(url) => on_redis(url),
            None => "broker = \"memory\"\n".into(),
        };
        Self::on(broker, instances, settings)
    }

    /// The same for tests that stop Redis: these gateways soon take its silence for an outage.
    pub(crate) fn start_watchful(instances: usize, url: &str) -> Self {
        Self::on(
            format!("broker = \"redis\"\nredis = {{ url = \"{url}\", check_interval_ms = 1000 }}\n"),
            instances,
            "",
        )
    }

    /// The same with these lines for the broker.
    pub(crate) fn on(broker: String, instances: usize, settings: &str) -> Self {
        let registry = if settings.contains("[registry]") { "" } else { REGISTRY };
        let settings = format!("{settings}{registry}");
        let mut fleet = Self { gateways: Vec::new(), settings, broker };
        for _ in 0..instances {
            fleet.add(None);
        }
        fleet
    }

    /// One more gateway, which reaches the same Redis by another way if one is given.
    pub(crate) fn add(&mut self, url: Option<&str>) {
        let name = format!("gw-{}", self.gateways.len());
        let broker = url.map_or_else(|| self.broker.clone(), on_redis);
        let gateway = Gateway::start(config(&name, &broker, &self.settings)).expect("the addresses are free");
        self.gateways.push(Some(gateway));
    }

    pub(crate) fn gateway(&self, index: usize) -> &Gateway {
        self.gateways[index].as_ref().expect("it has not been stopped")
    }

    /// Ends a gateway without a word to anybody.
    pub(crate) fn kill(&mut self, index: usize) {
        self.gateways[index] = None;
    }

    /// A token with these grants, for subscribing and publishing.
    pub(crate) fn token(&self, tenant: &str, user: &str, grants: &[&str]) -> String {
        self.token_saying(tenant, user, grants, None)
    }

    /// The same, which says something of its holder.
    pub(crate) fn token_saying(&self, tenant: &str, user: &str, grants: &[&str], info: Option<&Value>) -> String {
        let mut claims = json!({
            "sub": user, "tenant": tenant, "exp": token::expiry(3_600), "subscribe": grants, "publish": grants,
        });
        if let Some(info) = info {
            claims["info"] = info.clone();
        }
        token::sign(&claims)
    }

    /// One of a gateway's metrics, over all its shards.
    pub(crate) async fn metric(&self, index: usize, name: &str) -> f64 {
        let mut stream = TcpStream::connect(self.gateway(index).admin_addr()).await.expect("it answers operators");
        let request = "GET /metrics HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("it answers in text");
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?.strip_prefix([' ', '{'])?;
            rest.rsplit_once(' ').map_or(rest, |(_, value)| value).parse::<f64>().ok()
        };
        text.lines().filter_map(value).sum()
    }

    /// A client of tenant `acme` on one of the gateways, welcomed.
    pub(crate) async fn client(&self, index: usize, user: &str) -> Client {
        let token = self.token("acme", user, &["collection:*", "system", "system:*"]);
        let mut client = Client::connect(self.gateway(index).listen_addr(), "/ws", Some(&token)).await;
        client.expect("welcome").await;
        // From here on the instance has reached its broker.
        client.subscribe("system:ready", None).await;
        client
    }
}

/// Ended connections are noticed at once. Mere silence is no outage for long: a busy machine is silent too.
fn on_redis(url: &str) -> String {
    let patience = "probe_interval_ms = 15000, reply_deadline_ms = 30000";
    format!("broker = \"redis\"\nredis = {{ url = \"{url}\", check_interval_ms = 1000, {patience} }}\n")
}

pub(crate) fn config(instance: &str, broker: &str, settings: &str) -> Config {
    static FILES: AtomicU32 = AtomicU32::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("gw-{}-{number}.toml", std::process::id()));
    let text = format!(
        "instance = \"{instance}\"\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nshards = 2\n{broker}\
         auth.keys = {}\n{settings}{}",
        token::keys(),
        dial::settings()
    );
    std::fs::write(&file, text).expect("the build directory is writable");
    let mut raw = RawConfig::gather(Sources { file: Some(file.clone()), ..Sources::default() });
    let config = Config::check(&mut raw);
    std::fs::remove_file(&file).expect("it was written a moment ago");
    config.unwrap_or_else(|problems| panic!("{problems}"))
}
