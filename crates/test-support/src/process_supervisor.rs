//! Ends the children when this process ends, also when it is killed: in an order, and with SIGTERM first.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Reads `front PID`, `base PID` and `gone PID` until its input closes. After `kill -9` the kernel closes it. Then the
/// script ends the front (HAProxy, gateways), and after it the base (Redis). SIGKILL follows SIGTERM after 5 s. It also
/// ends a stopped process.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
front= base=
without() { for each in $1; do [ "$each" = "$2" ] || printf '%s ' "$each"; done; }
while read -r word pid; do
    case $word in
        front) front="$front $pid" ;;
        base) base="$base $pid" ;;
        gone) front=$(without "$front" "$pid"); base=$(without "$base" "$pid") ;;
    esac
done
alive() { for each; do kill -0 "$each" 2>/dev/null && return 0; done; return 1; }
await() { tries=$1; shift; while alive "$@" && [ $tries -gt 0 ]; do sleep 0.1; tries=$((tries - 1)); done; }
end() {
    [ $# -gt 0 ] || return 0
    kill -TERM "$@" 2>/dev/null
    await 50 "$@"
    kill -KILL "$@" 2>/dev/null
    await 10 "$@"
}
end $front
end $base
"#;

/// The order in which the processes are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOrder {
    /// The process is ended first.
    Front,
    /// The process is ended when every process of the front has ended.
    Base,
}

/// A shell that outlives this process by a moment. It has its own process group, so Ctrl-C does not reach it.
#[derive(Debug)]
pub struct ProcessSupervisor {
    shell: Child,
}

impl ProcessSupervisor {
    pub fn start() -> std::io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        Ok(Self { shell: command.spawn()? })
    }

    pub fn watch(&mut self, pid: u32, end_order: EndOrder) -> std::io::Result<()> {
        let word = if end_order == EndOrder::Front { "front" } else { "base" };
        self.send(word, pid)
    }

    /// Forgets a child that has ended, because another process may soon get its pid.
    pub fn forget(&mut self, pid: u32) -> std::io::Result<()> {
        self.send("gone", pid)
    }

    /// Begins to end every supervised process. The caller must wait for the children in the meantime, or they look
    /// alive.
    pub fn release(&mut self) {
        drop(self.shell.stdin.take());
    }

    /// Whether every supervised process has ended.
    pub fn is_done(&mut self) -> bool {
        !matches!(self.shell.try_wait(), Ok(None))
    }

    fn send(&mut self, word: &str, pid: u32) -> std::io::Result<()> {
        let stdin =
            self.shell.stdin.as_mut().ok_or_else(|| std::io::Error::other("the process supervisor was released"))?;
        writeln!(stdin, "{word} {pid}")
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").process_group(0).spawn().unwrap()
    }

    /// Waits for the process supervisor while reaping `children`. Returns the children that ended, in order.
    fn order_of_ends(supervisor: &mut ProcessSupervisor, children: &mut [Child]) -> Vec<usize> {
        let mut ended = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !supervisor.is_done() {
            assert!(Instant::now() < deadline, "the supervisor never ended");
            for (index, child) in children.iter_mut().enumerate() {
                if !ended.contains(&index) && child.try_wait().unwrap().is_some() {
                    ended.push(index);
                }
            }
            // The process supervisor needs the processor too.
            thread::sleep(Duration::from_millis(1));
        }
        ended
    }

    #[test]
    fn the_front_ends_before_the_base_even_when_it_is_stopped() {
        let mut children = [sleeper(), sleeper()];
        let mut supervisor = ProcessSupervisor::start().unwrap();
        supervisor.watch(children[0].id(), EndOrder::Base).unwrap();
        supervisor.watch(children[1].id(), EndOrder::Front).unwrap();
        let stopped = Command::new("kill").args(["-STOP", &children[1].id().to_string()]).status().unwrap();
        assert!(stopped.success());
        supervisor.release();
        assert_eq!(order_of_ends(&mut supervisor, &mut children), [1, 0]);
    }

    #[test]
    fn a_forgotten_child_is_left_alone() {
        let mut kept = sleeper();
        let mut supervisor = ProcessSupervisor::start().unwrap();
        supervisor.watch(kept.id(), EndOrder::Front).unwrap();
        supervisor.forget(kept.id()).unwrap();
        supervisor.release();
        order_of_ends(&mut supervisor, &mut []);
        assert!(kept.try_wait().unwrap().is_none());
        kept.kill().unwrap();
        kept.wait().unwrap();
    }
}
