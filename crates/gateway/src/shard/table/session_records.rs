//! PURE. Records of sessions that have ended here and have not been taken to the registry yet.

use connection_registry::ClosedSessionRecord;

use crate::shard::members::Slot;

#[derive(Debug, Default)]
pub(super) struct SessionRecords {
    ended: Vec<(Slot, ClosedSessionRecord)>,
}

impl SessionRecords {
    pub(super) fn add(&mut self, slot: Slot, record: ClosedSessionRecord) {
        self.ended.push((slot, record));
    }

    pub(super) fn take(&mut self) -> Vec<(Slot, ClosedSessionRecord)> {
        std::mem::take(&mut self.ended)
    }
}
