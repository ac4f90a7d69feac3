//! A fleet of three instances with default configuration, their Redis, their clients, and a constant flow of messages.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use history_checker::{Event, PublishAnswer, Retry, Verdict};
use test_support::{Random, token};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::audience::{Audience, scope_of};
use super::report::Report;
use super::subscriber::{ClientIdentity, Subscriber};
use super::trace::{Absence, Trace};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::polling::wait;
use crate::publisher::{RedisPublisher, sentinel};
use crate::recorder::Recorder;
use crate::redis_server::RedisServer;
use crate::run::judge;

pub(crate) const INSTANCES: usize = 3;
/// The time between two messages of the flow.
const PACE: Duration = Duration::from_millis(100);
const LIVE_TIME_MAX: Duration = Duration::from_secs(60);
const SENTINEL_TIME_MAX: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_millis(300);
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The settings of a trial.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) name: String,
    /// Number of scopes with their own id. Each client subscribes to one of them, and to the scope that all clients
    /// share.
    pub(crate) scopes: usize,
    /// The time between two publishes of one client.
    pub(crate) publish_every: Option<Duration>,
    /// Clients connect within this time.
    pub(crate) ramp: Duration,
    /// New connections per second that an instance accepts. Without it, the default applies.
    pub(crate) connects_per_second: Option<u32>,
    /// Redis keeps all data over a restart.
    pub(crate) keeps: bool,
}

impl Plan {
    /// The patterns to which client `number` subscribes.
    pub(crate) fn patterns(&self, number: usize) -> Vec<String> {
        vec![format!("collection:{}:*", number % self.scopes), "collection:hall:*".into()]
    }

    fn scope_names(&self) -> Vec<String> {
        let numbered = (0..self.scopes).map(|number| format!("collection:{number}"));
        numbered.chain(["collection:hall".into()]).collect()
    }
}

/// A client of the trial, with its task and its trace.
#[derive(Debug)]
pub(crate) struct Participant {
    pub(crate) identity: ClientIdentity,
    pub(crate) trace: Trace,
    task: AbortHandle,
}

/// When it is dropped, clients end first, then gateways, then Redis.
#[derive(Debug)]
pub(crate) struct FleetHarness {
    pub(crate) participants: Vec<Participant>,
    tasks: JoinSet<()>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) redis: RedisServer,
    pub(crate) audience: Arc<Audience>,
    pub(crate) plan: Plan,
    is_calm: watch::Sender<bool>,
    random: Random,
    directory: PathBuf,
    checker: PathBuf,
}

impl FleetHarness {
    pub(crate) async fn open(environment: &Environment, plan: Plan, seed: u64) -> Result<Self, Failure> {
        let directory = environment.directory.join(format!("fleet-{}", plan.name));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).map_err(Failure::io(directory.display().to_string()))?;
        let recorder = Recorder::create(&directory.join("history.jsonl"))?;
        recorder.record(Event::Run {
            fault: plan.name.clone(),
            loses: false,
            keyless: Vec::new(),
            no_history: Vec::new(),
            local: Vec::new(),
            newest: Vec::new(),
            forgets: false,
        });
        let args: &[&str] = if plan.keeps { &["--appendonly", "yes", "--appendfsync", "always"] } else { &[] };
        let redis = RedisServer::start("primary", &directory, args).await?;
        let mut gateways = Vec::new();
        for number in 1..=INSTANCES {
            let name = format!("gw-{number}");
            let text = |address, admin| configuration(&name, address, admin, redis.address, &plan);
            gateways.push(Gateway::start_with(&name, &environment.gateway, &directory, text)?);
        }
        for gateway in &mut gateways {
            gateway.await_connected().await?;
        }
        let (is_calm, calm) = watch::channel(false);
        let addresses = gateways.iter().map(|gateway| (gateway.name.clone(), gateway.address)).collect();
        let audience = Arc::new(Audience::new(recorder, addresses, plan.ramp, plan.publish_every, calm));
        let (random, checker) = (Random::new(seed), environment.checker.clone());
        let (participants, tasks) = (Vec::new(), JoinSet::new());
        Ok(Self { participants, tasks, gateways, redis, audience, plan, is_calm, random, directory, checker })
    }

    /// Adds one more client.
    pub(crate) fn add_client(&mut self, identity: ClientIdentity) {
        let trace = Trace::default();
        let (audience, random) = (Arc::clone(&self.audience), self.random.fork());
        let client = Subscriber::new(self.participants.len(), identity.clone(), audience, trace.clone(), random);
        let task = self.tasks.spawn(client.run());
        self.participants.push(Participant { identity, trace, task });
    }

    /// Adds clients until there are `count`. Each is its own user. They are spread over the instances, or all go to
    /// `first`.
    pub(crate) fn add_clients(&mut self, count: usize, first: Option<usize>) {
        for number in self.participants.len()..count {
            self.add_one_client(number, first);
        }
    }

    fn add_one_client(&mut self, number: usize, first: Option<usize>) {
        let name = format!("client-{number}");
        let (user, patterns) = (name.clone(), self.plan.patterns(number));
        let first = first.or(Some(number % INSTANCES));
        self.add_client(ClientIdentity { name, user, patterns, keeps_session: true, first });
    }

    /// Ends the clients that meet this condition. The log records that they left for good.
    pub(crate) fn retire(&mut self, leaves: impl Fn(&Participant) -> bool) {
        let (gone, stay) = std::mem::take(&mut self.participants).into_iter().partition(leaves);
        self.participants = stay;
        for participant in gone {
            participant.task.abort();
            self.audience.recorder.record(Event::Retired { client: participant.identity.name });
        }
    }

    /// Waits until this many clients have all their subscriptions.
    pub(crate) async fn until_live(&self, count: usize) -> Result<(), Failure> {
        if wait(LIVE_TIME_MAX, || self.audience.live.load(Ordering::Relaxed) >= count).await {
            return Ok(());
        }
        let live = self.audience.live.load(Ordering::Relaxed);
        Err(Failure::Late(format!("{count} clients have their subscriptions; {live} have")))
    }

    /// Waits as [`Self::until_live`] does, after this many connections have been lost.
    pub(crate) async fn until_back(&self, cuts: usize, count: usize) -> Result<(), Failure> {
        if wait(LIVE_TIME_MAX, || self.cuts() >= cuts).await {
            return self.until_live(count).await;
        }
        Err(Failure::Late(format!("{cuts} connections have been cut; {} have", self.cuts())))
    }

    /// Number of connections that have been lost so far.
    pub(crate) fn cuts(&self) -> usize {
        self.audience.cuts.load(Ordering::Relaxed)
    }

    /// Number of clients that are connected to this instance, according to their `welcome`.
    pub(crate) fn held_by(&self, instance: usize) -> usize {
        self.participants.iter().filter(|participant| participant.trace.instance() == Some(instance)).count()
    }

    /// Starts the publisher of the flow.
    pub(crate) fn begin_flow(&mut self) {
        let (audience, redis, scopes) = (Arc::clone(&self.audience), self.redis.address, self.plan.scope_names());
        self.tasks.spawn(flow(audience, redis, scopes));
    }

    /// The interruptions of all clients since `from_us`.
    pub(crate) fn absences(&self, from_us: u64) -> Vec<Absence> {
        let acknowledged = self.audience.acknowledged();
        let of = |participant: &Participant| {
            let scopes: Vec<_> =
                participant.identity.patterns.iter().map(|pattern| scope_of(pattern).to_owned()).collect();
            participant.trace.absences(from_us, &scopes, &acknowledged)
        };
        self.participants.iter().flat_map(of).collect()
    }

    /// Stops the publishers, sends the sentinels, and lets the checker judge. The report contains its verdict.
    pub(crate) async fn conclude(&mut self, report: &mut Report) -> Result<Verdict, Failure> {
        self.is_calm.send_replace(true);
        self.until_live(self.participants.len()).await?;
        let audience = Arc::clone(&self.audience);
        wait(LIVE_TIME_MAX, || audience.unanswered.load(Ordering::Relaxed) == 0).await;
        sleep(SETTLE).await;
        audience.recorder.record(Event::Quiesced);
        for scope in self.plan.scope_names() {
            sentinel(&audience.recorder, self.redis.address, format!("{scope}:notes"), SENTINEL_TIME_MAX).await;
        }
        let expected: usize = self.participants.iter().map(|participant| participant.identity.patterns.len()).sum();
        wait(SENTINEL_TIME_MAX, || audience.sentinels.load(Ordering::Relaxed) >= expected).await;
        sleep(SETTLE).await;
        audience.recorder.end()?;
        let (checker, log) = (self.checker.clone(), self.directory.join("history.jsonl"));
        let judged = tokio::task::spawn_blocking(move || judge(&checker, &log)).await;
        let verdict = judged.map_err(|error| Failure::Checker(error.to_string()))??;
        self.write_report(&verdict, report);
        Ok(verdict)
    }

    fn write_report(&self, verdict: &Verdict, report: &mut Report) {
        let tally = &verdict.tally;
        let judged = format!("{} of {} messages", tally.deliveries, tally.messages);
        report.note_figure("deliveries judged by the history checker", judged);
        report.note_figure("subscriptions resumed", tally.resumed.to_string());
        let enough = tally.deliveries > self.participants.len() as u64;
        let measured = format!("{} / {}", verdict.silent(), verdict.counts.values().sum::<u64>() - verdict.silent());
        let is_clean = verdict.is_clean() && enough;
        report.check("anomalies", is_clean, "lost, doubled or reordered in silence / false gaps", measured, "0 / 0");
        if verdict.is_clean() {
            // Logs of clean runs are large and not needed.
            let _ = std::fs::remove_file(self.directory.join("history.jsonl"));
        } else {
            println!("{verdict}  the log: {}", self.directory.join("history.jsonl").display());
        }
    }
}

/// Publishes to all scopes in turn until the trial is calm. A message without an answer is published again under its
/// id.
async fn flow(audience: Arc<Audience>, redis: SocketAddr, scopes: Vec<String>) {
    let mut publisher = RedisPublisher::new(redis);
    let mut due = Instant::now();
    for scope in scopes.iter().cycle() {
        if *audience.is_calm.borrow() {
            return;
        }
        let draft = audience.draft(format!("{scope}:notes"));
        let mut retry = Retry::No;
        audience.unanswered.fetch_add(1, Ordering::Relaxed);
        loop {
            draft.sent(&audience.recorder, None, retry);
            retry = Retry::SameId;
            let answer = publisher.publish(&draft, true).await;
            if let PublishAnswer::Reply(text) = &answer
                && let Ok(position) = text.parse()
            {
                audience.acknowledge(&draft, position);
            }
            let is_known = !matches!(answer, PublishAnswer::Nothing(_));
            draft.answered(&audience.recorder, answer);
            if is_known {
                break;
            }
            sleep(RETRY_PAUSE).await;
        }
        audience.unanswered.fetch_sub(1, Ordering::Relaxed);
        due = (due + PACE).max(Instant::now());
        sleep_until(due).await;
    }
}

/// The default configuration, with addresses and with a family that refuses what it cannot store. All clients have one
/// address, so its limits do not count.
fn configuration(name: &str, address: SocketAddr, admin: SocketAddr, redis: SocketAddr, plan: &Plan) -> String {
    let connects = plan.connects_per_second.map(|rate| format!("limits.connects_per_second = {rate}\n"));
    format!(
        "instance = \"{name}\"\nlisten = \"{address}\"\nadmin_listen = \"{admin}\"\nbroker = \"redis\"\n\
         redis.url = \"redis://{redis}\"\nauth.keys = {}\n{}\
         limits.connections_per_address = 1000000\nlimits.connects_per_second_per_address = 1000000\n\
         [[families]]\nname = \"collection\"\non_isolation = \"read_only\"\n",
        token::keys(),
        connects.unwrap_or_default()
    )
}
