//! Packet loss by nftables. `tc netem` is not in every kernel, and a rule for one port of loopback affects nothing
//! else.

use std::process::{Command, Output};
use std::time::Duration;

use tokio::time::sleep;

use super::proven;
use crate::cluster::Cluster;
use crate::failure::Failure;

const HELD: Duration = Duration::from_millis(3_000);
const PERCENT: u32 = 10;

/// A table of nftables rules, which is deleted when it is dropped.
struct Table(String);

impl Table {
    fn new(port: u16) -> Result<Self, Failure> {
        let name = format!("tidegate_chaos_{}", std::process::id());
        let rules = format!(
            "table inet {name} {{ chain lose {{ type filter hook input priority 0; \
             tcp dport {port} numgen random mod 100 < {PERCENT} counter drop; \
             tcp sport {port} numgen random mod 100 < {PERCENT} counter drop; }}; }};"
        );
        let output = nft(&[&rules])?;
        if output.status.success() {
            Ok(Self(name))
        } else {
            Err(Failure::Impossible(format!("nft: {}", String::from_utf8_lossy(&output.stderr).trim())))
        }
    }

    /// Number of packets that were dropped.
    fn dropped(&self) -> Result<u64, Failure> {
        let text = String::from_utf8_lossy(&nft(&["list", "table", "inet", &self.0])?.stdout).into_owned();
        let counts =
            text.split("counter packets ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let _ = nft(&["delete", "table", "inet", &self.0]);
    }
}

fn nft(args: &[&str]) -> Result<Output, Failure> {
    let run = |program: &str| Command::new(program).args(args).output();
    run("nft").or_else(|_| run("/usr/sbin/nft")).map_err(|error| Failure::Impossible(format!("nft: {error}")))
}

pub(super) async fn packet_loss(cluster: &mut Cluster) -> Result<String, Failure> {
    let table = Table::new(cluster.primary.address.port())?;
    sleep(HELD).await;
    let dropped = table.dropped()?;
    drop(table);
    proven(dropped > 0, format!("{dropped} packets were dropped, {PERCENT} % of them in each direction"))
}
