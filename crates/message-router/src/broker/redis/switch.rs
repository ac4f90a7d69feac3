//! Listening for the Sentinels' word that another server is the primary now.
//!
//! It only saves time: a link to a demoted primary is found out by its probe, within three intervals. So a Sentinel
//! that goes away is left for the next one, without haste and without a word.

use std::time::Duration;

use redis_topology::{Node, Sentinels};
use tokio::time::{sleep, timeout};

use super::link::Cut;
use super::resp::Heard;
use super::subscriber::{Subscriber, SubscriberError, connect};

/// Between two Sentinels.
const PAUSE: Duration = Duration::from_secs(1);
/// For a Sentinel to take the subscription.
const SUBSCRIBE_DEADLINE: Duration = Duration::from_secs(2);
const CHANNEL: &str = "+switch-master";

/// Ends when a Sentinel has said it.
pub(super) async fn watch_switch(sentinels: Sentinels) -> Cut {
    for node in sentinels.nodes().iter().cycle() {
        match listen(node, &sentinels).await {
            Ok(node) => return Cut(format!("the Sentinels have made {node} the primary")),
            Err(error) => tracing::debug!(sentinel = %node, %error, "does not tell of failovers"),
        }
        sleep(PAUSE).await;
    }
    std::future::pending().await
}

/// Waits at one Sentinel; the new primary.
async fn listen(node: &Node, sentinels: &Sentinels) -> Result<String, SubscriberError> {
    let subscribe = async {
        let mut subscriber = Subscriber::new(connect((node.host.as_str(), node.port)).await?);
        let mut hello = vec!["HELLO", "3"];
        let settings = sentinels.settings();
        if let Some(password) = settings.password() {
            hello.extend(["AUTH", settings.username().unwrap_or("default"), password]);
        }
        for command in [&hello[..], &["SUBSCRIBE", CHANNEL]] {
            if let Heard::Refused(text) = subscriber.ask(command).await? {
                return Err(SubscriberError::Refused(text));
            }
        }
        Ok(subscriber)
    };
    let late = |_| SubscriberError::Io(std::io::ErrorKind::TimedOut.into());
    let mut subscriber = timeout(SUBSCRIBE_DEADLINE, subscribe).await.map_err(late)??;
    loop {
        // NAME OLD-HOST OLD-PORT HOST PORT
        if let Heard::Message { payload, .. } = subscriber.hear().await? {
            let words: Vec<_> = std::str::from_utf8(&payload).unwrap_or_default().split(' ').collect();
            if let [name, _, _, host, port] = words[..]
                && name == sentinels.master()
            {
                return Ok(format!("{host}:{port}"));
            }
        }
    }
}
