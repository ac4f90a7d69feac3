//! The gateway: sockets in, sockets out.
//!
//! ```text
//!   in    TCP ─▶ edge ─▶ handshake ─▶ shard: reader ─▶ session ─▶ table ─▶ pump ─▶ router ─▶ broker ═▶ Redis
//!   out   TCP ◀─ socket ◀─ outbox ◀─ shard: table ◀─ pump, which encodes once ◀─ router ◀─ broker ◀═ Redis
//! ```
//!
//! The *edge* is one thread: it accepts connections, speaks HTTP, checks tokens, and hands each socket to the shard
//! with the fewest connections. A *shard* is a thread that owns its sockets from then to their end. The *pump* runs on
//! the thread of the first shard. A message passes one mailbox between the pump and a shard, whose mutex is held only
//! to add or to take items. No connection has a channel or a timer of its own.
//!
//! The three types that matter: [`Gateway`], a running instance; [`config::Config`], its configuration; and, inside,
//! `shard::table::Shard`, the pure table of connections and their subscriptions.
//!
//! ARCHITECTURE.md has the levels of these modules and the order in which to read them.
//!
//! This library does not call Redis itself: `message-router`, `connection-registry` and `records` do. The format of
//! frames is in `wire`.

#[cfg(test)]
mod simulation;

mod auth;
pub mod config;
mod dispatch;
mod health;
mod host;
mod http;
mod instance;
mod metrics;
mod protocol;
mod session;
mod shard;
mod transport;

use std::io::Write as _;

use host::signals::{Request, Signals};

pub use auth::issuer::{IssueError, Issuer, TokenRequest};
pub use auth::report::TokenReport;
pub use http::listeners::BindError;
#[doc(hidden)]
pub use http::record_json;
pub use instance::gateway::{Gateway, NeedsRestart, StartError};
#[doc(hidden)]
pub use transport::websocket::codec;

/// Runs one instance until SIGTERM, SIGINT, SIGQUIT or `tidegate drain`, then drains it. Another of these signals closes
/// the remaining clients at once.
/// SIGHUP calls `reload`, which reads the configuration again and passes it to [`Gateway::reload`].
///
/// # Errors
/// When it cannot start.
pub fn run(config: config::Config, reload: impl Fn(&Gateway)) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    runtime.block_on(async {
        // Before anything listens: a signal that arrives during the start must not end the process either.
        let mut signals = Signals::install().map_err(StartError::Signals)?;
        let (instance, page) = (config.instance.clone(), config.dev_page);
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let gateway = Gateway::start(config)?;
        tracing::info!(%instance, listen = %gateway.listen_addr(), admin = %gateway.admin_addr(), "gateway started");
        if page {
            // That nobody reads it is no reason to stop.
            let _ = writeln!(std::io::stdout(), "{scheme}://{}/", gateway.listen_addr());
        }
        tokio::select! {
            signal = stop_signal(&mut signals, || reload(&gateway)) => tracing::info!(signal, "stop signal received"),
            () = gateway.drain_requested() => {}
        }
        gateway
            .drain_until(async {
                let signal = stop_signal(&mut signals, || {
                    tracing::info!(signal = "SIGHUP", "signal ignored: the instance drains")
                })
                .await;
                tracing::warn!(signal, "second stop signal received: closing all clients at once");
            })
            .await;
        Ok(())
    })
}

/// Waits for a signal that stops the process, and handles all others. Returns its name.
async fn stop_signal(signals: &mut Signals, reload: impl Fn()) -> &'static str {
    loop {
        match signals.next().await {
            (name, Request::Stop) => return name,
            (_, Request::Reload) => reload(),
            (signal, Request::Nothing) => tracing::info!(signal, "signal ignored"),
        }
    }
}
