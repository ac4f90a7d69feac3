//! What a scenario runs on: a Redis and a gateway of its own, each on its cores, gone when the scenario is over.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::process::{Process, free_port};
use crate::scenario::Setting;
use crate::token::TokenPress;

/// The shared secret that tokens are signed with. It protects nothing: everything listens on loopback only.
const SECRET: &str = "loadtest-secret-of-at-least-32-bytes";

/// A running Redis and a running gateway.
pub(crate) struct Rig {
    /// Dropped first: a gateway that loses its Redis complains.
    pub(crate) gateway: Process,
    pub(crate) redis: Process,
    pub(crate) redis_addr: SocketAddr,
    pub(crate) redis_url: String,
    /// Where clients connect.
    pub(crate) addr: SocketAddr,
    pub(crate) tokens: TokenPress,
}

impl Rig {
    /// Starts both and waits until they listen.
    pub(crate) fn start(setting: &Setting) -> Result<Self, Failure> {
        let redis_port = free_port()?;
        let redis_args = ["--port", &redis_port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let mut redis = Process::start("redis", &setting.cores.clients, OsStr::new("redis-server"), &redis_args)?;
        let redis_addr = SocketAddr::from((Ipv4Addr::LOCALHOST, redis_port));
        redis.await_listening(redis_addr)?;
        let redis_url = format!("redis://{redis_addr}");

        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let file = ConfigFile::write(&config(addr, admin, &redis_url))?;
        let args = [OsStr::new("serve"), OsStr::new("--config"), file.path().as_os_str()];
        let program = setting.gateway.as_os_str();
        let mut gateway = Process::start("the gateway", &[setting.cores.server], program, &args)?;
        gateway.await_listening(addr)?;
        Ok(Self { gateway, redis, redis_addr, redis_url, addr, tokens: TokenPress::new(SECRET.as_bytes()) })
    }
}

/// Defaults but for where to listen, whom to trust and how much to say: what is measured is what is delivered.
fn config(addr: SocketAddr, admin: SocketAddr, redis_url: &str) -> String {
    [
        "instance = \"loadtest\"",
        &format!("listen = \"{addr}\""),
        &format!("admin_listen = \"{admin}\""),
        "broker = \"redis\"",
        &format!("redis.url = \"{redis_url}\""),
        &format!("auth.keys = [{{ algorithm = \"HS256\", secret = \"{SECRET}\" }}]"),
        "log.filter = \"warn\"",
    ]
    .join("\n")
}

/// A file that is needed only until the gateway has read it.
struct ConfigFile(PathBuf);

impl ConfigFile {
    fn write(text: &str) -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("tidegate-loadtest-{}.toml", std::process::id()));
        let file = Self(path);
        fs::write(&file.0, text).map_err(Failure::io(file.0.display().to_string()))?;
        Ok(file)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        // In the system's directory for files that may stay behind.
        let _ = fs::remove_file(&self.0);
    }
}
