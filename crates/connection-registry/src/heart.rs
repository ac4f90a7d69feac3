//! The task that keeps an instance in the fleet: holds its lease, looks at its peers, tells who is connected here.
//!
//! One beat is: renew (or ask for) the lease, read the peers, remove dead ones, write the changes of the directory. A
//! call that fails ends the beat; the next one tries again. New connections are written at once, not at a beat, and orders
//! are taken when the bell rings. Whatever happens, the lease is said to be lost at its deadline.

mod fleet;
mod handle;
mod holding;
mod members;
mod orders;
mod records;
mod rows;
mod told;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};
use wire::InstanceId;

use crate::dating::Dating;
use crate::directory::Directory;
use crate::error::StoreError;
use crate::heart::told::ToldLease;
use crate::instance::{Incarnation, Instance};
use crate::lease::{Ask, Lease, LeaseState};
use crate::limits::Errand;
use crate::load::Load;
use crate::presence::Presence;
use crate::roster::Roster;
use crate::store::Store;
use crate::timings::Timings;

pub use self::handle::{HeartHandle, Peers};

/// New rows are written after so long, together with those that come meanwhile: a connection too many is closed soon,
/// and a storm of them is a few calls.
const TELL_AFTER: Duration = Duration::from_millis(20);

/// The same while the store is away and the instance judges them alone, which means a look at all of them.
const JUDGE_AFTER: Duration = Duration::from_millis(200);

/// What a heart needs to know.
#[derive(Debug, Clone)]
pub struct HeartConfig {
    /// Who we are: unique in the fleet.
    pub id: InstanceId,
    /// Where we listen, for operators.
    pub address: Box<str>,
    /// Checked by [`Timings::problems`].
    pub timings: Timings,
}

/// The task.
#[derive(Debug)]
pub struct Heart<S, L> {
    store: Arc<S>,
    /// Says how the instance is doing.
    load: L,
    timings: Timings,
    /// Ourselves, in the current incarnation.
    instance: Instance,
    /// Of the newest beat.
    number: u64,
    /// Of the newest renewal whose answer was read.
    heard: u64,
    lease: ToldLease,
    roster: Roster,
    peers: watch::Sender<Peers>,
    directory: Arc<Directory>,
    presence: Arc<Presence>,
    /// For the rest of the gateway: bounded by the sessions there are, and by the orders of one lease's renewal.
    errands: mpsc::UnboundedSender<Errand>,
    /// There are orders, or the peers are to hear of this instance at once.
    bell: Arc<Notify>,
    /// Waits for the store's bell; ends with the heart.
    _listening: JoinSet<()>,
    /// When new rows are written, which does not wait for a beat.
    tell_at: Option<Instant>,
    /// When a member is to leave that nobody holds any more.
    members_due: Option<Instant>,
    /// How connections are dated; not at all by a store of this process.
    dating: Option<Dating>,
    /// How many rows the store has of us, when its last answer said so.
    rows_stored: Option<usize>,
    /// A life before this one whose rows may be in the store.
    life_before: Option<Incarnation>,
    /// What failed in the last beat, so that each trouble is logged once.
    trouble: Option<StoreError>,
}

impl<S: Store, L: Fn() -> Load + Send + 'static> Heart<S, L> {
    /// Starts the task on the current runtime. Each beat tells the peers what `load` says then.
    ///
    /// # Panics
    /// When the timings have problems, or outside of a tokio runtime.
    pub fn start(config: HeartConfig, store: S, load: L) -> HeartHandle {
        let HeartConfig { id, address, timings } = config;
        assert_eq!(timings.problems(), [], "the configuration has been checked");
        let instance = Instance { id: id.clone(), incarnation: begin_life(), address };
        let lease = Lease::new(S::LEASES_END.then_some(timings.lease), timings.drift());
        let (lease, lease_watch) = ToldLease::new(lease);
        let (peers, peers_watch) =
            watch::channel(Peers { own: instance.clone(), others: Vec::new(), seen: None, doubted: false });
        let directory = Arc::new(Directory::default());
        let presence = Arc::new(Presence::default());
        let roster = Roster::new(id, timings.beat, timings.lease, timings.reap);
        let (errands, errands_queue) = mpsc::unbounded_channel();
        let (store, bell, mut listening) = (Arc::new(store), Arc::new(Notify::new()), JoinSet::new());
        listening.spawn(listen(Arc::clone(&store), instance.id.clone(), Arc::clone(&bell), timings.beat));
        let heart = Self {
            errands,
            bell: Arc::clone(&bell),
            _listening: listening,
            tell_at: None,
            members_due: None,
            store,
            load,
            timings,
            instance,
            number: 0,
            heard: 0,
            lease,
            roster,
            peers,
            directory: Arc::clone(&directory),
            presence: Arc::clone(&presence),
            dating: None,
            rows_stored: None,
            life_before: None,
            trouble: None,
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(heart.run(stopped));
        let (lease, peers) = (lease_watch, peers_watch);
        HeartHandle { lease, peers, directory, presence, errands: errands_queue, bell, stop, task }
    }

    async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        // The first beat comes at once, the second after a random part of a beat: instances that start together
        // do not beat together.
        let mut due = Instant::now();
        let mut pause = self.timings.beat.mul_f64(random() as f64 / u64::MAX as f64);
        loop {
            let fenced = self.is_fenced();
            tokio::select! {
                biased; // a stop must not wait for a beat, and a deadline is what beats are for
                _ = &mut stop => break,
                () = self.lease.deadline_passed() => self.lease.tick(),
                () = has_news(&self.directory, &self.presence), if self.tell_at.is_none() => {
                    self.tell_at = Some(Instant::now() + if self.is_alone() { JUDGE_AFTER } else { TELL_AFTER });
                }
                () = sleep_until(self.members_due.unwrap_or(due).into()), if self.may_tell_members() => {
                    self.tell_at = Some(Instant::now());
                }
                () = sleep_until(self.tell_at.unwrap_or(due).into()), if self.tell_at.is_some() => {
                    self.tell_at = None;
                    if !self.is_alone() {
                        let told = self.tell().await;
                        self.after(told);
                    }
                    // What the store has not been told it cannot judge.
                    if self.is_alone() {
                        self.keep_limits();
                    }
                    self.ask_again();
                }
                () = self.bell.notified(), if self.trouble.is_none() => {
                    let heard = self.take_orders().await;
                    self.after(heard);
                }
                () = sleep_until(due.into()) => {
                    due = Instant::now() + pause;
                    pause = self.timings.beat;
                    self.beat().await;
                    self.ask_again();
                }
            }
            if self.is_fenced() && !fenced {
                due = Instant::now() + self.timings.beat; // so that everybody sees it before it ends
            }
        }
        self.release().await;
    }

    /// What was not answered yet is asked in a moment, not at the next beat.
    fn ask_again(&mut self) {
        if self.tell_at.is_none() && !self.is_alone() {
            self.tell_at = self.directory.restores().next_due();
        }
    }

    /// The store cannot be asked.
    fn is_alone(&self) -> bool {
        self.trouble.is_some() || self.lease.held(Instant::now()).is_none()
    }

    /// Holds users and tenants to their limits as if nobody were connected elsewhere. With the store back, all rows are
    /// judged by it.
    fn keep_limits(&self) {
        for (closing, number) in self.directory.excess(self.store.limits()) {
            let _ = self.errands.send(Errand::Close(closing, number));
        }
    }

    fn may_tell_members(&self) -> bool {
        let is_free = self.tell_at.is_none() && self.trouble.is_none();
        is_free && self.members_due.is_some() && self.lease.held(Instant::now()).is_some()
    }

    async fn beat(&mut self) {
        if self.is_fenced() {
            self.begin_again().await;
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

    /// What follows from calls between two beats.
    fn after(&mut self, result: Result<(), StoreError>) {
        self.heed(&result);
        self.note(result.err());
    }

    /// A refusal is the store's word that the lease is over.
    fn heed(&mut self, result: &Result<(), StoreError>) {
        if let Err(StoreError::Refused(refusal)) = result {
            tracing::warn!(%refusal, "the store refused this instance's lease");
            self.lease.update(|lease, now| lease.refused(*refusal, now));
        }
    }

    /// The calls of one beat.
    async fn work(&mut self) -> Result<(), StoreError> {
        self.number += 1;
        match self.lease.ask() {
            Ask::Renew(token) => self.renew(&token).await?,
            Ask::Acquire => self.acquire().await?,
        }
        self.look().await?;
        self.reap().await?;
        self.tell().await
    }

    /// Writes what the store has yet to learn.
    async fn tell(&mut self) -> Result<(), StoreError> {
        self.tell_rows().await?;
        self.tell_members().await
    }

    fn is_fenced(&self) -> bool {
        *self.lease.state() == LeaseState::Fenced
    }

    async fn release(mut self) {
        // What the last connections left.
        if let Err(error) = self.leave_records(None).await {
            tracing::warn!(%error, "records of sessions are lost");
        }
        self.give_back().await;
        self.lease.update(|lease, _| lease.released());
    }

    /// Logs a trouble when it begins, changes or ends.
    fn note(&mut self, trouble: Option<StoreError>) {
        if self.trouble == trouble {
            return;
        }
        match &trouble {
            Some(error) if error.may_retry() => {
                tracing::warn!(%error, fault = ?error.fault(), "a beat failed; trying again at the next");
            }
            Some(error) => tracing::error!(%error, fault = ?error.fault(), "a beat failed"),
            None => tracing::info!("beats succeed again"),
        }
        self.trouble = trouble;
    }
}

/// Rings `bell` whenever the store's rings. One that is missed is made good for by the next beat.
async fn listen<S: Store>(store: Arc<S>, id: InstanceId, bell: Arc<Notify>, pause: Duration) {
    loop {
        match store.rung(&id).await {
            Ok(true) => bell.notify_one(),
            Ok(false) => {}
            Err(_) => sleep(pause).await, // The beats say what ails the store.
        }
    }
}

/// Waits until the store has something to learn that should not wait for a beat.
async fn has_news(directory: &Directory, presence: &Presence) {
    tokio::select! {
        () = directory.restores().has_new() => {}
        () = directory.has_new() => {}
        () = presence.has_news() => {}
    }
}

fn begin_life() -> Incarnation {
    // A clock before 1970 or after 2106 costs the readable half, not the uniqueness.
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    Incarnation::new(u32::try_from(seconds).unwrap_or(u32::MAX), random() as u32)
}

/// Random enough for uniqueness and jitter: the keys that hash maps draw from the operating system.
fn random() -> u64 {
    RandomState::new().hash_one(())
}
