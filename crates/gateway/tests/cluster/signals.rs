//! What a process does with the signals that it gets: nobody whom it serves ends without a close frame.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use test_support::process::tidegate;
use test_support::{Process, ReservedPort, token};
use tokio::net::TcpStream;

use crate::client::DEADLINE;
use crate::raw::Raw;

const PING: u8 = 0x9;
const PONG: u8 = 0xA;
/// Service restart: the client comes back to another instance.
const RESTART: u16 = 1012;

/// A gateway with its log.
struct Logged {
    process: Process,
    listen: SocketAddr,
    admin: SocketAddr,
    lines: Receiver<String>,
    _ports: [ReservedPort; 2],
}

impl Logged {
    fn start(settings: &[&str]) -> Self {
        let ports = [ReservedPort::take(), ReservedPort::take()].map(|port| port.expect("loopback has a free port"));
        let [listen, admin] = ports.each_ref().map(ReservedPort::address);
        let mut command = tidegate(env!("CARGO_BIN_EXE_tidegate"));
        let keys = format!("auth.keys={}", token::keys());
        for setting in settings.iter().copied().chain([&*keys, "broker=memory"]) {
            command.args(["--set", setting]);
        }
        command.args(["--listen", &listen.to_string(), "--admin-listen", &admin.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::start("a gateway", &mut command).expect("the binary was built for this test");
        let (sender, lines) = channel();
        let log = BufReader::new(process.child.stderr.take().expect("it is piped"));
        std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let logged = Self { process, listen, admin, lines, _ports: ports };
        logged.logs("gateway started");
        logged
    }

    /// Waits for a line of the log.
    fn logs(&self, text: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("the log has no {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// A client that has no token yet.
    async fn client(&self) -> Option<Raw> {
        Raw::open(TcpStream::connect(self.listen).await.expect("it listens"), "").await
    }

    fn status_of(&self, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(self.admin).expect("the admin port listens");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.get(9..12).unwrap_or_default().to_owned()
    }

    fn ends(&mut self) {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.process.status().unwrap() {
                return assert!(status.success(), "{status}");
            }
            assert!(Instant::now() < until, "the process does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The connection lives: a ping is answered, and nothing comes before the answer.
async fn is_served(client: &mut Raw) {
    client.send(PING, b"?").await;
    let frame = client.frame().await.expect("the connection lives");
    assert_eq!((frame.opcode, &*frame.payload), (PONG, &b"?"[..]));
}

#[tokio::test]
async fn signals_of_log_rotation_and_terminals_end_nobody() {
    let gateway = Logged::start(&[]);
    let mut client = gateway.client().await.expect("it is taken");
    for name in ["HUP", "USR1", "USR2", "ALRM", "IO", "PIPE", "HUP"] {
        gateway.process.signal(&format!("-{name}")).unwrap();
        if name == "HUP" {
            gateway.logs("configuration reloaded");
        } else {
            let line = gateway.logs("signal ignored");
            assert!(line.contains(&format!("SIG{name}\"")), "{line}");
        }
        is_served(&mut client).await;
    }
    assert_eq!(gateway.status_of("/readyz"), "200");
    is_served(&mut gateway.client().await.expect("and others too")).await;
}

#[tokio::test]
async fn a_signal_to_stop_closes_every_client_in_order() {
    for name in ["TERM", "INT", "QUIT"] {
        let mut gateway = Logged::start(&[]);
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(gateway.client().await.expect("it is taken"));
        }
        gateway.process.signal(&format!("-{name}")).unwrap();
        for client in &mut clients {
            assert_eq!(client.close().await, RESTART, "SIG{name}");
        }
        drop(clients);
        gateway.logs("drain finished");
        gateway.ends();
    }
}

/// Kubernetes and some balancers send clients for seconds after an instance has been told to stop.
#[tokio::test]
async fn an_instance_that_is_not_ready_takes_clients_until_its_delay_is_over() {
    let mut gateway = Logged::start(&["drain.delay_ms=1500"]);
    let mut early = gateway.client().await.expect("it is taken");
    let began = Instant::now();
    gateway.process.signal("-TERM").unwrap();
    gateway.logs("drain announced");
    assert_eq!(gateway.status_of("/readyz"), "503");
    assert_eq!(gateway.status_of("/livez"), "200");
    let mut late = gateway.client().await.expect("it takes clients until the delay is over");
    is_served(&mut early).await;
    is_served(&mut late).await;
    assert!(began.elapsed() < Duration::from_millis(1_500), "the machine is too slow for this test");
    assert_eq!([early.close().await, late.close().await], [RESTART; 2]);
    assert!(began.elapsed() >= Duration::from_millis(1_500), "not before the delay was over");
    assert!(gateway.client().await.is_none(), "now it refuses");
    drop((early, late));
    gateway.ends();
}

#[tokio::test]
async fn a_second_signal_hurries_and_still_closes_in_order() {
    let mut gateway = Logged::start(&["drain.delay_ms=600000"]);
    let mut client = gateway.client().await.expect("it is taken");
    gateway.process.signal("-TERM").unwrap();
    gateway.logs("drain announced");
    gateway.process.signal("-HUP").unwrap();
    gateway.logs("signal ignored");
    is_served(&mut client).await;
    let began = Instant::now();
    gateway.process.signal("-INT").unwrap();
    gateway.logs("second stop signal received");
    assert_eq!(client.close().await, RESTART);
    // It answers nothing, and is not waited for.
    gateway.ends();
    assert!(began.elapsed() < DEADLINE / 2, "{:?}", began.elapsed());
}
