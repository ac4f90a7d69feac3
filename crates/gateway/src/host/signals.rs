//! The signals of the process. By default most of them end a process at once: its clients would get no close frame, and
//! its records would not be written. Log rotation, `systemctl reload` and a closed terminal send such signals.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// To stop in order: orchestrators send SIGTERM, Ctrl-C sends SIGINT, nginx and Docker images use SIGQUIT.
    Stop,
    /// To read again what can change while the process runs.
    Reload,
    /// Nothing that this process does.
    Nothing,
}

/// The signals that are handled, those that stop first.
const HANDLED: [(&str, SignalKind, Request); 9] = [
    ("SIGTERM", SignalKind::terminate(), Request::Stop),
    ("SIGINT", SignalKind::interrupt(), Request::Stop),
    ("SIGQUIT", SignalKind::quit(), Request::Stop),
    ("SIGHUP", SignalKind::hangup(), Request::Reload),
    ("SIGUSR1", SignalKind::user_defined1(), Request::Nothing),
    ("SIGUSR2", SignalKind::user_defined2(), Request::Nothing),
    ("SIGALRM", SignalKind::alarm(), Request::Nothing),
    ("SIGIO", SignalKind::io(), Request::Nothing),
    ("SIGPIPE", SignalKind::pipe(), Request::Nothing),
];

/// The handlers. Once they are installed, none of the signals ends the process.
#[derive(Debug)]
pub(crate) struct Signals {
    handlers: Vec<(&'static str, Request, Signal)>,
}

impl Signals {
    /// Installs the handlers. Runs on the runtime that then waits for signals.
    pub(crate) fn install() -> io::Result<Self> {
        let handlers = HANDLED.iter().map(|(name, kind, request)| Ok((*name, *request, signal(*kind)?)));
        Ok(Self { handlers: handlers.collect::<io::Result<_>>()? })
    }

    /// Waits for the next signal: its name and what it asks for. It can be dropped and called again.
    pub(crate) async fn next(&mut self) -> (&'static str, Request) {
        poll_fn(|context| {
            for (name, request, signal) in &mut self.handlers {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready((*name, *request));
                }
            }
            Poll::Pending
        })
        .await
    }
}
