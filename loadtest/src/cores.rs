//! The core that the server under test uses alone, and the cores that the rest of the bench shares.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::failure::Failure;

/// A division of the cores that this process may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cores {
    /// The core of the server. Nothing else of the bench runs there.
    pub(crate) server: usize,
    /// The cores that Redis, the publisher and the receivers share.
    pub(crate) clients: Vec<usize>,
}

impl Cores {
    /// Divides the cores that this process may use: the last one for the server, all others for the clients.
    pub(crate) fn divide() -> Result<Self, Failure> {
        let allowed = sched_getaffinity(None).map_err(Failure::io("sched_getaffinity"))?;
        let mut clients: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
        let server = clients.pop().filter(|_| !clients.is_empty());
        let too_few = || Failure::Unmeasurable("the server needs a core of its own, and there is only one".into());
        server.map(|server| Self { server, clients }).ok_or_else(too_few)
    }
}

/// Pins the calling thread, and every thread and process that it starts later, to `cores`.
pub(crate) fn pin_this_thread(cores: &[usize]) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).map_err(Failure::io(format!("sched_setaffinity to cores {cores:?}")))
}
