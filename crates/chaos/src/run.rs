//! One run: steady, broken, mended, quiet, judged.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use history_checker::{AnomalyKind, Event, Transport, Verdict};
use serde::Serialize;
use test_support::Random;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::contending_sessions;
use crate::entrance::Via;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::fault::Fault;
use crate::injection;
use crate::load;
use crate::ownership::Report;
use crate::recorder::Recorder;
use crate::run_harness::{Participants, RunHarness};

const STEADY: Duration = Duration::from_millis(1_200);
/// Time for everything to recover while publishers continue.
const AFTERMATH: Duration = Duration::from_millis(2_500);
const LOG: &str = "history.jsonl";
/// A run with fewer judged deliveries proves nothing.
const DELIVERIES_MIN: u64 = 500;

/// The parameters of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) fault: Fault,
    /// How clients reach gateways.
    pub(crate) via: Via,
    /// The transport of clients that can use any transport.
    pub(crate) transport: Transport,
    pub(crate) seed: u64,
}

/// The result of a run.
#[derive(Debug, Serialize)]
pub(crate) struct RunOutcome {
    pub(crate) fault: String,
    /// How clients reached gateways.
    pub(crate) via: Via,
    /// The transport over which clients received.
    pub(crate) transport: Transport,
    pub(crate) seed: u64,
    /// The proof that the fault took effect, or the reason why there was no run.
    pub(crate) proof: Result<String, String>,
    /// This machine does not permit the fault.
    pub(crate) is_impossible: bool,
    pub(crate) loses: bool,
    pub(crate) log: PathBuf,
    pub(crate) verdict: Option<Verdict>,
    /// The observations about ownership.
    pub(crate) ownership: Report,
}

impl RunOutcome {
    pub(crate) fn is_good(&self) -> bool {
        self.proof.is_ok()
            && self.ownership.breaches.is_empty()
            && self.verdict.as_ref().is_some_and(|v| v.is_clean() && v.tally.deliveries >= DELIVERIES_MIN)
            && self.is_over_its_transport()
    }

    /// Whether event streams were used if, and only if, clients had to receive over them.
    fn is_over_its_transport(&self) -> bool {
        let event_streams = self.verdict.as_ref().map_or(0, |verdict| verdict.tally.event_streams);
        (event_streams > 0) == (self.transport == Transport::EventStream)
    }
}

impl RunOutcome {
    /// The first of these kinds that was found, if the fault took effect and the log is complete.
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
        // Logs of clean runs are large and not needed.
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
        _ => injection::inject(fault, &mut cluster).await?,
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

/// Runs the checker as its own process to judge the log.
pub(crate) fn judge(checker: &Path, log: &Path) -> Result<Verdict, Failure> {
    let output = Command::new(checker).arg("--json").arg(log).output();
    let output = output.map_err(Failure::io(format!("starting {}", checker.display())))?;
    let verdict: Verdict = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::Checker(format!("{error}; it said {}", String::from_utf8_lossy(&output.stderr))))?;
    // The exit code and the text must agree.
    if output.status.success() == verdict.is_clean() {
        Ok(verdict)
    } else {
        Err(Failure::Checker(format!("{} and its verdict differ", output.status)))
    }
}
