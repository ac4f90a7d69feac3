//! The changes of one call, as Redis sends them to replicas: all of a call or none.

use bytes::Bytes;
use wire::Position;

use crate::keys::{Ids, Key, Keys, Meta};
use crate::stream::{Entry, Trim};

/// One change that is replicated.
#[derive(Debug, Clone)]
pub(crate) enum ReplicatedChange {
    /// Writes to the keys of one scope, in order.
    Scope(Box<str>, Vec<Write>),
    /// All keys are erased.
    EraseAll,
    /// A published message. Replication carries it to the subscribers of replicas too.
    Publish(Box<str>, Bytes),
}

/// One write command of a function.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    /// Begins a generation: replication id, generation, offset and list of earlier generations; the marks and the
    /// window of ids stay.
    Begin(Meta),
    /// Marks that an earlier generation has lost messages.
    Tear(u64),
    /// XADD, and how it trims the stream.
    Add { entry: Entry, trim: Option<Trim> },
    /// Sets the newest offset.
    Offset(u64),
    /// Sets the marks and the time of the next upkeep.
    Upkeep { due_ms: u64, marks: Vec<(u64, Position)> },
    /// XTRIM MINID: drops the entries below the position.
    DropBelow(Position),
    /// PEXPIRE of the stream: the time of expiry in ms.
    ExpireStream(u64),
    /// PEXPIRE of the metadata: the time of expiry in ms.
    ExpireMeta(u64),
    /// Adds publish ids to the hash of even (0) or odd (1) windows.
    KeepIds(usize, Ids),
    /// PEXPIREAT of a hash of ids: which one, and the time of expiry in ms.
    ExpireIds(usize, u64),
    /// Sets the newest window with ids.
    IdsWindow(u64),
    /// A hash of ids has expired.
    EraseIds(usize),
    /// The stream has expired or was erased.
    EraseStream,
    /// The metadata has expired or was erased.
    EraseMeta,
}

impl Write {
    /// Carries out the write. Returns false if Redis would refuse it.
    pub(crate) fn apply(&self, keys: &mut Keys, leaf_entries_max: usize) -> bool {
        match self {
            Self::Begin(begun) => match &mut keys.meta {
                Some(meta) => {
                    let ids_window = meta.value.ids_window;
                    let marks = std::mem::take(&mut meta.value.marks);
                    meta.value = Meta { marks, ids_window, ..begun.clone() };
                }
                None => keys.meta = Some(Key { value: begun.clone(), expires_ms: None }),
            },
            Self::Add { entry, trim } => {
                let stream = keys.stream.get_or_insert_with(|| Key { value: Default::default(), expires_ms: None });
                if !stream.value.add(entry.clone(), leaf_entries_max) {
                    return false;
                }
                if let Some(trim) = trim {
                    trim.apply(&mut stream.value);
                }
            }
            Self::Tear(generation) => {
                if let Some(meta) = &mut keys.meta {
                    meta.value.torn.push(*generation);
                }
            }
            Self::Offset(offset) => {
                if let Some(meta) = &mut keys.meta {
                    meta.value.offset = *offset;
                }
            }
            Self::Upkeep { due_ms, marks } => {
                if let Some(meta) = &mut keys.meta {
                    meta.value.due_ms = Some(*due_ms);
                    meta.value.marks.clone_from(marks);
                }
            }
            Self::DropBelow(position) => {
                if let Some(stream) = &mut keys.stream {
                    stream.value.drop_below(*position);
                }
            }
            Self::ExpireStream(at_ms) => {
                if let Some(stream) = &mut keys.stream {
                    stream.expires_ms = Some(*at_ms);
                }
            }
            Self::ExpireMeta(at_ms) => {
                if let Some(meta) = &mut keys.meta {
                    meta.expires_ms = Some(*at_ms);
                }
            }
            Self::KeepIds(parity, ids) => {
                let kept = keys.ids[*parity].get_or_insert_with(|| Key { value: Ids::new(), expires_ms: None });
                kept.value.extend(ids.clone());
            }
            Self::ExpireIds(parity, at_ms) => {
                if let Some(ids) = &mut keys.ids[*parity] {
                    ids.expires_ms = Some(*at_ms);
                }
            }
            Self::IdsWindow(window) => {
                if let Some(meta) = &mut keys.meta {
                    meta.value.ids_window = Some(*window);
                }
            }
            Self::EraseIds(parity) => keys.ids[*parity] = None,
            Self::EraseStream => keys.stream = None,
            Self::EraseMeta => keys.meta = None,
        }
        true
    }
}
