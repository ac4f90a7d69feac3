//! The agent check of HAProxy: each connection is answered with one line, a weight.
//!
//! The line has only a weight, and `up` to end a `down` of an earlier check. It is never `down`: with `on-marked-down
//! shutdown-sessions`, HAProxy would close every socket of every instance when Redis goes away. It is never `drain`,
//! `maint` or `ready`: these set the administrative state, which operators control with `set server`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::health::Health;
use crate::http::accept_backoff::accept_backoff;

/// A line fits into any empty socket buffer, so this timeout is reached only if the peer is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers connections until dropped.
pub(crate) async fn run(listener: TcpListener, health: Arc<Health>) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Some(line) = health.instance_state(Instant::now()).agent_line() {
                    // A checker that has closed the connection needs no answer.
                    let _ = tokio::time::timeout(WRITE_TIMEOUT, send_line(stream, line)).await;
                }
            }
            Err(error) => {
                if let Some(pause) = accept_backoff(&error) {
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

async fn send_line(mut stream: TcpStream, line: &'static str) -> std::io::Result<()> {
    stream.write_all(line.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use connection_registry::{LeaseState, Token};
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::health::instance_state::Phase;
    use crate::health::watchdog::{FROZEN_AFTER, Loop, Watchdog};

    async fn ask(address: std::net::SocketAddr) -> String {
        let mut sent = String::new();
        TcpStream::connect(address).await.unwrap().read_to_string(&mut sent).await.unwrap();
        sent
    }

    #[tokio::test]
    async fn one_line_for_each_connection() {
        let health = Arc::new(Health::new(Watchdog::new(1, FROZEN_AFTER, Instant::now())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let agent = tokio::spawn(run(listener, health.clone()));
        assert_eq!(ask(address).await, "up 0%\n");
        health.advance(Phase::Running);
        assert_eq!(ask(address).await, "up 0%\n", "no broker yet");
        health.broker_is_down("wrong password");
        assert_eq!(ask(address).await, "up 0%\n", "not ready");
        health.broker_is_up();
        health.set_lease(&LeaseState::Held { token: Token::from_store("a"), deadline: None, end: None });
        assert_eq!(ask(address).await, "up 100%\n");
        health.broker_is_down("gone");
        assert_eq!(ask(address).await, "up 1%\n", "ready still");
        health.advance(Phase::Draining);
        assert_eq!(ask(address).await, "up 0%\n");
        agent.abort();
    }

    #[test]
    fn a_stuck_shard_says_nothing() {
        let begun = Instant::now();
        let health = Health::new(Watchdog::new(1, FROZEN_AFTER, begun));
        health.watchdog().report(Loop::Shard(0), begun, begun);
        assert!(health.instance_state(begun).agent_line().is_some());
        assert_eq!(health.instance_state(begun + FROZEN_AFTER + Duration::from_millis(1)).agent_line(), None);
    }
}
