//! A network of one gateway's own, with one cable for clients and one to Redis that can be cut and narrowed.
//!
//! ```text
//!   this machine  ── clients' veth ──  ┌──────────────┐
//!                                      │ the gateway  │
//!   Redis         ── Redis' veth ────  └──────────────┘  nftables and tbf at this end
//! ```
//!
//! The namespace has no name: a process holds it, and with its last process the kernel takes namespace and cables away.
//! So nothing is left behind, however this program ends.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use test_support::Process;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::process;

/// Further namespaces of this process.
static MADE: AtomicU32 = AtomicU32::new(0);
const POLL: Duration = Duration::from_millis(10);
/// Of the private network 10.213.0.0/16, in pieces of four addresses.
const PIECES: u32 = 1 << 14;
const TABLE: &str = "tidegate_chaos";

/// A cable: its name on either side of it, and the addresses.
#[derive(Debug)]
struct Cable {
    outside: String,
    inside: String,
    /// On this machine.
    host: Ipv4Addr,
    /// In the namespace.
    guest: Ipv4Addr,
}

#[derive(Debug)]
pub(crate) struct Namespace {
    clients: Cable,
    redis: Cable,
    holder: Process,
}

/// Which packets between the gateway and Redis are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Both,
    /// The gateway is not heard, and hears.
    Sent,
    /// The gateway is heard, and does not hear.
    Received,
}

impl Cable {
    fn new(kind: char) -> Self {
        let (process, number) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let piece = (process.wrapping_mul(16) + number) % PIECES * 4;
        let address = |last: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 213, 0, 0)) + piece + last);
        // Names have at most 15 bytes.
        let name = |end: char| format!("tg{process}{kind}{}{end}", number % 100);
        Self { outside: name('o'), inside: name('i'), host: address(1), guest: address(2) }
    }

    fn lay(&self, pid: u32) -> Result<(), Failure> {
        let Self { outside, inside, host, guest } = self;
        run("ip", &format!("link add {outside} type veth peer name {inside} netns {pid}"))?;
        run("ip", &format!("addr add {host}/30 dev {outside}"))?;
        run("ip", &format!("link set {outside} up"))?;
        enter(pid, &format!("ip addr add {guest}/30 dev {inside}"))?;
        enter(pid, &format!("ip link set {inside} up"))
    }
}

impl Namespace {
    pub(crate) async fn start(directory: &Path) -> Result<Self, Failure> {
        let mut sleep_inside = Command::new("unshare");
        sleep_inside.args(["--net", "--", "sleep", "infinity"]);
        let mut holder = process::start("namespace", &sleep_inside, &directory.join("namespace.log"))?;
        let network = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let (ours, pid) = (network("self"), holder.pid());
        while network(&pid.to_string()).is_none_or(|theirs| Some(theirs) == ours) {
            if holder.status()?.is_some() {
                return Err(Failure::Process("no network namespace: this fault needs root, or CAP_SYS_ADMIN".into()));
            }
            sleep(POLL).await;
        }
        let namespace = Self { clients: Cable::new('c'), redis: Cable::new('r'), holder };
        namespace.clients.lay(pid)?;
        namespace.redis.lay(pid)?;
        namespace.enter("ip link set lo up")?;
        Ok(namespace)
    }

    /// What stands before a program's name, so that it runs in here.
    pub(crate) fn prefix(&self) -> Vec<String> {
        vec!["nsenter".into(), format!("--net=/proc/{}/ns/net", self.holder.pid()), "--".into()]
    }

    /// Where a gateway listens that clients are to reach.
    pub(crate) fn guest(&self) -> Ipv4Addr {
        self.clients.guest
    }

    /// Where Redis listens for the gateway.
    pub(crate) fn redis(&self) -> Ipv4Addr {
        self.redis.host
    }

    /// Drops packets to and from Redis until it is mended.
    pub(crate) fn cut(&self, cut: Cut) -> Result<(), Failure> {
        let host = self.redis.host;
        let chain = |name: &str, packets: &str, is_cut: bool| match is_cut {
            true => format!(" chain {name} {{ type filter hook {name} priority 0; {packets} counter drop; }};"),
            false => String::new(),
        };
        let sent = chain("output", &format!("ip daddr {host}"), cut != Cut::Received);
        let received = chain("input", &format!("ip saddr {host}"), cut != Cut::Sent);
        self.enter_with(&["nft", &format!("table ip {TABLE} {{{sent}{received} }};")]).map(drop)
    }

    /// Packets that were dropped until now.
    pub(crate) fn dropped(&self) -> Result<u64, Failure> {
        let text = self.enter_with(&["nft", "list", "table", "ip", TABLE])?;
        let count = |rest: &str| rest.split(' ').next()?.parse::<u64>().ok();
        Ok(text.split("counter packets ").skip(1).filter_map(count).sum())
    }

    pub(crate) fn mend(&self) -> Result<(), Failure> {
        self.enter_with(&["nft", "delete", "table", "ip", TABLE]).map(drop)
    }

    /// Lets so much through to the gateway, and from it, until it is widened.
    pub(crate) fn narrow(&self, kbit_per_second: u32) -> Result<(), Failure> {
        let shape = format!("root tbf rate {kbit_per_second}kbit burst 4kb latency 500ms");
        run("tc", &format!("qdisc add dev {} {shape}", self.redis.outside))?;
        self.enter(&format!("tc qdisc add dev {} {shape}", self.redis.inside))
    }

    /// Packets that had to wait on their way to the gateway.
    pub(crate) fn delayed(&self) -> Result<u64, Failure> {
        let text = output("tc", &["-s", "qdisc", "show", "dev", &self.redis.outside])?;
        let count = text.split("overlimits ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        Ok(count.unwrap_or(0))
    }

    pub(crate) fn widen(&self) -> Result<(), Failure> {
        run("tc", &format!("qdisc delete dev {} root", self.redis.outside))?;
        self.enter(&format!("tc qdisc delete dev {} root", self.redis.inside))
    }

    fn enter(&self, line: &str) -> Result<(), Failure> {
        enter(self.holder.pid(), line)
    }

    fn enter_with(&self, words: &[&str]) -> Result<String, Failure> {
        let network = format!("--net=/proc/{}/ns/net", self.holder.pid());
        output("nsenter", &[&[network.as_str(), "--"], words].concat())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The kernel would do it, some time after the last process.
        for cable in [&self.clients, &self.redis] {
            let _ = run("ip", &format!("link delete {}", cable.outside));
        }
    }
}

fn enter(pid: u32, line: &str) -> Result<(), Failure> {
    run("nsenter", &format!("--net=/proc/{pid}/ns/net -- {line}"))
}

fn run(program: &str, line: &str) -> Result<(), Failure> {
    output(program, &line.split(' ').collect::<Vec<_>>()).map(drop)
}

fn output(program: &str, words: &[&str]) -> Result<String, Failure> {
    // Wherever it is that programs for root are kept.
    let words: Vec<&str> = std::iter::once(&program).chain(words).copied().collect();
    let output = Command::new("sh").args(["-c", "PATH=$PATH:/usr/sbin:/sbin exec \"$@\"", "sh"]).args(&words).output();
    let output = output.map_err(Failure::io(program))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Failure::Process(format!("{}: {}", words.join(" "), why.trim())))
}
