//! One thread of a real process stops, and the process notices: probes get no answer until it turns again.
//!
//! SIGSTOP would stop all of them; the kernel's tracing stops one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::client::DEADLINE;
use crate::process::Process;

const FROZEN_AFTER: Duration = Duration::from_secs(2);

/// A thread that stands still until dropped, by the thread that stopped it.
struct Stopped(Pid);

impl Stopped {
    fn stop(process: u32, thread: &str) -> Self {
        let tasks = format!("/proc/{process}/task");
        let is_it = |task: &String| std::fs::read_to_string(format!("{tasks}/{task}/comm")).unwrap().trim() == thread;
        let names = std::fs::read_dir(&tasks).unwrap().map(|task| task.unwrap().file_name().into_string().unwrap());
        let task = names.into_iter().find(is_it).expect("a thread of that name");
        let id = Pid::from_raw(task.parse().unwrap());
        ptrace::seize(id, Options::empty()).expect("a process may trace its children");
        ptrace::interrupt(id).unwrap();
        waitpid(id, Some(WaitPidFlag::__WALL)).unwrap();
        let stat = std::fs::read_to_string(format!("{tasks}/{task}/stat")).unwrap();
        assert!(stat.rsplit(") ").next().unwrap().starts_with('t'), "the kernel has stopped it: {stat}");
        Self(id)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        ptrace::detach(self.0, None).unwrap();
    }
}

/// What a probe gets: a status line, or nothing. None when it got neither within a second.
fn livez(admin: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.lines().next().unwrap_or_default().to_owned())
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

const ALIVE: &str = "HTTP/1.1 200 OK";

#[test]
fn a_thread_that_stops_silences_the_probes_until_it_turns_again() {
    let millis = FROZEN_AFTER.as_millis();
    let process = Process::start(&["instance=frozen", "shards=3", &format!("watchdog.frozen_after_ms={millis}")], None);
    let alive = || livez(process.admin).as_deref() == Some(ALIVE);
    until("it lives", || process.is("connected") && alive());
    // The first one carries the pump as well.
    for (thread, frozen) in [("shard-1", "shard-1"), ("shard-0", "pump"), ("shard-0", "shard-0")] {
        let (stopped, begun) = loop {
            let (begun, stopped) = (Instant::now(), Stopped::stop(process.child.pid(), thread));
            // One that holds a lock would stop the edge too, which is another case.
            if livez(process.admin).is_some() {
                break (stopped, begun);
            }
        };
        until("the probes are silent", || livez(process.admin).as_deref() == Some(""));
        let took = begun.elapsed();
        assert!(took + Duration::from_millis(300) > FROZEN_AFTER, "not before its time: {took:?}");
        // The numbers are told all the same. On a busy machine another thread may have been late too.
        until("it says so", || process.is("frozen"));
        let lag = |name: &str| process.number(&format!("tidegate_loop_lag_seconds{{loop=\"{name}\"}}")).unwrap();
        until("it is the one that stopped", || lag(frozen) > 0.5 && lag("shard-2") < lag(frozen));
        drop(stopped);
        until("it lives again", alive);
        until("it says so", || process.is("connected"));
        assert!(lag(frozen) > 0.5, "the worst is remembered");
    }
    let stopped = Stopped::stop(process.child.pid(), "edge");
    assert_eq!(livez(process.admin), None, "who would answer is stuck itself");
    drop(stopped);
    until("it lives again", alive);
}
