//! The code between Redis and the shards: the pump, dead letters and the presence service.

pub(crate) mod dead_letters;
pub(crate) mod presence;
pub(crate) mod pump;
