//! Listens to the Sentinels for a failover.
//!
//! Every Sentinel is listened to, because one that is cut off from the others may announce a failover late.
//! Announcements only save time: all Sentinels are also asked at intervals, and the probe ends a connection pair to a
//! demoted primary within three intervals. A Sentinel that does not answer is therefore retried slowly and without a
//! warning. `redis_topology` decides which announcement to believe.

use std::convert::Infallible;
use std::time::Duration;

use redis_topology::{Node, Sentinels};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection_pair::Disconnected;
use super::resp::{PushFrame, Value};
use super::subscriber::{Subscriber, SubscriberError};

/// Wait before a Sentinel is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest time for a Sentinel to accept the subscription.
const SUBSCRIBE_DEADLINE: Duration = Duration::from_secs(2);
/// Longest time for a Sentinel that has announced a failover to report its epoch.
const REPORT_DEADLINE: Duration = Duration::from_millis(200);
const CHANNEL: &str = "+switch-master";

/// Ends when a server other than `node` is the primary.
pub(super) async fn listen_for_failover(sentinels: Sentinels, node: Node) -> Disconnected {
    let mut listeners = JoinSet::new();
    for sentinel in sentinels.nodes() {
        listeners.spawn(listen_for_ever(sentinel.clone(), sentinels.clone()));
    }
    let primary = sentinels.replaced(&node).await;
    Disconnected(format!("the Sentinels have made {primary} the primary"))
}

async fn listen_for_ever(node: Node, sentinels: Sentinels) {
    loop {
        let Err(error) = listen(&node, &sentinels).await;
        tracing::debug!(sentinel = %node, %error, "Sentinel subscription failed");
        sleep(PAUSE).await;
    }
}

/// Passes on the announcements of one Sentinel.
async fn listen(node: &Node, sentinels: &Sentinels) -> Result<Infallible, SubscriberError> {
    let subscribe = async {
        let mut subscriber = Subscriber::new(sentinels.connect(node).await?);
        let mut hello = vec!["HELLO", "3"];
        let settings = sentinels.settings();
        if let Some(password) = settings.password() {
            hello.extend(["AUTH", settings.username().unwrap_or("default"), password]);
        }
        for command in [&hello[..], &["SUBSCRIBE", CHANNEL]] {
            if let PushFrame::Refused(text) = subscriber.ask(command).await? {
                return Err(SubscriberError::Refused(text));
            }
        }
        Ok(subscriber)
    };
    let late = |_| SubscriberError::Io(std::io::ErrorKind::TimedOut.into());
    let mut subscriber = timeout(SUBSCRIBE_DEADLINE, subscribe).await.map_err(late)??;
    loop {
        let PushFrame::Message { payload, .. } = subscriber.receive().await? else { continue };
        let Some(primary) = announced(&payload, sentinels.master()) else { continue };
        let report = timeout(REPORT_DEADLINE, report(&mut subscriber, sentinels.master())).await;
        match report.map_err(late).and_then(|report| report) {
            Ok(Some((primary, epoch))) => sentinels.reported(primary, epoch),
            Ok(None) => sentinels.announced(primary),
            Err(error) => {
                sentinels.announced(primary);
                return Err(error);
            }
        }
    }
}

/// Parses `NAME OLD-HOST OLD-PORT HOST PORT`.
fn announced(payload: &[u8], master: &str) -> Option<Node> {
    let words: Vec<_> = std::str::from_utf8(payload).ok()?.split(' ').collect();
    let [name, _, _, host, port] = words[..] else { return None };
    (name == master).then_some(Node { host: host.to_owned(), port: port.parse().ok()? })
}

/// Asks the Sentinel that has just announced a failover for the primary and its configuration epoch, on the same
/// connection: the answer belongs to that announcement or a later one. The epoch is read first, for the reason given
/// in `redis_topology`. Nothing if the Sentinel reports no epoch.
async fn report(subscriber: &mut Subscriber, master: &str) -> Result<Option<(Node, u64)>, SubscriberError> {
    let details = answer(subscriber, &["SENTINEL", "MASTER", master]).await?;
    let epoch = details.get("config-epoch").and_then(Value::as_text).and_then(|epoch| epoch.parse().ok());
    let address = answer(subscriber, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", master]).await?;
    let Value::List(address) = address else { return Ok(None) };
    let [Some(host), Some(port)] = [0, 1].map(|index| address.get(index).and_then(Value::as_text)) else {
        return Ok(None);
    };
    Ok(port.parse().ok().zip(epoch).map(|(port, epoch)| (Node { host: host.to_owned(), port }, epoch)))
}

/// The answer to a command. Announcements before it are skipped.
async fn answer(subscriber: &mut Subscriber, command: &[&str]) -> Result<Value, SubscriberError> {
    let mut received = subscriber.ask(command).await?;
    loop {
        match received {
            PushFrame::Refused(text) => return Err(SubscriberError::Refused(text)),
            PushFrame::Other(Value::Push(_)) => {}
            PushFrame::Other(answer) => return Ok(answer),
            PushFrame::Message { .. }
            | PushFrame::TooLong { .. }
            | PushFrame::Subscribed { .. }
            | PushFrame::Unsubscribed { .. } => {}
        }
        received = subscriber.receive().await?;
    }
}
