//! The task that keeps an instance in the fleet: holds its lease, looks at its peers, tells who is connected here.
//!
//! One heartbeat is: renew (or ask for) the lease, read the peers, remove dead ones, write the changes of the directory. A
//! call that fails ends the heartbeat; the next one tries again. New connections are written at once, not at a heartbeat, and commands
//! are taken on a wake-up. Whatever happens, the lease is said to be lost at its deadline.

mod commands;
mod directory_sync;
mod handle;
mod lease_renewal;
mod peers;
mod presence_sync;
mod session_records;
mod watched_lease;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};
use wire::InstanceId;

use crate::clock_offset::ClockOffset;
use crate::directory::Directory;
use crate::error::StoreError;
use crate::heartbeat::watched_lease::WatchedLease;
use crate::instance::{Incarnation, Instance};
use crate::lease::{Lease, LeaseRequest, LeaseState};
use crate::load::Load;
use crate::presence::Presence;
use crate::roster::Roster;
use crate::session_command::SessionCommand;
use crate::store::Store;
use crate::timings::Timings;

pub use self::handle::{HeartbeatHandle, Peers};

/// New rows are written after so long, together with those that come meanwhile: a connection too many is closed soon,
/// and a storm of them is a few calls.
const SYNC_AFTER: Duration = Duration::from_millis(20);

/// The same while the store is away and the instance judges them alone, which means a look at all of them.
const ENFORCE_LIMITS_AFTER: Duration = Duration::from_millis(200);

/// What a heartbeat task needs to know.
#[derive(Debug, Clone)]
pub struct HeartbeatConfig {
    /// Who we are: unique in the fleet.
    pub id: InstanceId,
    /// Where we listen, for operators.
    pub address: Box<str>,
    /// Checked by [`Timings::problems`].
    pub timings: Timings,
}

/// The task.
#[derive(Debug)]
pub struct HeartbeatTask<S, L> {
    store: Arc<S>,
    /// Says how the instance is doing.
    load: L,
    timings: Timings,
    /// Ourselves, in the current incarnation.
    instance: Instance,
    /// Of the newest heartbeat.
    number: u64,
    /// Of the newest renewal whose answer was read.
    acknowledged: u64,
    lease: WatchedLease,
    roster: Roster,
    peers: watch::Sender<Peers>,
    directory: Arc<Directory>,
    presence: Arc<Presence>,
    /// For the rest of the gateway: bounded by the sessions there are, and by the commands of one lease's renewal.
    session_commands: mpsc::UnboundedSender<SessionCommand>,
    /// There are commands, or the peers are to hear of this instance at once.
    wakeup: Arc<Notify>,
    /// Waits for the store's wake-ups; ends with the heartbeat task.
    _listening: JoinSet<()>,
    /// When new rows are written, which does not wait for a heartbeat.
    sync_at: Option<Instant>,
    /// When a member is to leave that nobody holds any more.
    members_due: Option<Instant>,
    /// How connections are dated; not at all by a store of this process.
    clock_offset: Option<ClockOffset>,
    /// How many rows the store has of us, when its last answer said so.
    rows_stored: Option<usize>,
    /// An incarnation before this one whose rows may be in the store.
    previous_incarnation: Option<Incarnation>,
    /// What failed in the last heartbeat, so that each trouble is logged once.
    trouble: Option<StoreError>,
}

impl<S: Store, L: Fn() -> Load + Send + 'static> HeartbeatTask<S, L> {
    /// Starts the task on the current runtime. Each heartbeat tells the peers what `load` says then.
    ///
    /// # Panics
    /// When the timings have problems, or outside of a tokio runtime.
    pub fn start(config: HeartbeatConfig, store: S, load: L) -> HeartbeatHandle {
        let HeartbeatConfig { id, address, timings } = config;
        assert_eq!(timings.problems(), [], "the configuration has been checked");
        let instance = Instance { id: id.clone(), incarnation: new_incarnation(), address };
        let lease = Lease::new(S::LEASES_END.then_some(timings.lease), timings.drift());
        let (lease, lease_watch) = WatchedLease::new(lease);
        let (peers, peers_watch) =
            watch::channel(Peers { own: instance.clone(), others: Vec::new(), seen: None, doubted: false });
        let directory = Arc::new(Directory::default());
        let presence = Arc::new(Presence::default());
        let roster = Roster::new(id, timings.heartbeat, timings.lease, timings.reap);
        let (session_commands, session_commands_queue) = mpsc::unbounded_channel();
        let (store, wakeup, mut listening) = (Arc::new(store), Arc::new(Notify::new()), JoinSet::new());
        listening.spawn(listen(Arc::clone(&store), instance.id.clone(), Arc::clone(&wakeup), timings.heartbeat));
        let heartbeat = Self {
            session_commands,
            wakeup: Arc::clone(&wakeup),
            _listening: listening,
            sync_at: None,
            members_due: None,
            store,
            load,
            timings,
            instance,
            number: 0,
            acknowledged: 0,
            lease,
            roster,
            peers,
            directory: Arc::clone(&directory),
            presence: Arc::clone(&presence),
            clock_offset: None,
            rows_stored: None,
            previous_incarnation: None,
            trouble: None,
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(heartbeat.run(stopped));
        let (lease, peers) = (lease_watch, peers_watch);
        HeartbeatHandle {
            lease,
            peers,
            directory,
            presence,
            session_commands: session_commands_queue,
            wakeup,
            stop,
            task,
        }
    }

    async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        // The first heartbeat comes at once, the second after a random part of a heartbeat: instances that start together
        // do not send their heartbeats together.
        let mut due = Instant::now();
        let mut pause = self.timings.heartbeat.mul_f64(random() as f64 / u64::MAX as f64);
        loop {
            let fenced = self.is_fenced();
            tokio::select! {
                biased; // a stop must not wait for a heartbeat, and a deadline is what heartbeats are for
                _ = &mut stop => break,
                () = self.lease.deadline_passed() => self.lease.tick(),
                () = wait_for_changes(&self.directory, &self.presence), if self.sync_at.is_none() => {
                    self.sync_at = Some(Instant::now() + if self.is_alone() { ENFORCE_LIMITS_AFTER } else { SYNC_AFTER });
                }
                () = sleep_until(self.members_due.unwrap_or(due).into()), if self.may_sync_presence() => {
                    self.sync_at = Some(Instant::now());
                }
                () = sleep_until(self.sync_at.unwrap_or(due).into()), if self.sync_at.is_some() => {
                    self.sync_at = None;
                    if !self.is_alone() {
                        let synced = self.sync().await;
                        self.after(synced);
                    }
                    // What the store has not been told it cannot judge.
                    if self.is_alone() {
                        self.enforce_limits();
                    }
                    self.ask_again();
                }
                () = self.wakeup.notified(), if self.trouble.is_none() => {
                    let taken = self.take_commands().await;
                    self.after(taken);
                }
                () = sleep_until(due.into()) => {
                    due = Instant::now() + pause;
                    pause = self.timings.heartbeat;
                    self.heartbeat().await;
                    self.ask_again();
                }
            }
            if self.is_fenced() && !fenced {
                due = Instant::now() + self.timings.heartbeat; // so that everybody sees it before it ends
            }
        }
        self.release().await;
    }

    /// What was not answered yet is asked in a moment, not at the next heartbeat.
    fn ask_again(&mut self) {
        if self.sync_at.is_none() && !self.is_alone() {
            self.sync_at = self.directory.restores().next_due();
        }
    }

    /// The store cannot be asked.
    fn is_alone(&self) -> bool {
        self.trouble.is_some() || self.lease.held(Instant::now()).is_none()
    }

    /// Holds users and tenants to their limits as if nobody were connected elsewhere. With the store back, all rows are
    /// judged by it.
    fn enforce_limits(&self) {
        for (closing, number) in self.directory.excess(self.store.limits()) {
            let _ = self.session_commands.send(SessionCommand::Close(closing, number));
        }
    }

    fn may_sync_presence(&self) -> bool {
        let is_free = self.sync_at.is_none() && self.trouble.is_none();
        is_free && self.members_due.is_some() && self.lease.held(Instant::now()).is_some()
    }

    async fn heartbeat(&mut self) {
        if self.is_fenced() {
            self.start_new_incarnation().await;
        }
        self.lease.tick();
        let mut result = Ok(());
        // A refusal says that the lease was lost behind our back; then there is no reason to wait with asking again.
        for _ in 0..2 {
            if self.is_fenced() {
                return;
            }
            result = self.work().await;
            if !matches!(result, Err(StoreError::Refused(_))) {
                break;
            }
            self.heed(&result);
        }
        self.note(result.err());
    }

    /// What follows from calls between two heartbeats.
    fn after(&mut self, result: Result<(), StoreError>) {
        self.heed(&result);
        self.note(result.err());
    }

    /// A refusal is the store's word that the lease is over.
    fn heed(&mut self, result: &Result<(), StoreError>) {
        if let Err(StoreError::Refused(refusal)) = result {
            tracing::warn!(%refusal, "lease refused");
            self.lease.update(|lease, now| lease.refused(*refusal, now));
        }
    }

    /// The calls of one heartbeat.
    async fn work(&mut self) -> Result<(), StoreError> {
        self.number += 1;
        match self.lease.ask() {
            LeaseRequest::Renew(token) => self.renew(&token).await?,
            LeaseRequest::Acquire => self.acquire().await?,
        }
        self.look().await?;
        self.reap().await?;
        self.sync().await
    }

    /// Writes what the store has yet to learn.
    async fn sync(&mut self) -> Result<(), StoreError> {
        self.sync_directory().await?;
        self.sync_presence().await
    }

    fn is_fenced(&self) -> bool {
        *self.lease.state() == LeaseState::Fenced
    }

    async fn release(mut self) {
        // What the last connections left.
        if let Err(error) = self.leave_records(None).await {
            tracing::warn!(%error, "session records lost");
        }
        self.release_lease().await;
        self.lease.update(|lease, _| lease.released());
    }

    /// Logs a trouble when it begins, changes or ends.
    fn note(&mut self, trouble: Option<StoreError>) {
        if self.trouble == trouble {
            return;
        }
        match &trouble {
            Some(error) if error.may_retry() => {
                tracing::warn!(%error, fault = ?error.fault(), "heartbeat failed, retrying");
            }
            Some(error) => tracing::error!(%error, fault = ?error.fault(), "heartbeat failed"),
            None => tracing::info!("heartbeat recovered"),
        }
        self.trouble = trouble;
    }
}

/// Notifies `wakeup` whenever the store reports a wake-up. One that is missed is made good for by the next heartbeat.
async fn listen<S: Store>(store: Arc<S>, id: InstanceId, wakeup: Arc<Notify>, pause: Duration) {
    loop {
        match store.wait_for_wakeup(&id).await {
            Ok(true) => wakeup.notify_one(),
            Ok(false) => {}
            Err(_) => sleep(pause).await, // The heartbeats say what ails the store.
        }
    }
}

/// Waits until the store has something to learn that should not wait for a heartbeat.
async fn wait_for_changes(directory: &Directory, presence: &Presence) {
    tokio::select! {
        () = directory.restores().wait_for_new() => {}
        () = directory.wait_for_new() => {}
        () = presence.wait_for_changes() => {}
    }
}

fn new_incarnation() -> Incarnation {
    // A clock before 1970 or after 2106 costs the readable half, not the uniqueness.
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    Incarnation::new(u32::try_from(seconds).unwrap_or(u32::MAX), random() as u32)
}

/// Random enough for uniqueness and jitter: the keys that hash maps draw from the operating system.
fn random() -> u64 {
    RandomState::new().hash_one(())
}
