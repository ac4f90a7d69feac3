//! A network namespace for one gateway, with one cable for clients and one to Redis that can be cut and narrowed.
//!
//! ```text
//!   this machine  ── clients' veth ──  ┌──────────────┐
//!                                      │ the gateway  │
//!   Redis         ── Redis' veth ────  └──────────────┘  nftables and tbf at this end
//! ```
//!
//! The namespace has no name. A process holds it, and the kernel removes the namespace and its cables with the last
//! process. Nothing remains, however this program ends.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use test_support::Process;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::process;

/// Number of namespaces that this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);
const POLL: Duration = Duration::from_millis(10);
/// Number of blocks of four addresses in the private network 10.213.0.0/16.
const PIECES: u32 = 1 << 14;
const TABLE: &str = "tidegate_chaos";

/// A cable: the name of its interface on each side, and the addresses.
#[derive(Debug)]
struct Cable {
    outside: String,
    inside: String,
    /// The address on this machine.
    host: Ipv4Addr,
    /// The address in the namespace.
    guest: Ipv4Addr,
}

#[derive(Debug)]
pub(crate) struct Namespace {
    clients: Cable,
    redis: Cable,
    holder: Process,
}

/// The packets between the gateway and Redis that are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Both,
    /// Packets from the gateway are dropped. It still receives.
    Sent,
    /// Packets to the gateway are dropped. It still sends.
    Received,
}

impl Cable {
    fn new(kind: char) -> Self {
        let (process, number) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let piece = (process.wrapping_mul(16) + number) % PIECES * 4;
        let address = |last: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 213, 0, 0)) + piece + last);
        // Interface names have at most 15 bytes.
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

    /// The words before a program's name that run it in this namespace.
    pub(crate) fn prefix(&self) -> Vec<String> {
        vec!["nsenter".into(), format!("--net=/proc/{}/ns/net", self.holder.pid()), "--".into()]
    }

    /// The address on which a gateway in the namespace listens for clients.
    pub(crate) fn guest(&self) -> Ipv4Addr {
        self.clients.guest
    }

    /// The address on which Redis listens for the gateway.
    pub(crate) fn redis(&self) -> Ipv4Addr {
        self.redis.host
    }

    /// Drops packets to and from Redis until the cut is removed.
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

    /// Number of packets that have been dropped so far.
    pub(crate) fn dropped(&self) -> Result<u64, Failure> {
        let text = self.enter_with(&["nft", "list", "table", "ip", TABLE])?;
        let count = |rest: &str| rest.split(' ').next()?.parse::<u64>().ok();
        Ok(text.split("counter packets ").skip(1).filter_map(count).sum())
    }

    pub(crate) fn mend(&self) -> Result<(), Failure> {
        self.enter_with(&["nft", "delete", "table", "ip", TABLE]).map(drop)
    }

    /// Limits the bandwidth to and from the gateway until the limit is removed.
    pub(crate) fn narrow(&self, kbit_per_second: u32) -> Result<(), Failure> {
        let shape = format!("root tbf rate {kbit_per_second}kbit burst 4kb latency 500ms");
        run("tc", &format!("qdisc add dev {} {shape}", self.redis.outside))?;
        self.enter(&format!("tc qdisc add dev {} {shape}", self.redis.inside))
    }

    /// Number of packets to the gateway that were delayed.
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
        // The kernel would also remove the cables, but some time after the last process.
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
    // `PATH` may lack the directories in which programs for root are installed.
    let words: Vec<&str> = std::iter::once(&program).chain(words).copied().collect();
    let output = Command::new("sh").args(["-c", "PATH=$PATH:/usr/sbin:/sbin exec \"$@\"", "sh"]).args(&words).output();
    let output = output.map_err(Failure::io(program))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Failure::Process(format!("{}: {}", words.join(" "), why.trim())))
}
