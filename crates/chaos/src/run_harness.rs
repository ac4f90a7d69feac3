//! The clients and publishers of one run, from the first connection to the last message.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use history_checker::Transport;
use test_support::Random;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{Behaviour, Client, SharedClients};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::load;
use crate::ownership::{Open, Report};
use crate::polling::wait;
use crate::publisher::{self, SharedPublishers};
use crate::recorder::Recorder;

const READY_TIME_MAX: Duration = Duration::from_secs(20);
/// Longer than the longest wait of a gateway between two attempts (5 s), plus its deadlines.
const QUIET_TIME_MAX: Duration = Duration::from_secs(25);
const SENTINEL_TIME_MAX: Duration = Duration::from_secs(15);
const SETTLE: Duration = Duration::from_millis(300);

/// The participants of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Participants {
    /// No client is bound to one instance.
    pub(crate) is_scattered: bool,
    pub(crate) has_slow_readers: bool,
    /// The transport of clients that can use any transport.
    pub(crate) transport: Transport,
}

/// The clients and publishers. They end when this is dropped.
pub(crate) struct RunHarness {
    recorder: Recorder,
    pub(crate) clients: Arc<SharedClients>,
    publishers: Arc<SharedPublishers>,
    pub(crate) is_calm: watch::Sender<bool>,
    is_stopped: watch::Sender<bool>,
    /// Number of subscriptions of all clients.
    pub(crate) subscriptions: usize,
    has_slow_readers: bool,
    pub(crate) tasks: JoinSet<()>,
}

impl RunHarness {
    /// Connects the clients. No client leaves and no publisher publishes yet.
    pub(crate) fn enter(
        cluster: &Cluster,
        participants: Participants,
        recorder: Recorder,
        random: &mut Random,
    ) -> Self {
        let Participants { is_scattered, has_slow_readers, transport } = participants;
        let (entrance, count) = (cluster.entrance(), cluster.gateways.len());
        let ((is_calm, calm), (is_stopped, stopped)) = (watch::channel(true), watch::channel(false));
        let clients = Arc::new(SharedClients {
            recorder: recorder.clone(),
            entrance: entrance.clone(),
            is_calm: calm,
            active: AtomicUsize::new(0),
            sentinels: AtomicUsize::new(0),
            open: Open::default(),
        });
        let publishers = Arc::new(SharedPublishers {
            recorder: recorder.clone(),
            entrance,
            redis: cluster.calls.address,
            is_stopped: stopped,
            running: AtomicUsize::new(0),
        });
        let (mut tasks, mut subscriptions) = (JoinSet::new(), 0);
        // Only instances that had received a message know that Redis lost it: see docs/redis.md.
        let residents = (0..count)
            .filter(|_| !is_scattered)
            .map(|home| (Behaviour::STAYS.at(home), load::resident_patterns(has_slow_readers)));
        let guests = (0..load::CLIENTS).map(|number| {
            let behaviour =
                [Behaviour::STAYS, Behaviour::ROAMS, Behaviour::STAYS, Behaviour::ROAMS, Behaviour::FORGETS]
                    [number % 5];
            (behaviour, load::patterns(number))
        });
        // Some clients return to the instance that they left, which may not have noticed that they left.
        let restored = (0..load::RESTORED).map(|number| {
            let (roams, home) = (Behaviour::ROAMS_AND_RESTORES, number % count);
            ([roams, roams.at(home), Behaviour::RESTORES][number / count % 3], load::patterns(number))
        });
        let slow = (0..load::SLOW).filter(|_| has_slow_readers).map(|number| {
            let manners = [Behaviour::STAYS, Behaviour::ROAMS, Behaviour::ROAMS_AND_RESTORES];
            (manners[number / load::SLOW_SCOPES.len() % 3].slowly(), vec![load::slow_pattern(number)])
        });
        for (number, (behaviour, patterns)) in residents.chain(guests).chain(restored).chain(slow).enumerate() {
            subscriptions += patterns.len();
            let client =
                Client::new(format!("client-{number}"), behaviour, patterns, Arc::clone(&clients), random.fork());
            tasks.spawn(client.over(transport).run());
        }
        Self { recorder, clients, publishers, is_calm, is_stopped, subscriptions, has_slow_readers, tasks }
    }

    fn all_active(&self) -> bool {
        self.clients.active.load(Ordering::Relaxed) == self.subscriptions
    }

    pub(crate) async fn until_all_active(&self) -> Result<(), Failure> {
        if wait(READY_TIME_MAX, || self.all_active()).await {
            return Ok(());
        }
        Err(Failure::Late("every client has its subscriptions".into()))
    }

    pub(crate) fn publish(&mut self, random: &mut Random) {
        let in_bulk = usize::from(self.has_slow_readers);
        let count = load::GATEWAY_PUBLISHERS + load::REDIS_PUBLISHERS + in_bulk;
        self.publishers.running.store(count, Ordering::Relaxed);
        for number in 0..load::GATEWAY_PUBLISHERS {
            self.tasks.spawn(publisher::by_gateway(number, Arc::clone(&self.publishers), random.fork()));
        }
        for _ in 0..load::REDIS_PUBLISHERS {
            self.tasks.spawn(publisher::by_call(Arc::clone(&self.publishers), random.fork()));
        }
        for _ in 0..in_bulk {
            self.tasks.spawn(publisher::in_bulk(Arc::clone(&self.publishers), random.fork()));
        }
    }

    /// All clients get time to return. The checker decides whether they did.
    pub(crate) async fn quiesce(&self, cluster: &Cluster) {
        self.is_calm.send_replace(true);
        self.is_stopped.send_replace(true);
        wait(QUIET_TIME_MAX, || self.publishers.running.load(Ordering::Relaxed) == 0).await;
        let connected = || cluster.gateways.iter().all(Gateway::is_connected);
        wait(QUIET_TIME_MAX, || self.all_active() && connected()).await;
        sleep(SETTLE).await;
    }

    /// Returns the ownership report, after the rows have had time to match the sockets.
    pub(crate) async fn report(&self, cluster: &Cluster) -> Report {
        cluster.ownership.settle(&self.clients.open).await;
        cluster.ownership.report()
    }

    pub(crate) async fn send_sentinels(&self, cluster: &Cluster) {
        for scope in load::scopes(self.has_slow_readers) {
            publisher::sentinel(
                &self.recorder,
                cluster.calls.address,
                load::sentinel_channel(scope),
                SENTINEL_TIME_MAX,
            )
            .await;
        }
        wait(SENTINEL_TIME_MAX, || self.clients.sentinels.load(Ordering::Relaxed) >= self.subscriptions).await;
        sleep(SETTLE).await;
    }
}
