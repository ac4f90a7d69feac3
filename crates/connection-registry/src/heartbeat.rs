//! The heartbeat task: keeps the instance's lease, watches its peers, and writes its connections to the store.
//!
//! ```text
//!                  ┌──────────────▶ LeaseKeeper ──── acquire, renew, release ──┐
//!                  │ ┌────────────▶ PeerWatch ────── peers, reap ──────────────┤
//!   Schedule ─▶ HeartbeatTask ────▶ DirectorySync ── rows, session records ────┼─▶ Store
//!                  │ └────────────▶ PresenceSync ─── members ──────────────────┘
//!                  └── wait ──────▶ WakeupListener
//! ```
//!
//! One heartbeat asks for the lease or renews it, reads the peers, removes dead ones, and writes changes. A call that
//! fails ends the heartbeat, and the next heartbeat tries again. New connections are written at once, without waiting
//! for a heartbeat, and commands are fetched on a wake-up. The lease is reported lost at its deadline even if a call is
//! still waiting then.

mod command_sender;
mod directory_sync;
mod entropy;
mod handle;
mod lease_keeper;
mod peer_watch;
mod peers;
mod presence_sync;
mod schedule;
mod session_record_sync;
mod store_clock;
mod trouble;
mod wakeup_listener;
mod watched_lease;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use wire::InstanceId;

use self::command_sender::CommandSender;
use self::directory_sync::DirectorySync;
use self::lease_keeper::{LeaseKeeper, LeaseReply};
use self::peer_watch::PeerWatch;
use self::presence_sync::PresenceSync;
use self::schedule::Schedule;
use self::session_record_sync::SessionRecordSync;
use self::trouble::Trouble;
use self::wakeup_listener::WakeupListener;
use crate::directory::Directory;
use crate::error::StoreError;
use crate::instance::Instance;
use crate::load::Load;
use crate::presence::Presence;
use crate::store::Store;
use crate::timings::Timings;

pub use self::handle::HeartbeatHandle;
pub use self::peers::Peers;

/// Changes are written this long after the first one, together with those that follow meanwhile. A connection above a
/// limit is closed soon, and a storm of connections costs few calls.
const SYNC_AFTER: Duration = Duration::from_millis(20);

/// The same delay while the store is away. The instance then checks the limits alone, and looks at all its rows each
/// time.
const ENFORCE_LIMITS_AFTER: Duration = Duration::from_millis(200);

/// Configuration of a heartbeat task.
#[derive(Debug, Clone)]
pub struct HeartbeatConfig {
    /// Id of this instance, unique in the fleet.
    pub id: InstanceId,
    /// Address that this instance listens on, for operators.
    pub address: Box<str>,
    /// Intervals and deadlines, checked by [`Timings::problems`].
    pub timings: Timings,
}

/// The task. It owns one object for each part of a heartbeat and calls them in order.
#[derive(Debug)]
pub struct HeartbeatTask<S, L> {
    store: Arc<S>,
    /// Returns the present load of the instance.
    load: L,
    schedule: Schedule,
    lease_keeper: LeaseKeeper,
    peer_watch: PeerWatch,
    directory_sync: DirectorySync,
    presence_sync: PresenceSync,
    wakeup_listener: WakeupListener,
    trouble: Trouble,
}

impl<S: Store, L: Fn() -> Load + Send + 'static> HeartbeatTask<S, L> {
    /// Starts the task on the current runtime. Each heartbeat shows the peers the load that `load` returns then.
    ///
    /// # Panics
    /// If the timings have problems, or outside of a tokio runtime.
    pub fn start(config: HeartbeatConfig, store: S, load: L) -> HeartbeatHandle {
        let HeartbeatConfig { id, address, timings } = config;
        assert_eq!(timings.problems(), [], "the configuration has been checked");
        let instance = Instance { id, incarnation: entropy::new_incarnation(), address };
        let (store, directory, presence) = (Arc::new(store), Arc::<Directory>::default(), Arc::<Presence>::default());
        let (sender, session_commands) = mpsc::unbounded_channel();
        let commands = CommandSender::new(Arc::clone(&directory), sender);
        let records = SessionRecordSync::new(Arc::clone(&directory), commands.clone());
        let (peer_watch, peers) = PeerWatch::new(&instance, timings);
        let wakeup_listener = WakeupListener::start(Arc::clone(&store), instance.id.clone(), timings.heartbeat);
        let wakeup = wakeup_listener.wakeup();
        let (lease_keeper, lease) = LeaseKeeper::new(instance, S::LEASES_END.then_some(timings.lease), timings.drift());
        let task = Self {
            store,
            load,
            schedule: Schedule::new(timings.heartbeat, entropy::part_of(timings.heartbeat), Instant::now()),
            lease_keeper,
            peer_watch,
            directory_sync: DirectorySync::new(Arc::clone(&directory), records, commands, timings.heartbeat / 2),
            presence_sync: PresenceSync::new(Arc::clone(&presence), timings),
            wakeup_listener,
            trouble: Trouble::default(),
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(task.run(stopped));
        HeartbeatHandle { lease, peers, wakeup, directory, presence, session_commands, stop, task }
    }

    async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        loop {
            let was_fenced = self.lease_keeper.is_fenced();
            tokio::select! {
                biased; // a stop and a deadline do not wait for a heartbeat
                _ = &mut stop => break,
                () = self.lease_keeper.deadline_passed() => self.lease_keeper.tick(),
                () = wait_for_changes(&self.directory_sync, &self.presence_sync), if !self.schedule.has_sync() => {
                    let delay = if self.is_alone() { ENFORCE_LIMITS_AFTER } else { SYNC_AFTER };
                    self.schedule.sync_at(Instant::now() + delay);
                }
                () = self.presence_sync.due(), if self.may_sync_presence() => self.schedule.sync_at(Instant::now()),
                () = self.schedule.sync_due() => self.sync_changes().await,
                () = self.wakeup_listener.notified(), if self.trouble.is_clear() => self.fetch_commands().await,
                () = self.schedule.heartbeat_due() => {
                    self.schedule.start_heartbeat(Instant::now());
                    self.heartbeat().await;
                    self.plan_lookups();
                }
            }
            if self.lease_keeper.is_fenced() && !was_fenced {
                // Every reader sees the fence for one heartbeat before a new incarnation starts.
                self.schedule.postpone_heartbeat(Instant::now());
            }
        }
        self.release().await;
    }

    /// One heartbeat. If the store refuses the token, the lease was lost meanwhile, and the heartbeat asks for a new
    /// one at once.
    async fn heartbeat(&mut self) {
        if self.lease_keeper.is_fenced() {
            self.lease_keeper.start_new_incarnation(&*self.store).await;
            self.directory_sync.start_new_incarnation();
        }
        self.lease_keeper.tick();
        let mut result = Ok(());
        for _ in 0..2 {
            if self.lease_keeper.is_fenced() {
                return;
            }
            result = self.make_calls().await;
            let Err(StoreError::Refused(refusal)) = result else { break };
            self.lease_keeper.refused(refusal);
        }
        self.trouble.note(result.err());
    }

    /// The calls of one heartbeat.
    async fn make_calls(&mut self) -> Result<(), StoreError> {
        self.request_lease().await?;
        self.peer_watch.look(&mut self.lease_keeper, &*self.store).await?;
        let (removed, reaped) = self.peer_watch.reap(&mut self.lease_keeper, &*self.store).await;
        if removed > 0 {
            self.presence_sync.peers_removed(Instant::now());
        }
        reaped?;
        self.sync().await
    }

    async fn request_lease(&mut self) -> Result<(), StoreError> {
        match self.lease_keeper.request(&*self.store, (self.load)()).await? {
            LeaseReply::Renewed { sample, reply } => self.directory_sync.renewed(sample, reply),
            LeaseReply::Granted { sample, previous } => {
                self.directory_sync.granted(sample, previous);
                self.presence_sync.granted();
            }
            LeaseReply::Busy => {}
        }
        Ok(())
    }

    /// Writes the changes that the store does not have yet.
    async fn sync(&mut self) -> Result<(), StoreError> {
        self.directory_sync.sync(&mut self.lease_keeper, &*self.store).await?;
        self.presence_sync.sync(&mut self.lease_keeper, &*self.store).await
    }

    /// Writes changes between two heartbeats. If the store cannot be reached, enforces the limits without it.
    async fn sync_changes(&mut self) {
        self.schedule.clear_sync();
        if !self.is_alone() {
            let synced = self.sync().await;
            self.note(synced);
        }
        if self.is_alone() {
            self.directory_sync.enforce_limits(self.store.limits());
        }
        self.plan_lookups();
    }

    /// Fetches commands between two heartbeats: a renewal returns them. Without a lease they wait for the next
    /// heartbeat.
    async fn fetch_commands(&mut self) {
        if self.lease_keeper.has_token() {
            let fetched = self.request_lease().await;
            self.note(fetched);
        }
    }

    /// Plans a sync for the next lookup of a session's record, which does not wait for a heartbeat.
    fn plan_lookups(&mut self) {
        if !self.schedule.has_sync()
            && !self.is_alone()
            && let Some(due) = self.directory_sync.next_lookup()
        {
            self.schedule.sync_at(due);
        }
    }

    /// Takes in the result of calls between two heartbeats.
    fn note(&mut self, result: Result<(), StoreError>) {
        if let Err(StoreError::Refused(refusal)) = &result {
            self.lease_keeper.refused(*refusal);
        }
        self.trouble.note(result.err());
    }

    /// Whether the store cannot be used: the last call failed, or the instance does not hold its lease.
    fn is_alone(&self) -> bool {
        !self.trouble.is_clear() || self.lease_keeper.held().is_none()
    }

    fn may_sync_presence(&self) -> bool {
        !self.schedule.has_sync() && !self.is_alone()
    }

    /// Writes the records of the last connections, and releases the lease.
    async fn release(mut self) {
        if let Err(error) = self.directory_sync.leave_last_records(&mut self.lease_keeper, &*self.store).await {
            tracing::warn!(%error, "session records lost");
        }
        self.lease_keeper.release(&*self.store).await;
    }
}

/// Waits until there is a change that does not wait for a heartbeat.
async fn wait_for_changes(directory_sync: &DirectorySync, presence_sync: &PresenceSync) {
    tokio::select! {
        () = directory_sync.wait_for_changes() => {}
        () = presence_sync.wait_for_changes() => {}
    }
}

#[cfg(test)]
mod tests;
