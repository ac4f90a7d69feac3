//! One window of a measurement: the CPU time of each participant between its begin and its end.

use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::usage::{cpu_time, machine_cpu, this_thread_cpu};

/// Figures are valid if other processes use at most this many cores.
pub(crate) const FOREIGN_CORES_MAX: f64 = 0.1;

/// A window whose measurement has begun and not ended.
#[derive(Debug)]
pub(crate) struct Window {
    server: u32,
    /// The process id of Redis, if it takes part.
    redis: Option<u32>,
    begun: Instant,
    server_cpu: Duration,
    client_cpu: Duration,
    machine_cpu: Duration,
}

/// The CPU time and the duration of a closed window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) wall: Duration,
    pub(crate) server_cpu: Duration,
    /// CPU time of receivers, publisher and Redis.
    pub(crate) client_cpu: Duration,
    /// CPU time of the rest of the machine.
    pub(crate) foreign_cpu: Duration,
}

impl Window {
    /// Begins to count, for these processes and the calling thread.
    pub(crate) fn open(server: u32, redis: Option<u32>) -> Result<Self, Failure> {
        Ok(Self {
            server,
            redis,
            begun: Instant::now(),
            server_cpu: cpu_time(server)?,
            client_cpu: client_cpu(redis)?,
            machine_cpu: machine_cpu()?,
        })
    }

    /// Ends the window. `publisher_cpu` is the CPU time of the publishing thread, which has ended by now.
    pub(crate) fn close(self, publisher_cpu: Duration) -> Result<Spent, Failure> {
        let wall = self.begun.elapsed();
        let server_cpu = cpu_time(self.server)?.saturating_sub(self.server_cpu);
        let client_cpu = (client_cpu(self.redis)? + publisher_cpu).saturating_sub(self.client_cpu);
        let machine_cpu = machine_cpu()?.saturating_sub(self.machine_cpu);
        Ok(Spent { wall, server_cpu, client_cpu, foreign_cpu: machine_cpu.saturating_sub(server_cpu + client_cpu) })
    }
}

fn client_cpu(redis: Option<u32>) -> Result<Duration, Failure> {
    let redis = redis.map_or(Ok(Duration::ZERO), cpu_time)?;
    Ok(this_thread_cpu() + redis)
}

impl Spent {
    /// CPU time of the server in microseconds per unit, for `count` units.
    pub(crate) fn server_us_per(&self, count: u64) -> f64 {
        self.server_cpu.as_secs_f64() * 1e6 / count as f64
    }

    /// The share of its core that the server used.
    pub(crate) fn server_share(&self) -> f64 {
        self.server_cpu.as_secs_f64() / self.wall.as_secs_f64()
    }

    /// The average number of cores that receivers, publisher and Redis used.
    pub(crate) fn client_cores(&self) -> f64 {
        self.client_cpu.as_secs_f64() / self.wall.as_secs_f64()
    }

    /// The average number of cores that other processes used.
    pub(crate) fn foreign_cores(&self) -> f64 {
        self.foreign_cpu.as_secs_f64() / self.wall.as_secs_f64()
    }

    /// Whether other processes used so little CPU that the window is valid.
    pub(crate) fn is_quiet(&self) -> bool {
        self.foreign_cores() <= FOREIGN_CORES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_wall() {
        let (wall, server_cpu) = (Duration::from_secs(4), Duration::from_secs(1));
        let spent = Spent { wall, server_cpu, client_cpu: server_cpu * 2, foreign_cpu: server_cpu / 2 };
        assert_eq!((spent.server_share(), spent.client_cores(), spent.foreign_cores()), (0.25, 0.5, 0.125));
        assert_eq!(spent.server_us_per(1_000_000), 1.0);
        assert!(!spent.is_quiet());
    }
}
