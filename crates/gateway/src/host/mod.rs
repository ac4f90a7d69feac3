//! The resources of the process: clocks, memory, file descriptors, and queues between threads.

pub(crate) mod allocator;
pub(crate) mod clock;
pub(crate) mod descriptors;
pub(crate) mod mailbox;
pub(crate) mod rate;
pub(crate) mod reloadable;
pub(crate) mod signals;
