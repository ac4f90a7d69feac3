//! The function library as Redis runs it: the answer of each call, and its changes.

use bytes::Bytes;
use wire::{Envelope, Position, Timestamp};

use crate::changes::{ReplicatedChange, Write};
use crate::keys::{ID_WINDOW_MS, Ids, Keys, Meta, Retention, UNUSED_MS};
use crate::node::{Node, Role};
use crate::replication_id::ReplicationId;
use crate::stream::{Entry, Stream};

/// Most earlier generations that the metadata lists.
const EARLIER_MAX: usize = 16;
/// An answer has at most this many bytes of messages and one message more.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A call to a node.
#[derive(Debug, Clone)]
pub enum Call {
    /// `tidegate_publish`: stores and publishes messages.
    Publish(Vec<Draft>),
    /// `tidegate_publish_once`: a message with a known id is neither stored nor published.
    PublishOnce(Vec<Draft>),
    /// `tidegate_read`: reads, and does not begin a scope.
    Read {
        /// Returns the entries after this position; without one, no entries.
        after: Option<Position>,
        /// Most entries in the answer.
        entries_max: usize,
    },
    /// `tidegate_open`: reads, and begins the scope if necessary.
    Open {
        /// The same as for reading.
        after: Option<Position>,
        /// The same as for reading.
        entries_max: usize,
    },
    /// `tidegate_lost`: the message at this position was delivered and is lost.
    Lost(Position),
    /// `tidegate_probe`: refused wherever a publish is refused, except for lack of memory.
    Probe,
}

/// One message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Topic within the scope.
    pub topic: Box<str>,
    /// The message as bytes.
    pub message: Bytes,
    /// The publisher's id of the message. Only [`Call::PublishOnce`] uses it.
    pub id: Option<Box<str>>,
}

/// The answer of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionReply {
    /// Position of the last message.
    Stored(Position),
    /// Position of each message, and whether it had been stored before.
    StoredOnce(Vec<(Position, bool)>),
    /// The newest position of the scope, and the entries that were read.
    Page(Page),
    /// The scope has not begun.
    Nothing,
    /// Whether a loss is marked.
    Marked(bool),
    /// The probe was sent.
    Probed,
}

/// The answer to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The newest position that was given out.
    pub top: Position,
    /// Earlier generations with their newest offsets, oldest first.
    pub earlier: Vec<Position>,
    /// The earlier generations that are marked: messages above their newest offset were lost.
    pub torn: Vec<u64>,
    /// The entries, oldest first.
    pub entries: Vec<Entry>,
    /// Whether there are more entries.
    pub more: bool,
}

/// The reason why a node refuses a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node is a replica.
    #[error("READONLY You can't write against a read only replica.")]
    ReadOnly,
    /// The node has no memory left.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory,
    /// An id is not above the last id of the stream. Entries written before it in the same call stay.
    #[error("ERR The ID specified in XADD is equal or smaller than the target stream top item")]
    IdTooSmall,
    /// The deployment has no such family.
    #[error("ERR there is no such channel family")]
    NoFamily,
}

/// One run of a function on one scope of a node.
pub(crate) struct FunctionRun<'n> {
    pub(crate) node: &'n mut Node,
    pub(crate) scope: &'n str,
    pub(crate) retention: Retention,
    pub(crate) now_ms: u64,
    pub(crate) changes: Vec<ReplicatedChange>,
    writes: Vec<Write>,
}

impl<'n> FunctionRun<'n> {
    pub(crate) fn new(node: &'n mut Node, scope: &'n str, retention: Retention, now_ms: u64) -> Self {
        let mut run = Self { node, scope, retention, now_ms, changes: Vec::new(), writes: Vec::new() };
        // A replica does not erase expired keys: it waits for its primary to do so.
        if run.node.role() == Role::Primary {
            run.erase_expired();
        }
        run
    }

    pub(crate) fn run(&mut self, call: Call) -> Result<FunctionReply, Refusal> {
        match call {
            Call::Publish(drafts) => self
                .publish(drafts, false)
                .map(|positions| FunctionReply::Stored(positions.last().expect("not empty").0)),
            Call::PublishOnce(drafts) => self.publish(drafts, true).map(FunctionReply::StoredOnce),
            Call::Read { after, entries_max } => Ok(self.read(after, entries_max, false)),
            Call::Open { after, entries_max } => Ok(self.read(after, entries_max, true)),
            Call::Lost(position) => Ok(FunctionReply::Marked(self.lose(position))),
            Call::Probe => Ok(FunctionReply::Probed),
        }
    }

    /// Returns the changes for the replicas. Called once at the end, whether the call succeeded or not.
    pub(crate) fn finish(mut self) -> Vec<ReplicatedChange> {
        self.close_writes();
        self.changes
    }

    fn erase_expired(&mut self) {
        let Some(Keys { stream, meta, ids }) = self.node.keys(self.scope) else { return };
        let ids = [0, 1].map(|parity: usize| ids[parity].as_ref().is_some_and(|key| key.is_expired(self.now_ms)));
        let stream = stream.as_ref().is_some_and(|key| key.is_expired(self.now_ms));
        let meta = meta.as_ref().is_some_and(|key| key.is_expired(self.now_ms));
        if stream {
            self.write(Write::EraseStream);
        }
        if meta {
            self.write(Write::EraseMeta);
        }
        for parity in [0, 1].into_iter().filter(|parity| ids[*parity]) {
            self.write(Write::EraseIds(parity));
        }
    }

    fn publish(&mut self, drafts: Vec<Draft>, once: bool) -> Result<Vec<(Position, bool)>, Refusal> {
        let trim = self.retention.trim();
        let id = self.node.replication_id();
        let before = self.meta().cloned();
        let current = before.as_ref().filter(|meta| meta.replication_id == id);
        let (generation, start, due_ms) = match current {
            Some(meta) => (meta.generation, meta.offset, meta.due_ms.unwrap_or(0)),
            None => (self.begin(id, before.as_ref()), 0, 0),
        };
        let window = self.now_ms / ID_WINDOW_MS;
        let newest = before.as_ref().and_then(|meta| meta.ids_window).unwrap_or(0);
        let (mut answer, mut stored, mut fresh) = (Vec::new(), Vec::new(), Ids::new());
        for Draft { topic, message, id } in drafts {
            let id = id.filter(|id| once && !id.is_empty());
            let known = id.as_ref().and_then(|id| fresh.get(id).copied().or_else(|| self.known(id, window, newest)));
            if let Some(position) = known {
                answer.push((position, true));
                continue;
            }
            let position = Position::new(generation, start + 1 + stored.len() as u64);
            let entry = Entry { position, time_ms: self.now_ms, topic, message };
            if let Some(entry) = stored.last().cloned()
                && trim.is_some()
                && !self.write(Write::Add { entry, trim: None })
            {
                return Err(Refusal::IdTooSmall);
            }
            stored.push(entry);
            answer.push((position, false));
            fresh.extend(id.map(|id| (id, position)));
        }
        let Some(entry) = stored.last().cloned() else { return Ok(answer) };
        let last = entry.position;
        // The last one that is stored trims.
        if trim.is_some() && !self.write(Write::Add { entry, trim }) {
            return Err(Refusal::IdTooSmall);
        }
        self.write(Write::Offset(last.offset));
        if !fresh.is_empty() {
            self.keep_ids(fresh, window, newest);
        }
        if self.now_ms >= due_ms || self.now_ms + 2 * self.retention.step_ms() < due_ms {
            self.upkeep(last);
        }
        self.close_writes();
        let items = stored.iter().map(|entry| (&*entry.topic, &entry.message[..]));
        let envelope = Envelope::write(stored[0].position, Timestamp(self.now_ms), items);
        self.changes.push(ReplicatedChange::Publish(self.scope.into(), envelope.into()));
        Ok(answer)
    }

    /// The position of the message with this id, if the id is known.
    fn known(&self, id: &str, window: u64, newest: u64) -> Option<Position> {
        let ids = &self.node.keys(self.scope)?.ids;
        let fresh = ids.iter().flatten().filter(|key| !key.is_expired(self.now_ms));
        fresh.filter(|_| newest + 1 >= window).find_map(|key| key.value.get(id)).copied()
    }

    fn keep_ids(&mut self, ids: Ids, window: u64, newest: u64) {
        let parity = usize::from(window % 2 == 1);
        self.write(Write::KeepIds(parity, ids));
        if newest != window {
            self.write(Write::ExpireIds(parity, (window + 2) * ID_WINDOW_MS));
            self.write(Write::IdsWindow(window));
        }
    }

    /// Begins a generation and returns it.
    fn begin(&mut self, id: ReplicationId, before: Option<&Meta>) -> u64 {
        let second = self.now_ms / 1_000;
        let mut bits = id.bits();
        let (mut earlier, mut torn) = (Vec::new(), Vec::new());
        let newest = match before {
            Some(meta) => {
                earlier.clone_from(&meta.earlier);
                earlier.push(meta.top());
                earlier.drain(..earlier.len().saturating_sub(EARLIER_MAX));
                torn.extend(meta.torn.iter().filter(|torn| earlier.iter().any(|end| end.generation == **torn)));
                meta.generation
            }
            None => {
                bits = (bits + self.now_ms % 1_000 * 64) % 65_536;
                let last = self.stream().map_or(0, |stream| stream.last().generation);
                last.max(self.node.begun(self.scope))
            }
        };
        let mut generation = (second << 16) | bits;
        if generation <= newest {
            generation = (((newest >> 16) + 1) << 16) | bits;
        }
        self.node.remember(self.scope, generation, second);
        let begun = Meta {
            replication_id: id,
            generation,
            offset: 0,
            earlier,
            torn,
            due_ms: Some(0),
            marks: Vec::new(),
            ids_window: None,
        };
        self.write(Write::Begin(begun));
        if before.is_none() {
            self.write(Write::ExpireMeta(self.now_ms + UNUSED_MS));
        }
        generation
    }

    /// Marks the generation of the lost message, or the newest one of an earlier second.
    fn lose(&mut self, gone: Position) -> bool {
        let Some(before) = self.meta().cloned() else { return false };
        let is_unbroken = before.replication_id == self.node.replication_id();
        if before.generation == gone.generation && (is_unbroken || gone.offset <= before.offset) {
            return false;
        }
        let precedes = |generation: u64| generation == gone.generation || generation >> 16 < gone.generation >> 16;
        if precedes(before.generation) && !is_unbroken {
            self.begin(self.node.replication_id(), Some(&before));
        }
        let meta = self.meta().expect("it was there");
        let end = meta.earlier.iter().rfind(|end| precedes(end.generation)).copied();
        let Some(end) = end.filter(|end| end.generation < gone.generation || end.offset < gone.offset) else {
            return false;
        };
        if !meta.torn.contains(&end.generation) {
            self.write(Write::Tear(end.generation));
        }
        true
    }

    fn upkeep(&mut self, position: Position) {
        let Retention { ttl_ms, .. } = self.retention;
        let marks = self.meta().map(|meta| meta.marks.clone()).unwrap_or_default();
        let (old, mut kept): (Vec<_>, Vec<_>) = marks.into_iter().partition(|(at_ms, _)| at_ms + ttl_ms <= self.now_ms);
        kept.push((self.now_ms, position));
        if let Some((_, upto)) = old.last() {
            self.write(Write::DropBelow(*upto));
        }
        self.write(Write::Upkeep { due_ms: self.now_ms + self.retention.step_ms(), marks: kept });
        self.write(Write::ExpireStream(self.now_ms + self.retention.stream_ms()));
        self.write(Write::ExpireMeta(self.now_ms + self.retention.meta_ms()));
    }

    fn read(&mut self, after: Option<Position>, entries_max: usize, opening: bool) -> FunctionReply {
        match self.meta() {
            None if !opening => return FunctionReply::Nothing,
            None => drop(self.begin(self.node.replication_id(), None)),
            Some(meta) if opening && meta.offset == 0 => self.keep_unused(),
            Some(_) => {}
        }
        let meta = self.meta().expect("begun");
        let (top, earlier, mut torn) = (meta.top(), meta.earlier.clone(), meta.torn.clone());
        // Redis lists marked generations by number, not in the order in which they were marked.
        torn.sort_unstable();
        let (entries, more) = after.map_or((Vec::new(), false), |after| self.collect(after, entries_max));
        FunctionReply::Page(Page { top, earlier, torn, entries, more })
    }

    /// PEXPIRE GT of the metadata.
    fn keep_unused(&mut self) {
        let upto_ms = self.now_ms + UNUSED_MS;
        let meta = self.node.keys(self.scope).and_then(|keys| keys.meta.as_ref());
        if meta.and_then(|meta| meta.expires_ms).is_some_and(|expires_ms| expires_ms < upto_ms) {
            self.write(Write::ExpireMeta(upto_ms));
        }
    }

    fn collect(&self, after: Position, entries_max: usize) -> (Vec<Entry>, bool) {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let Some(stream) = self.stream() else { return (entries, false) };
        let fresh = |entry: &&Entry| entry.time_ms + self.retention.ttl_ms > self.now_ms;
        for entry in stream.behind(after).filter(fresh) {
            if entries.len() == entries_max || bytes > ANSWER_BYTES_MAX {
                return (entries, true);
            }
            bytes += entry.message.len();
            entries.push(entry.clone());
        }
        (entries, false)
    }

    fn meta(&self) -> Option<&Meta> {
        let key = self.node.keys(self.scope)?.meta.as_ref()?;
        (!key.is_expired(self.now_ms)).then_some(&key.value)
    }

    fn stream(&self) -> Option<&Stream> {
        let key = self.node.keys(self.scope)?.stream.as_ref()?;
        (!key.is_expired(self.now_ms)).then_some(&key.value)
    }

    fn write(&mut self, write: Write) -> bool {
        let done = self.node.write(self.scope, &write);
        if done {
            self.writes.push(write);
        }
        done
    }

    fn close_writes(&mut self) {
        if !self.writes.is_empty() {
            self.changes.push(ReplicatedChange::Scope(self.scope.into(), std::mem::take(&mut self.writes)));
        }
    }
}
