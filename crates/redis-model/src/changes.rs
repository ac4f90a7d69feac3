//! What a call changes, as Redis hands it to replicas: all of a call or nothing.

use bytes::Bytes;
use wire::Position;

use crate::keys::{Ids, Key, Keys, Meta};
use crate::stream::Entry;

/// What one call changed.
#[derive(Debug, Clone)]
pub(crate) enum ReplicatedChange {
    /// The keys of one scope, step by step.
    Scope(Box<str>, Vec<Write>),
    /// Every key is gone.
    EraseAll,
    /// What subscribers hear. It reaches those of a replica too, by way of replication.
    Publish(Box<str>, Bytes),
}

/// One command of a function.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    /// A generation begins: replication id, generation, offset and list; the rest of the hash stays.
    Begin(Meta),
    /// An earlier generation is marked.
    Tear(u64),
    /// XADD, with about how many are to be kept.
    Add { entry: Entry, keep_about: Option<usize> },
    /// The newest offset.
    Offset(u64),
    /// Marks, and when upkeep is due next.
    Upkeep { due_ms: u64, marks: Vec<(u64, Position)> },
    /// XTRIM MINID.
    DropBelow(Position),
    /// PEXPIRE of the stream.
    ExpireStream(u64),
    /// PEXPIRE of the metadata.
    ExpireMeta(u64),
    /// Ids of messages, into the hash of even windows or that of odd ones.
    KeepIds(usize, Ids),
    /// PEXPIREAT of a hash of ids.
    ExpireIds(usize, u64),
    /// The newest window with ids.
    IdsWindow(u64),
    /// A hash of ids has gone.
    EraseIds(usize),
    /// The stream has gone.
    EraseStream,
    /// The metadata has gone.
    EraseMeta,
}

impl Write {
    /// Carries it out. False when Redis would refuse it.
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
            Self::Add { entry, keep_about } => {
                let stream = keys.stream.get_or_insert_with(|| Key { value: Default::default(), expires_ms: None });
                if !stream.value.add(entry.clone(), leaf_entries_max) {
                    return false;
                }
                if let Some(entries_max) = keep_about {
                    stream.value.keep_about(*entries_max);
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
