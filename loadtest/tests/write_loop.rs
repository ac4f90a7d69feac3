//! The write loop does what its figure claims: every socket gets the bytes it was given, once per tick.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use test_support::Process;

#[test]
fn every_socket_gets_every_tick() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["write-loop", "--sockets", "3"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::start("the write loop", &mut command).expect("the binary runs");
    let mut stdin = process.child.stdin.take().expect("a pipe");
    let mut lines = BufReader::new(process.child.stdout.take().expect("a pipe")).lines();
    let mut receive = || lines.next().expect("another line").expect("UTF-8");

    let port: u16 = receive().strip_prefix("port ").and_then(|port| port.parse().ok()).expect("a port");
    let connect = |_| {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket option");
        socket
    };
    let sockets: Vec<TcpStream> = (0..3).map(connect).collect();
    assert_eq!(receive(), "ready");

    writeln!(stdin, "frame 81026869\ngo 4 1000").expect("it listens to stdin");
    assert_eq!(receive(), "done 12");
    for mut socket in &sockets {
        let mut bytes = [0; 16];
        socket.read_exact(&mut bytes).expect("four frames of four bytes");
        assert_eq!(bytes, *b"\x81\x02hi\x81\x02hi\x81\x02hi\x81\x02hi");
    }
    drop(stdin);
    assert!(process.child.wait().expect("it ends with its stdin").success());
    for mut socket in sockets {
        assert_eq!(socket.read(&mut [0; 1]).expect("end of stream"), 0, "nothing else was written");
    }
}
