//! The baselines that the gateway is compared with: processes that do only the unavoidable part of its work.
//!
//! ```text
//!   bench ── "frame HEX", "go TICKS INTERVAL_US" ─▶ stdin ┌──────────┐ ── the same bytes ─▶ as many sockets
//!         ◀─ "port N", "ready", "done WRITES" ─── stdout └──────────┘
//! ```
//!
//! The write loop ([`write_loop`]) is told when to write. The relay ([`relay`]) writes whenever Redis sends a message.
//! They have no queue, make no decision and read no message: their CPU is the minimum for any server that writes to
//! sockets.

mod relay;
mod write_loop;

pub(crate) use relay::serve as serve_relay;
pub(crate) use write_loop::serve as serve_write_loop;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use test_support::Process;

use crate::failure::Failure;
use crate::process::{Pipes, start_self};

/// The command of this binary that [`serve_write_loop`] executes.
pub(crate) const WRITE_LOOP: &str = "write-loop";
/// The command of this binary that [`serve_relay`] executes.
pub(crate) const RELAY: &str = "relay";

/// The bench's side of a baseline: starts the process and sends it commands.
#[derive(Debug)]
pub(crate) struct Baseline {
    pub(crate) process: Process,
    stdin: std::process::ChildStdin,
    stdout: BufReader<std::process::ChildStdout>,
    /// The address to which the receivers connect.
    pub(crate) addr: SocketAddr,
}

impl Baseline {
    /// Starts a write loop for `sockets` receivers, on the core that the gateway uses when it is measured.
    pub(crate) fn write_loop(core: usize, sockets: usize) -> Result<Self, Failure> {
        Self::start("the write loop", core, &[WRITE_LOOP, "--sockets", &sockets.to_string()])
    }

    /// Starts a relay. It writes the messages that are published in the scope `{stem}{n:05}` to its `n`th socket.
    pub(crate) fn relay(core: usize, sockets: usize, redis: SocketAddr, stem: &str) -> Result<Self, Failure> {
        let (sockets, redis) = (sockets.to_string(), redis.to_string());
        Self::start("the relay", core, &[RELAY, "--sockets", &sockets, "--redis", &redis, "--stem", stem])
    }

    fn start(name: &str, core: usize, args: &[&str]) -> Result<Self, Failure> {
        let (process, Pipes { stdin, stdout }) = start_self(name, &[core], args)?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut baseline = Self { process, stdin, stdout: BufReader::new(stdout), addr };
        let port = baseline.receive("port")?;
        baseline.addr.set_port(u16::try_from(port).map_err(|_| baseline.process.error("named no port"))?);
        Ok(baseline)
    }

    /// Waits until the baseline has accepted all its receivers.
    pub(crate) fn await_ready(&mut self) -> Result<(), Failure> {
        self.receive("ready").map(drop)
    }

    /// Sends the frame that the write loop has to write.
    pub(crate) fn show(&mut self, frame: &[u8]) -> Result<(), Failure> {
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(self.stdin, "frame {hex}").map_err(Failure::io("telling the baseline"))
    }

    /// Makes the write loop write to every socket `ticks` times. Returns at once.
    pub(crate) fn begin(&mut self, ticks: u64, interval: Duration) -> Result<(), Failure> {
        writeln!(self.stdin, "go {ticks} {}", interval.as_micros()).map_err(Failure::io("telling the baseline"))
    }

    /// Waits until the write loop has finished. Returns its number of `write` calls.
    pub(crate) fn await_done(&mut self) -> Result<u64, Failure> {
        self.receive("done")
    }

    /// Reads one line, `word` or `word NUMBER`.
    fn receive(&mut self, word: &str) -> Result<u64, Failure> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).map_err(Failure::io("hearing the baseline"))?;
        match line.trim_end().split_once(' ').unwrap_or((line.trim_end(), "0")) {
            (reply_word, number) if reply_word == word => {
                number.parse().map_err(|_| self.process.error("said no number").into())
            }
            _ => Err(self.process.error(format!("said {line:?} instead of {word}")).into()),
        }
    }
}

/// Listens, prints the port, and accepts `sockets` receivers.
fn accept_all(sockets: usize) -> Result<Vec<TcpStream>, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Failure::io("bind"))?;
    println!("port {}", listener.local_addr().map_err(Failure::io("bind"))?.port());
    let one = || {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    std::iter::repeat_with(one).take(sockets).collect::<std::io::Result<_>>().map_err(Failure::io("accept"))
}

/// Writes a whole frame, or fails, because a baseline has no queue.
fn write_frame(mut receiver: &TcpStream, frame: &[u8]) -> Result<(), Failure> {
    match receiver.write(frame).map_err(Failure::io("write"))? {
        written if written == frame.len() => Ok(()),
        _ => Err(Failure::Unmeasurable("a socket took only part of a frame: its receiver is stuck".into())),
    }
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
