//! What the gateway is compared with: a process that does nothing but `write(2)` the same bytes to as many sockets.
//!
//! ```text
//!   bench ── "frame HEX", "go TICKS INTERVAL_US" ─▶ stdin ┌──────────┐ ── the frame, once per tick ─▶ 1,000 sockets
//!         ◀─ "port N", "ready", "done WRITES" ─── stdout └──────────┘
//! ```
//!
//! No event loop, no queue, no decision: its CPU per write is the price that nobody who writes to sockets can avoid.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::process::{Pipes, Process};

/// The command of this binary that [`serve`] answers.
pub(crate) const COMMAND: &str = "baseline-write";

/// The bench's end: starts the process and tells it what to do.
#[derive(Debug)]
pub(crate) struct Baseline {
    pub(crate) process: Process,
    stdin: std::process::ChildStdin,
    stdout: BufReader<std::process::ChildStdout>,
    /// Where the receivers connect.
    pub(crate) addr: SocketAddr,
}

impl Baseline {
    /// Starts the loop for `sockets` receivers, on the core that the gateway has in its turn.
    pub(crate) fn start(core: usize, sockets: usize) -> Result<Self, Failure> {
        let args = [COMMAND, "--sockets", &sockets.to_string()];
        let (process, Pipes { stdin, stdout }) = Process::start_self("the write loop", &[core], &args)?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut baseline = Self { process, stdin, stdout: BufReader::new(stdout), addr };
        let port = baseline.hear("port")?;
        baseline.addr.set_port(u16::try_from(port).map_err(|_| baseline.process.failure("named no port"))?);
        Ok(baseline)
    }

    /// Waits until it has accepted all its receivers.
    pub(crate) fn await_ready(&mut self) -> Result<(), Failure> {
        self.hear("ready").map(drop)
    }

    /// Lets it write `frame` to every socket `ticks` times, and returns at once.
    pub(crate) fn begin(&mut self, frame: &[u8], ticks: u64, interval: Duration) -> Result<(), Failure> {
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(self.stdin, "frame {hex}\ngo {ticks} {}", interval.as_micros()).map_err(Failure::io("the write loop"))
    }

    /// Waits until it is through, and says how often it called `write`.
    pub(crate) fn await_done(&mut self) -> Result<u64, Failure> {
        self.hear("done")
    }

    /// Reads one line, `word` or `word NUMBER`.
    fn hear(&mut self, word: &str) -> Result<u64, Failure> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).map_err(Failure::io("the write loop"))?;
        match line.trim_end().split_once(' ').unwrap_or((line.trim_end(), "0")) {
            (said, number) if said == word => number.parse().map_err(|_| self.process.failure("said no number")),
            _ => Err(self.process.failure(format!("said {line:?} instead of {word}"))),
        }
    }
}

/// What the process itself runs, until its stdin ends.
pub(crate) fn serve(sockets: usize) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Failure::io("bind"))?;
    println!("port {}", listener.local_addr().map_err(Failure::io("bind"))?.port());
    let receivers = accept(&listener, sockets).map_err(Failure::io("accept"))?;
    println!("ready");
    let mut frame = Vec::new();
    for line in std::io::stdin().lines() {
        let line = line.map_err(Failure::io("stdin"))?;
        let misread = || Failure::Unmeasurable(format!("the write loop does not understand {line:?}"));
        match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            ["frame", hex] => frame = from_hex(hex).ok_or_else(misread)?,
            ["go", ticks, interval_us] => {
                let ticks = ticks.parse().map_err(|_| misread())?;
                let interval = Duration::from_micros(interval_us.parse().map_err(|_| misread())?);
                println!("done {}", write_ticks(&receivers, &frame, ticks, interval)?);
            }
            _ => return Err(misread()),
        }
    }
    Ok(())
}

fn accept(listener: &TcpListener, sockets: usize) -> std::io::Result<Vec<TcpStream>> {
    let one = || {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    std::iter::repeat_with(one).take(sockets).collect()
}

fn write_ticks(receivers: &[TcpStream], frame: &[u8], ticks: u64, interval: Duration) -> Result<u64, Failure> {
    let start = Instant::now();
    let mut writes = 0;
    for tick in 0..ticks {
        let due = start + interval * u32::try_from(tick).expect("a window has far fewer than 2^32 ticks");
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for mut receiver in receivers {
            let written = receiver.write(frame).map_err(Failure::io("write"))?;
            if written != frame.len() {
                return Err(Failure::Unmeasurable("a socket took only part of a frame: its receiver is stuck".into()));
            }
            writes += 1;
        }
    }
    Ok(writes)
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
