//! What the process gets from its machine: clocks, memory, descriptors, and queues between threads.

pub(crate) mod allocator;
pub(crate) mod clock;
pub(crate) mod descriptors;
pub(crate) mod mailbox;
pub(crate) mod rate;
