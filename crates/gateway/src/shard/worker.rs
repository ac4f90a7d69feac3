//! The thread of one shard: its table, its sockets, and the loop that delivers.
//!
//! ```text
//!   inbox ─▶ everything into outboxes ─▶ one write per dirty socket, 256 or 1 ms at a time ─▶ reads ─▶ again
//! ```
//!
//! An idle shard writes each message at once. A busy one finds many messages in its inbox and writes them together.
//! There is no batching timer.

use std::cell::{Cell, RefCell};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use message_router::ShardIndex;
use tokio::task;
use tokio::time::{Interval, MissedTickBehavior};
use wire::Close;

use crate::health::Health;
use crate::health::instance_state::LeaseStatus;
use crate::health::watchdog::{self, Loop};
use crate::host::allocator::{IdleDetector, release_memory};
use crate::host::clock::Clock;
use crate::host::clock::Now;
use crate::host::mailbox::Mailbox;
use crate::metrics::counters::ShardCounters;
use crate::metrics::refusal_log::RefusalLog;
use crate::session::Session;
use crate::session::rules::Limits;
use crate::shard::departures::SPREAD;
use crate::shard::handoff::{Handoff, Opening};
use crate::shard::hub::{Hub, ShardHandle};
use crate::shard::members::Slot;
use crate::shard::registrations::{RegistrationOutcome, Registrations};
use crate::shard::requests::{PumpRequest, ToShard};
use crate::shard::shared::{Registers, Shared};
use crate::shard::table::{Flushed, Shard, Wake};
use crate::shard::wheel::Wheel;
use crate::transport::socket::Socket;
use crate::transport::websocket::codec::{Codec, Unfinished};

mod backlog;
mod closing;
mod cut;
mod outlets;
mod progress;
mod reader;
mod sockets;
mod unfinished;
mod writer;

use backlog::Backlog;
use outlets::Outlets;
use sockets::Sockets;
use unfinished::UnfinishedMessages;

/// Sockets written before reads continue.
const WRITES_PER_TURN: usize = 256;
/// Time spent on putting messages into outboxes before they are written and reads continue.
const FAN_OUT_MAX: Duration = Duration::from_millis(20);
/// Time spent on writes before reads continue.
const WRITE_SLICE_MAX: Duration = Duration::from_millis(1);
/// Small frames are copied together up to this size in bytes. One read also takes at most this much.
const SCRATCH_BYTES: usize = 64 * 1024;

/// How long the kernel waits for a client that answers no pings, such as an event stream's.
#[derive(Debug, Clone, Copy)]
struct Silence {
    /// While the socket has room: the time limit for a pong.
    unacknowledged: Duration,
    /// While the socket is full: longer than the shard's own limit for full sockets.
    full: Duration,
}

impl Silence {
    fn new(limits: &Limits) -> Self {
        let full = Duration::from_millis(limits.write_timeout_ms) + Duration::from_secs(5);
        Self { unacknowledged: Duration::from_millis(limits.pong_timeout_ms), full }
    }
}

/// A shard with its sockets. It runs on one thread, and the tasks of its connections share it.
#[derive(Debug)]
pub(crate) struct Worker {
    index: ShardIndex,
    shard: RefCell<Shard>,
    sockets: Sockets,
    /// The directory entries of the connections.
    registrations: RefCell<Registrations>,
    wheel: RefCell<Wheel>,
    /// Time between two ticks of the wheel, in milliseconds.
    timer_grain_ms: u64,
    /// Detects that connections have stopped coming and going.
    idle_detector: RefCell<IdleDetector>,
    /// Read buffer. Empty while it is in use.
    scratch_in: RefCell<Vec<u8>>,
    /// Write buffer for small frames that are copied together.
    scratch_out: RefCell<Vec<u8>>,
    /// The connections of one round of writes. Empty while it is in use.
    dirty: RefCell<Vec<Slot>>,
    inbox: Arc<Mailbox<ToShard>>,
    counters: Arc<ShardCounters>,
    health: Arc<Health>,
    outlets: Outlets,
    hub: Hub,
    clock: Clock,
    /// Messages of clients that have begun and not ended.
    unfinished: RefCell<UnfinishedMessages>,
    hello_bytes_max: usize,
    message_bytes_max: usize,
    /// How long a client of an event stream may leave sent data unacknowledged.
    silence: Silence,
    backlog: Backlog,
    refusal_log: RefCell<RefusalLog>,
    /// When this thread reported to the watchdog last.
    reported: Cell<Instant>,
    /// How often the instance had been fenced at the last check.
    fences: Cell<u64>,
}

impl Worker {
    pub(crate) fn new(
        index: ShardIndex,
        shared: &Shared,
        registers: Registers,
        pump: Arc<Mailbox<PumpRequest>>,
        clock: Clock,
    ) -> Rc<Self> {
        let ShardHandle { inbox, counters } = shared.hub.shard(index);
        let (inbox, counters, rules) = (Arc::clone(inbox), Arc::clone(counters), Arc::clone(&shared.rules));
        let Limits { hello_bytes_max, message_bytes_max, inbound_bytes_max, message_timeout_ms, .. } = rules.limits;
        let silence = Silence::new(&rules.limits);
        let (backlog_bytes_max, timer_grain_ms) = (rules.limits.backlog_bytes_max, rules.limits.timer_grain_ms());
        Rc::new(Self {
            index,
            shard: RefCell::new(Shard::new(index, rules, Arc::clone(&counters))),
            sockets: Sockets::default(),
            registrations: RefCell::new(Registrations::new(index, registers.directory)),
            idle_detector: RefCell::default(),
            wheel: RefCell::new(Wheel::new(clock.now().mono_ms, timer_grain_ms)),
            timer_grain_ms,
            scratch_in: RefCell::new(vec![0; SCRATCH_BYTES]),
            scratch_out: RefCell::new(Vec::with_capacity(SCRATCH_BYTES)),
            dirty: RefCell::default(),
            inbox,
            counters,
            health: Arc::clone(&shared.health),
            outlets: Outlets::new(index, shared, registers.presence, pump),
            hub: shared.hub.clone(),
            clock,
            unfinished: RefCell::new(UnfinishedMessages::new(inbound_bytes_max, message_timeout_ms)),
            hello_bytes_max,
            message_bytes_max,
            silence,
            backlog: Backlog::new(backlog_bytes_max),
            refusal_log: RefCell::default(),
            reported: Cell::new(Instant::now()),
            fences: Cell::new(0),
        })
    }

    /// Runs until it is told to stop.
    pub(crate) async fn run(self: Rc<Self>) {
        let (mut inbox, mut delivered) = (Vec::new(), Vec::new());
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut timers = self.timers();
        let mut report_timer = watchdog::report_timer();
        loop {
            tokio::select! {
                () = self.inbox.take_all(&mut inbox) => {}
                _ = seconds.tick() => self.tick_second(),
                _ = timers.tick() => self.wake_due(),
                due = report_timer.tick() => self.report(due.into_std(), Instant::now()),
            }
            let mut turn_start = Instant::now();
            for item in inbox.drain(..) {
                if let ToShard::Stop = item {
                    return;
                }
                self.handle(item, &mut delivered);
                self.evict_backlog();
                if turn_start.elapsed() >= FAN_OUT_MAX {
                    self.forward();
                    self.flush_dirty().await;
                    task::yield_now().await;
                    turn_start = Instant::now();
                }
            }
            self.forward(); // Frames for the connections that it closed are written with the rest.
            self.cut_evicted();
            self.flush_dirty().await;
            self.evict_backlog();
            let now_ms = self.clock.now().unix_ms;
            for (published_ms, receivers) in delivered.drain(..) {
                self.counters.latency.record(now_ms.saturating_sub(published_ms) * 1_000, receivers);
            }
        }
    }

    /// Ticks at whole multiples of the grain on the clock of the shard, as the wheel counts them.
    fn timers(&self) -> Interval {
        let grain_ms = self.timer_grain_ms;
        let first_ms = grain_ms - self.clock.now().mono_ms % grain_ms;
        let first = tokio::time::Instant::now() + Duration::from_millis(first_ms);
        let mut timers = tokio::time::interval_at(first, Duration::from_millis(grain_ms));
        timers.set_missed_tick_behavior(MissedTickBehavior::Skip);
        timers
    }

    /// Keeps the backlog of blocked clients within the instance's limit.
    fn evict_backlog(&self) {
        if let Some(bytes) = self.backlog.excess(self.counters.backlog.get(), &self.hub) {
            self.shard.borrow_mut().evict(bytes);
        }
    }

    /// Call this before taking data from a client, or writing data, that may have waited while the process was stopped.
    fn check_lease(&self, now: Instant) {
        let fences = self.health.fences(now);
        if self.fences.replace(fences) != fences {
            self.shard.borrow_mut().fence(SPREAD);
        }
    }

    fn handle(self: &Rc<Self>, item: ToShard, delivered: &mut Vec<(u64, u64)>) {
        match item {
            ToShard::Adopt(handoff) => self.adopt(*handoff),
            ToShard::Deliver { scope, messages, published_ms } => {
                let receivers = self.shard.borrow_mut().deliver(&scope, &messages);
                delivered.push((published_ms, receivers));
            }
            ToShard::Joined(joiner, joined) => self.shard.borrow_mut().joined(joiner, *joined),
            ToShard::Evict => {} // The check follows every item.
            ToShard::EvictUnauthenticated => self.shard.borrow_mut().evict_unauthenticated(),
            ToShard::Gap(scope, gap) => self.shard.borrow_mut().gap(&scope, gap),
            ToShard::Isolated(scope) => self.shard.borrow_mut().isolated(&scope),
            ToShard::Degraded(degraded) => self.shard.borrow_mut().degraded(degraded),
            ToShard::Published(to, answer) => self.shard.borrow_mut().published(to, &answer),
            ToShard::Drain(departures) => self.shard.borrow_mut().drain(departures),
            ToShard::DisconnectAll => self.sockets.shut_down_all(),
            ToShard::PresenceListed(listed) => self.shard.borrow_mut().presence_listed(&listed),
            ToShard::PresenceChanged(scope, cursor, event) => {
                self.shard.borrow_mut().presence_changed(&scope, cursor, &event)
            }
            ToShard::ResyncPresence => self.shard.borrow_mut().resync_presence(),
            ToShard::Rebalance(departures, spare) => {
                self.shard.borrow_mut().rebalance(departures, spare, self.clock.now());
            }
            ToShard::CloseSession(closing, upto) => self.close_session(closing, upto),
            ToShard::CloseRevoked => self.close_revoked(),
            ToShard::Restored(restored_for) => {
                let (ask, restored) = *restored_for;
                self.registrations.borrow().restored(&mut self.shard.borrow_mut(), ask, restored, self.clock.now());
            }
            ToShard::List(listing) => self.shard.borrow().list(*listing),
            ToShard::Notice(session, notice) => self.shard.borrow_mut().notice(session, notice),
            ToShard::Stop => {}
        }
    }

    /// Takes a connection from the edge. This shard owns it from now on.
    fn adopt(self: &Rc<Self>, handoff: Handoff) {
        let Handoff { reservation, socket, tls, early, session_id, path_tenant, opening } = handoff;
        let socket = match Socket::register(socket, tls) {
            Ok(socket) => Rc::new(socket),
            Err(error) => {
                tracing::warn!(%error, "socket registration failed");
                return;
            }
        };
        let is_event_stream = matches!(opening, Opening::EventStream(_));
        if is_event_stream {
            socket.set_user_timeout(self.silence.unacknowledged);
        }
        let place = reservation.redeem();
        // Connections from before a fence are sent away before new ones are added.
        self.check_lease(Instant::now());
        let now = self.clock.now();
        let mut shard = self.shard.borrow_mut();
        let slot = shard.open(Session::new(session_id, path_tenant), opening, now);
        // This connection was upgraded just before the fence. Later ones are refused.
        if self.health.lease(Instant::now()) == LeaseStatus::Fenced {
            shard.close(slot, Close::Restart);
        }
        self.wheel.borrow_mut().schedule(slot, shard.first_wake(slot, now));
        let is_authenticated = shard.holder(slot).is_some();
        drop(shard);
        self.sockets.insert(slot, Rc::clone(&socket));
        self.registrations.borrow_mut().open(slot);
        if is_event_stream {
            task::spawn_local(reader::run_event_stream(Rc::clone(self), slot, socket, place));
            return self.step(slot, |_, _| ());
        }
        let mut codec = Codec::new(self.message_bytes_max(is_authenticated));
        if !early.is_empty() {
            reader::take(self, slot, &mut codec, &mut early.to_vec());
        }
        task::spawn_local(reader::run(Rc::clone(self), slot, socket, codec, place));
    }

    /// Runs one step of a connection's own loop, and writes the result.
    pub(crate) fn step(self: &Rc<Self>, slot: Slot, step: impl FnOnce(&mut Shard, Now)) {
        self.check_lease(Instant::now());
        step(&mut self.shard.borrow_mut(), self.clock.now());
        // Registration comes first: a client that has read its `welcome` may reconnect to another shard before this one
        // has registered it.
        let closed = self.forward();
        self.flush(slot);
        closed.into_iter().for_each(|closed| self.flush(closed));
        // The write may have made room for the next page of a replay.
        self.forward().into_iter().for_each(|closed| self.flush(closed));
        self.cut_evicted();
    }

    /// Removes a connection whose socket has ended.
    pub(crate) fn remove(self: &Rc<Self>, slot: Slot) {
        self.sockets.remove(slot);
        self.note_unfinished(slot, None);
        let mut shard = self.shard.borrow_mut();
        if shard.remove(slot).is_some() {
            self.counters.connections.sub(1);
        }
        self.registrations.borrow_mut().remove(&mut shard, slot);
        drop(shard);
        self.forward();
    }

    /// The read buffer that all connections of this shard share.
    pub(crate) fn take_scratch(&self) -> Vec<u8> {
        self.scratch_in.take()
    }

    pub(crate) fn give_scratch(&self, scratch: Vec<u8>) {
        self.scratch_in.replace(scratch);
    }

    /// Longest message of a client in bytes, before and after it has shown a token.
    pub(crate) fn message_bytes_max(&self, is_authenticated: bool) -> usize {
        match is_authenticated {
            true => self.message_bytes_max,
            false => self.hello_bytes_max.min(self.message_bytes_max),
        }
    }

    /// Passes the table's requests to the pump, and registers sessions that have opened. Returns the connections that
    /// were closed by it.
    fn forward(&self) -> Vec<Slot> {
        let mut requests = Vec::new();
        let mut shard = self.shard.borrow_mut();
        self.registrations.borrow_mut().leave_records(&mut shard);
        shard.take_requests(&mut requests);
        self.outlets.send_receipts(shard.take_receipts());
        self.outlets.send_presence(shard.take_presence_updates(), self.clock);
        let closed = self.register_identified(&mut shard);
        let refused = shard.take_refused();
        drop(shard);
        for (slot, refused) in refused {
            let address = self.sockets.get(slot).and_then(|socket| socket.peer_address());
            self.refusal_log.borrow_mut().write(&refused, address, self.clock.now().mono_ms);
        }
        self.outlets.send_requests(requests);
        closed
    }

    /// Registers sessions that have opened. Returns the connections that were closed by it.
    fn register_identified(&self, shard: &mut Shard) -> Vec<Slot> {
        let identified = shard.take_identified();
        if identified.is_empty() {
            return Vec::new(); // Most steps open no session.
        }
        let now = self.clock.now();
        let RegistrationOutcome { closed, elsewhere } =
            self.registrations.borrow_mut().register(shard, &identified, now, Instant::now());
        for (index, item) in elsewhere {
            self.hub.shard(index).inbox.push(item, 0);
        }
        for slot in identified.into_iter().chain(closed.iter().copied()) {
            self.wake_sooner(shard, slot, now);
        }
        closed
    }

    /// A token has arrived or changed: checks the connection sooner than planned if it must.
    fn wake_sooner(&self, shard: &mut Shard, slot: Slot, now: Now) {
        if let Some(at_ms) = shard.wake_sooner(slot, now) {
            self.wheel.borrow_mut().schedule(slot, at_ms);
        }
    }

    /// Runs once a second.
    fn tick_second(&self) {
        if self.idle_detector.borrow_mut().is_idle(self.counters.connections.get()) {
            self.shard.borrow_mut().shrink();
            self.sockets.shrink();
            self.registrations.borrow_mut().shrink();
            self.wheel.borrow_mut().shrink();
            self.unfinished.borrow_mut().shrink();
            release_memory();
        }
        self.backlog.tick();
        self.evict_backlog();
    }

    /// Checks the connections that are due.
    fn wake_due(self: &Rc<Self>) {
        self.check_lease(Instant::now());
        let now = self.clock.now();
        self.end_overdue_messages(now);
        let mut due = Vec::new();
        self.wheel.borrow_mut().take_due(now.mono_ms, &mut due);
        for slot in due {
            match self.shard.borrow_mut().wake(slot, now) {
                Wake::Stale => {}
                Wake::At(at_ms) => self.wheel.borrow_mut().schedule(slot, at_ms),
                Wake::Disconnect => {
                    if let Some(socket) = self.sockets.get(slot) {
                        socket.shutdown(Shutdown::Both);
                    }
                }
            }
        }
        self.cut_evicted();
    }
}

#[cfg(test)]
mod tests;
