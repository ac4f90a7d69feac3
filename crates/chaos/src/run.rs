//! One run: steady, broken, mended, quiet, judged.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use history_checker::{AnomalyKind, Event, Transport, Verdict};
use serde::Serialize;
use test_support::Random;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client::{Behaviour, Client, SharedClients};
use crate::cluster::Cluster;
use crate::contending_sessions;
use crate::entrance::Via;
use crate::failure::Failure;
use crate::fault::Fault;
use crate::load;
use crate::ownership::{Open, Report};
use crate::publisher::{self, SharedPublishers};
use crate::recorder::Recorder;

const STEADY: Duration = Duration::from_millis(1_200);
/// For everything to come back while publishers go on.
const AFTERMATH: Duration = Duration::from_millis(2_500);
const READY_TIME_MAX: Duration = Duration::from_secs(20);
/// Longer than the longest wait of a gateway between two attempts (5 s), and its deadlines.
const QUIET_TIME_MAX: Duration = Duration::from_secs(25);
const SENTINEL_TIME_MAX: Duration = Duration::from_secs(15);
const SETTLE: Duration = Duration::from_millis(300);
const POLL: Duration = Duration::from_millis(20);
const LOG: &str = "history.jsonl";
/// A run that judged less shows nothing.
const DELIVERIES_MIN: u64 = 500;

/// What every run needs to know.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) gateway: PathBuf,
    pub(crate) checker: PathBuf,
    pub(crate) haproxy: PathBuf,
    /// Below which each run has a directory.
    pub(crate) directory: PathBuf,
    /// How much longer than usual publishers go on after the fault.
    pub(crate) longer: Duration,
    /// No client lives on one instance: some instances hear nothing of some scopes.
    pub(crate) scattered: bool,
}

/// One run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) fault: Fault,
    /// How clients reach gateways.
    pub(crate) via: Via,
    /// How clients receive that need no other transport.
    pub(crate) transport: Transport,
    pub(crate) seed: u64,
}

/// What came of a run.
#[derive(Debug, Serialize)]
pub(crate) struct RunOutcome {
    pub(crate) fault: String,
    /// How clients reached gateways.
    pub(crate) via: Via,
    /// How clients received.
    pub(crate) transport: Transport,
    pub(crate) seed: u64,
    /// The fault was there: what shows it. Otherwise why there was no run.
    pub(crate) proof: Result<String, String>,
    /// This machine does not let us inject it.
    pub(crate) is_impossible: bool,
    pub(crate) loses: bool,
    pub(crate) log: PathBuf,
    pub(crate) verdict: Option<Verdict>,
    /// Who owned what.
    pub(crate) ownership: Report,
}

impl RunOutcome {
    pub(crate) fn is_good(&self) -> bool {
        self.proof.is_ok()
            && self.ownership.breaches.is_empty()
            && self.verdict.as_ref().is_some_and(|v| v.is_clean() && v.tally.deliveries >= DELIVERIES_MIN)
            && self.is_over_its_transport()
    }

    /// Whether there were event streams if there were to be.
    fn is_over_its_transport(&self) -> bool {
        let event_streams = self.verdict.as_ref().map_or(0, |verdict| verdict.tally.event_streams);
        (event_streams > 0) == (self.transport == Transport::EventStream)
    }
}

impl RunOutcome {
    /// The first of these kinds that was found, in a run whose fault was there and whose log is whole.
    pub(crate) fn shows(&self, kinds: &[String]) -> Option<String> {
        let verdict = self.verdict.as_ref().filter(|verdict| self.proof.is_ok() && verdict.incomplete.is_empty())?;
        let found = verdict.counts.keys().map(AnomalyKind::to_string);
        let breached = self.ownership.breaches.iter().map(|breach| breach.kind.to_owned());
        found.chain(breached).find(|kind| kinds.contains(kind))
    }
}

/// Runs this fault once.
pub(crate) async fn run(environment: &Environment, case: Case) -> RunOutcome {
    let Case { fault, via, transport, seed } = case;
    let directory = environment.directory.join(format!("{}-{via}-{transport}-{seed}", fault.name()));
    let log = directory.join(LOG);
    let made = make(environment, case, &directory).await;
    let mut outcome = RunOutcome {
        fault: fault.name(),
        via,
        transport,
        seed,
        proof: Ok(String::new()),
        is_impossible: false,
        loses: fault.loses(),
        log: log.clone(),
        verdict: None,
        ownership: Report::default(),
    };
    match made.and_then(|(proof, ownership)| Ok((proof, ownership, judge(&environment.checker, &log)?))) {
        Ok((proof, ownership, verdict)) => {
            (outcome.proof, outcome.ownership, outcome.verdict) = (Ok(proof), ownership, Some(verdict));
        }
        Err(failure) => {
            outcome.is_impossible = matches!(failure, Failure::Impossible(_));
            outcome.proof = Err(failure.to_string());
        }
    }
    if outcome.is_good() {
        // Clean logs are large and tell nothing.
        let _ = std::fs::remove_dir_all(&directory);
    }
    outcome
}

async fn make(environment: &Environment, case: Case, directory: &Path) -> Result<(String, Report), Failure> {
    let Case { fault, via, transport, seed } = case;
    let _ = std::fs::remove_dir_all(directory);
    std::fs::create_dir_all(directory).map_err(Failure::io(directory.display().to_string()))?;
    let mut random = Random::new(seed);
    let recorder = Recorder::create(&directory.join(LOG))?;
    recorder.record(Event::Run {
        fault: fault.name(),
        loses: fault.loses(),
        keyless: vec![load::KEYLESS.into()],
        no_history: Vec::new(),
        local: fault.local().iter().map(ToString::to_string).collect(),
        newest: vec![load::NEWEST.into()],
        forgets: fault.forgets(),
    });
    let mut cluster = Cluster::start(fault, via, environment, directory, random.fork()).await?;
    let participants =
        Participants { is_scattered: environment.scattered, has_slow_readers: fault.has_slow_readers(), transport };
    let mut harness = RunHarness::enter(&cluster, participants, recorder.clone(), &mut random);
    harness.until_all_active().await?;
    harness.publish(&mut random);
    harness.is_calm.send_replace(false);
    sleep(STEADY).await;
    recorder.record(Event::FaultBegan);
    let mut proof = match fault {
        Fault::TwoSockets => contending_sessions::contend(&mut harness, &mut cluster).await?,
        _ => fault.inject(&mut cluster).await?,
    };
    if let Some(balancer) = &cluster.balancer {
        proof = format!("{proof}; {}", balancer.proof()?);
    }
    recorder.record(Event::FaultEnded { proof: proof.clone() });
    sleep(AFTERMATH + environment.longer).await;
    harness.quiesce(&cluster).await;
    recorder.record(Event::Quiesced);
    harness.send_sentinels(&cluster).await;
    recorder.end()?;
    Ok((proof, harness.report(&cluster).await))
}

/// Who takes part in a run.
#[derive(Debug, Clone, Copy)]
struct Participants {
    /// No client lives on one instance.
    is_scattered: bool,
    has_slow_readers: bool,
    /// How clients receive that need no other transport.
    transport: Transport,
}

/// Clients and publishers; they end when this is dropped.
pub(crate) struct RunHarness {
    recorder: Recorder,
    pub(crate) clients: Arc<SharedClients>,
    publishers: Arc<SharedPublishers>,
    pub(crate) is_calm: watch::Sender<bool>,
    is_stopped: watch::Sender<bool>,
    /// Subscriptions of all clients.
    pub(crate) subscriptions: usize,
    has_slow_readers: bool,
    pub(crate) tasks: JoinSet<()>,
}

impl RunHarness {
    /// Clients connect; nobody leaves and nobody publishes yet.
    fn enter(cluster: &Cluster, participants: Participants, recorder: Recorder, random: &mut Random) -> Self {
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
        // What Redis has lost is known to those instances alone that had heard it: see docs/redis.md.
        let residents = (0..count)
            .filter(|_| !is_scattered)
            .map(|home| (Behaviour::STAYS.at(home), load::resident_patterns(has_slow_readers)));
        let guests = (0..load::CLIENTS).map(|number| {
            let behaviour =
                [Behaviour::STAYS, Behaviour::ROAMS, Behaviour::STAYS, Behaviour::ROAMS, Behaviour::FORGETS]
                    [number % 5];
            (behaviour, load::patterns(number))
        });
        // Some come back to the instance that they left, which may not have noticed.
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

    fn publish(&mut self, random: &mut Random) {
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

    /// Everybody comes back and has time to. Whether they did is for the checker to say.
    async fn quiesce(&self, cluster: &Cluster) {
        self.is_calm.send_replace(true);
        self.is_stopped.send_replace(true);
        wait(QUIET_TIME_MAX, || self.publishers.running.load(Ordering::Relaxed) == 0).await;
        let connected = || cluster.gateways.iter().all(crate::gateway::Gateway::is_connected);
        wait(QUIET_TIME_MAX, || self.all_active() && connected()).await;
        sleep(SETTLE).await;
    }

    /// What became of ownership, once the rows have had time to follow the sockets.
    async fn report(&self, cluster: &Cluster) -> Report {
        cluster.ownership.settle(&self.clients.open).await;
        cluster.ownership.report()
    }

    async fn send_sentinels(&self, cluster: &Cluster) {
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

/// Polls until it is so; false if it took too long.
pub(crate) async fn wait(at_most: Duration, is_so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + at_most;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(POLL).await;
    }
    true
}

/// Lets the checker judge the log, as a process of its own.
pub(crate) fn judge(checker: &Path, log: &Path) -> Result<Verdict, Failure> {
    let output = Command::new(checker).arg("--json").arg(log).output();
    let output = output.map_err(Failure::io(format!("starting {}", checker.display())))?;
    let verdict: Verdict = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::Checker(format!("{error}; it said {}", String::from_utf8_lossy(&output.stderr))))?;
    // The exit code and the text are two ways to say one thing.
    if output.status.success() == verdict.is_clean() {
        Ok(verdict)
    } else {
        Err(Failure::Checker(format!("{} and its verdict differ", output.status)))
    }
}
