//! The CPU and memory of a process, read from `/proc` by its pid. Both sides of a comparison use the same meter.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use rustix::io::Errno;

use crate::failure::Failure;

/// The error of reading the `/proc` entry of a thread that ended after the entry was opened.
const ESRCH: i32 = Errno::SRCH.raw_os_error();

/// CPU of a process so far, user and system together, in nanoseconds as the scheduler counts them.
///
/// It is the sum of `/proc/<pid>/task/<tid>/schedstat` over its threads: the value that `getrusage` adds up, without
/// its rounding. The count of a running thread is updated at every timer tick, so a reading lags by at most one tick
/// per thread (4 ms at 250 Hz). Threads that have ended are not in the sum. No server measured here ends threads. On
/// loopback the sender's `write` also does the TCP work of the receiver, so this work is in the sum on both sides.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration, Failure> {
    let tasks = format!("/proc/{pid}/task");
    let mut total_ns = 0u64;
    for task in fs::read_dir(&tasks).map_err(Failure::io(&tasks))? {
        let path = task.map_err(Failure::io(&tasks))?.path().join("schedstat");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // The thread has ended since the directory was read.
            Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH) => continue,
            Err(error) => return Err(Failure::io(path.display().to_string())(error)),
        };
        let unreadable = || Failure::Unmeasurable(format!("{}: no CPU time in {text:?}", path.display()));
        total_ns += first_number(&text).ok_or_else(unreadable)?;
    }
    Ok(Duration::from_nanos(total_ns))
}

/// CPU time of the calling thread so far.
pub(crate) fn this_thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("CPU time is never negative")
}

/// CPU time that the whole machine was not idle, in steps of 10 ms. It shows what other processes do during a run.
pub(crate) fn machine_cpu() -> Result<Duration, Failure> {
    let text = fs::read_to_string("/proc/stat").map_err(Failure::io("/proc/stat"))?;
    let ticks = busy_ticks(&text).ok_or_else(|| Failure::Unmeasurable("/proc/stat has no cpu line".into()))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The sum of user, nice, system, irq, softirq and steal of `cpu user nice system idle iowait irq softirq steal …`.
fn busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
    (fields.len() >= 8).then(|| [0, 1, 2, 5, 6, 7].map(|at| fields[at]).iter().sum())
}

/// The memory of a process in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resident {
    /// The whole resident memory.
    pub(crate) rss: u64,
    /// The part in huge pages. A process has whole huge pages or none.
    pub(crate) huge: u64,
    /// The part without a file: what the process has allocated. The rest is the program itself.
    pub(crate) anonymous: u64,
}

/// Resident memory of a process, exact (`smaps_rollup`; `statm` lags by up to 64 pages per thread).
pub(crate) fn resident(pid: u32) -> Result<Resident, Failure> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(Failure::io(&path))?;
    let bytes_of = |name: &str| {
        let kib = text.lines().find_map(|line| line.strip_prefix(name)).and_then(first_number);
        kib.map(|kib| kib * 1024).ok_or_else(|| Failure::Unmeasurable(format!("{path} has no line {name}")))
    };
    Ok(Resident { rss: bytes_of("Rss:")?, huge: bytes_of("AnonHugePages:")?, anonymous: bytes_of("Anonymous:")? })
}

/// The slab caches that hold sockets. Others (dentries of files, inodes) change with all other activity of the machine.
const SOCKET_CACHES: [&str; 4] = ["TCP", "sock_inode_cache", "filp", "eventpoll_epi"];

/// Kernel memory of sockets on the whole machine, in bytes: objects in use times their size in [`SOCKET_CACHES`], plus
/// the pages of TCP's buffers (`/proc/net/sockstat`). `None` if the caches are not readable (they need root).
pub(crate) fn socket_kernel_bytes() -> Option<u64> {
    let slabs = fs::read_to_string("/proc/slabinfo").ok()?;
    let sockstat = fs::read_to_string("/proc/net/sockstat").ok()?;
    Some(slab_bytes(&slabs) + tcp_pages(&sockstat)? * rustix::param::page_size() as u64)
}

fn slab_bytes(slabinfo: &str) -> u64 {
    let bytes_of = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next()?;
        let objects: u64 = fields.next()?.parse().ok()?;
        let object_bytes: u64 = fields.nth(1)?.parse().ok()?;
        SOCKET_CACHES.contains(&name).then_some(objects * object_bytes)
    };
    slabinfo.lines().filter_map(bytes_of).sum()
}

fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let (_, pages) = line.split_once(" mem ")?;
    first_number(pages)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_of_sockets_are_added_up_and_others_are_not() {
        let text = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize> <objperslab>\n\
            TCPv6 7 26 2496 13 8 : tunables\nTCP 10 26 2368 13 8 : tunables\ndentry 81963 81963 192 21 1 :\n\
            filp 3 735 192 21 1 : tunables\n";
        assert_eq!(slab_bytes(text), 10 * 2368 + 3 * 192);
    }

    #[test]
    fn idling_and_waiting_are_not_busy() {
        let text = "cpu  1 20 300 4000 50000 600000 7000000 80000000 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ticks(text), Some(87_600_321));
        assert_eq!(busy_ticks("cpu  1 2 3\n"), None);
    }

    #[test]
    fn tcp_pages_are_read_by_name() {
        let text = "sockets: used 16\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 237\nUDP: inuse 0 mem 5\n";
        assert_eq!(tcp_pages(text), Some(237));
        assert_eq!(tcp_pages("TCP: inuse 1"), None);
    }

    #[test]
    fn this_process_has_used_cpu_and_memory() {
        let before = cpu_time(std::process::id()).expect("own /proc entry");
        assert!(resident(std::process::id()).expect("own /proc entry").rss > 64 * 1024);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        // Spins until the meter has advanced by more than its possible lag.
        while cpu_time(std::process::id()).expect("own /proc entry") < before + Duration::from_millis(8) {
            assert!(std::time::Instant::now() < deadline, "ten seconds of work and no CPU counted");
        }
    }
}
