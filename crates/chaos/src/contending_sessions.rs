//! Pairs of clients that continue one session at the same time, on two instances, from the same positions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Behaviour, Client, Contention};
use crate::cluster::Cluster;
use crate::entrance::dial;
use crate::failure::Failure;
use crate::load;
use crate::polling::wait;
use crate::run_harness::RunHarness;
use crate::token;

const PAIRS: usize = 8;
/// Time limit for opening one connection.
const WELCOME_TIME_MAX: Duration = Duration::from_secs(5);
/// An older socket on another instance is closed at a heartbeat (2 s).
const REPLACED_TIME_MAX: Duration = Duration::from_millis(6_000);
/// Longer than a heartbeat. After this time, every other connection that had to be closed is closed.
const SETTLED: Duration = Duration::from_millis(3_000);

/// Lets the pairs connect. Exactly one client of each pair must be told that the other one continues the session.
pub(crate) async fn contend(harness: &mut RunHarness, cluster: &mut Cluster) -> Result<String, Failure> {
    let (replaced, (begin, is_on)) = (Arc::<AtomicUsize>::default(), watch::channel(false));
    for pair in 0..PAIRS {
        let (user, replaced, is_on) = (format!("rival-{pair}"), Arc::clone(&replaced), is_on.clone());
        let session = session(cluster, &user).await?;
        let contention = Contention { user, session, is_on, replaced };
        let first = cluster.random.below(cluster.gateways.len());
        for home in [first, (first + 1) % cluster.gateways.len()] {
            let (patterns, clients) = (load::all_patterns(), Arc::clone(&harness.clients));
            harness.subscriptions += patterns.len();
            let name = format!("{}-{home}", contention.user);
            let client = Client::new(name, Behaviour::STAYS.at(home), patterns, clients, cluster.random.fork());
            harness.tasks.spawn(client.with_contention(contention.clone()).run());
        }
    }
    // No client leaves until the last pair is connected.
    harness.is_calm.send_replace(true);
    harness.until_all_active().await?;
    harness.is_calm.send_replace(false);
    begin.send_replace(true);
    let replaced_count = || replaced.load(Ordering::Relaxed);
    wait(REPLACED_TIME_MAX, || replaced_count() >= PAIRS).await;
    sleep(SETTLED).await;
    let replaced_count = replaced_count();
    if replaced_count < PAIRS {
        cluster
            .ownership
            .breach("two_owners", format!("{} of {PAIRS} sessions stay on two sockets", PAIRS - replaced_count));
    } else if replaced_count > PAIRS {
        let detail = format!("{} of {PAIRS} pairs were both told that the other goes on", replaced_count - PAIRS);
        cluster.ownership.breach("turned_away", detail);
    }
    Ok(format!("{PAIRS} sessions were resumed from two sockets at once, {replaced_count} sockets were closed for it"))
}

/// A session of this user, with an id that a gateway made. The gateway would not accept any other id as the user's own.
async fn session(cluster: &Cluster, user: &str) -> Result<String, Failure> {
    let welcomed = async {
        let mut socket = dial(cluster.gateways.first()?.address, &token::sign(user)).await?;
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(text.as_str()).ok()?;
            if frame["type"] == "welcome" {
                return frame["payload"]["session_id"].as_str().map(str::to_owned);
            }
        }
        None
    };
    let session = timeout(WELCOME_TIME_MAX, welcomed).await;
    session.ok().flatten().ok_or_else(|| Failure::Late(format!("{user} is welcome")))
}
