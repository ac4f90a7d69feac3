//! An instance is killed, and all its clients reconnect to the other instances at once.

use std::collections::BTreeMap;
use std::time::Duration;

use history_checker::Event;
use tokio::time::{Instant, sleep};

use super::harness::{FleetHarness, INSTANCES, Plan};
use super::meter::{Commands, IncarnationKeys, resident};
use super::report::{Report, seconds, share};
use super::stale_rows;
use super::trace::{Absence, Step};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::process;

const STEADY: Duration = Duration::from_secs(3);
const AFTERMATH: Duration = Duration::from_secs(1);
/// Clients see a `welcome` a little later than it is sent, and with shorter intervals.
const SEEN_LATER: Duration = Duration::from_millis(400);

/// The size of the trial.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) clients: usize,
    pub(crate) scopes: usize,
    /// The connection rate of the instances. Without it, the default applies.
    pub(crate) connects_per_second: Option<u32>,
    /// All clients are back within this time.
    pub(crate) back: Duration,
    /// Waiting time after the returned clients have left again.
    pub(crate) quiet: Duration,
}

/// The default number of connections that an instance accepts per second.
const CONNECTS_PER_SECOND: u32 = 3_000;
/// Memory that may remain after the clients have left: pages of 64 KiB that are not quite empty, and table slots,
/// because tables keep their size.
const SLACK_BYTES: u64 = 2 * 1024 * 1024;
const SLACK_PER_GUEST_BYTES: u64 = 1_536;
/// Clients that join at the same time share a read. When they join one by one, each of the first ones of a scope may
/// need its own read.
const READS_PER_SCOPE: u64 = 10;

/// The first instance serves a third of all clients, or `all` of them.
pub(crate) async fn storm(environment: &Environment, size: Size, all: bool, seed: u64) -> Result<Report, Failure> {
    let name = if all { "storm-all" } else { "storm" };
    let mut report = Report::new(format!("{name}: an instance is killed, its clients come back to the others at once"));
    let rate = size.connects_per_second.unwrap_or(CONNECTS_PER_SECOND);
    // The ramp is below the accepted rate, so that no client is refused before the kill.
    let attempts_without_instance = if all { 1.0 } else { 2.0 };
    let ramp = Duration::from_secs_f64(size.clients as f64 / f64::from(rate) / attempts_without_instance)
        + Duration::from_secs(1);
    let plan = Plan {
        name: name.into(),
        scopes: size.scopes,
        publish_every: None,
        ramp,
        connects_per_second: size.connects_per_second,
        keeps: false,
    };
    let mut harness = FleetHarness::open(environment, plan, seed).await?;
    harness.add_clients(size.clients, all.then_some(0));
    harness.until_live(size.clients).await?;
    harness.begin_flow();
    sleep(STEADY).await;
    let memory_before = survivors(&harness)?;
    let redis_before = Commands::read(&harness.redis).await?;
    let killed = kill(&mut harness).await?;
    let back = async {
        harness.until_back(killed.clients, size.clients).await?;
        Commands::read(&harness.redis).await
    };
    let (gone, redis) = tokio::join!(stale_rows::watch(&harness.redis, &killed.incarnation_id, killed.at), back);
    let redis = redis?.since(redis_before);
    let memory_height = survivors(&harness)?;
    sleep(AFTERMATH).await;
    stale_rows::write_report(gone, &mut report);
    harness.conclude(&mut report).await?;
    let absences = harness.absences(killed.at_us);
    let victims = absences.len();
    report_return(&absences, killed.at_us, size.back, &mut report);
    report_admission(&harness, killed.at_us, rate, &mut report);
    report_redis(redis, victims as u64, size.scopes as u64 + 1, &mut report);
    // The returned clients leave again. Only the clients from before the kill remain.
    harness.retire(|participant| !participant.trace.absences(killed.at_us, &[], &BTreeMap::new()).is_empty());
    sleep(size.quiet).await;
    report_memory(&memory_before, &memory_height, &survivors(&harness)?, victims as u64, &mut report);
    Ok(report)
}

struct Killed {
    incarnation_id: IncarnationKeys,
    /// Number of clients that the killed instance served.
    clients: usize,
    at: Instant,
    at_us: u64,
}

async fn kill(harness: &mut FleetHarness) -> Result<Killed, Failure> {
    let name = harness.gateways[0].name.clone();
    let incarnation_id = IncarnationKeys::of(&harness.redis, &name)
        .await?
        .ok_or_else(|| Failure::Unproven(format!("{name} is not listed")))?;
    let clients = harness.held_by(0);
    let rows = incarnation_id.rows(&harness.redis).await?;
    harness.audience.recorder.record(Event::FaultBegan);
    let (at, at_us) = (Instant::now(), harness.audience.now_us());
    let signal = process::kill(&mut harness.gateways[0].process)?;
    let proof = format!("{name} died of signal {signal} with {rows} connections");
    harness.audience.recorder.record(Event::FaultEnded { proof: proof.clone() });
    if signal == 9 && clients > 0 && rows == clients as u64 {
        Ok(Killed { incarnation_id, clients, at, at_us })
    } else {
        Err(Failure::Unproven(proof))
    }
}

fn survivors(harness: &FleetHarness) -> Result<Vec<u64>, Failure> {
    harness.gateways[1..INSTANCES].iter().map(|gateway| resident(gateway.process.pid())).collect()
}

fn report_return(absences: &[Absence], killed_us: u64, back: Duration, report: &mut Report) {
    let since = |of: fn(&Absence) -> u64| -> Vec<u64> {
        absences.iter().map(|absence| of(absence).saturating_sub(killed_us)).collect()
    };
    report.note_figure("clients that were cut and came back", absences.len().to_string());
    let mut seen = since(|absence| absence.ended_us);
    report.note_figure("until half / all of them saw their socket closed", {
        format!("{} / {}", seconds(share(&mut seen, 0.5)), seconds(share(&mut seen, 1.0)))
    });
    let mut live = since(|absence| absence.live_us);
    report.note_figure("until 99 % / all had their subscriptions again", {
        format!("{} / {}", seconds(share(&mut live, 0.99)), seconds(share(&mut live, 1.0)))
    });
    let mut caught_up = since(|absence| absence.caught_up_us);
    report.note_figure("until 99 % were back and had everything", seconds(share(&mut caught_up, 0.99)));
    let last = share(&mut caught_up, 1.0);
    let holds = !absences.is_empty() && u128::from(last) <= back.as_micros();
    let bound = format!("within {} s", back.as_secs());
    report.check("back", holds, "until all were back and had everything", seconds(last), bound);
}

/// Checks by the clients' own records that no instance accepted more than its rate, and that refused clients got a time
/// to retry.
fn report_admission(harness: &FleetHarness, from_us: u64, rate: u32, report: &mut Report) {
    let (mut welcomes, mut refused, mut without_retry_after) = (vec![Vec::new(); INSTANCES], 0_u64, 0_u64);
    for participant in &harness.participants {
        for moment in participant.trace.moments().iter().filter(|moment| moment.at_us > from_us) {
            match moment.step {
                Step::Welcomed(instance) => welcomes[instance].push(moment.at_us),
                Step::Ended(1013, has_retry_after) => {
                    (refused, without_retry_after) = (refused + 1, without_retry_after + u64::from(!has_retry_after))
                }
                Step::NoInstance | Step::Live | Step::Has(..) | Step::Ended(..) => {}
            }
        }
    }
    report.note_figure("refused with 1013, and tried again after the delay that was named", refused.to_string());
    report.check(
        "retry-after",
        without_retry_after == 0,
        "of those, not told when to come back",
        without_retry_after.to_string(),
        "0",
    );
    let burst = f64::from(rate);
    let most = welcomes.iter_mut().map(|times| excess(times, burst)).max().unwrap_or(0);
    let bound = (burst * (1.0 + SEEN_LATER.as_secs_f64())) as u64;
    report.check(
        "admission",
        most <= bound,
        format!("most clients an instance let in above {rate} per second"),
        most.to_string(),
        format!("at most {bound}"),
    );
}

/// The largest number of arrivals above `rate` per second, over any time span.
fn excess(times: &mut [u64], rate: f64) -> u64 {
    times.sort_unstable();
    let (mut level, mut last, mut most) = (0.0_f64, 0, 0.0_f64);
    for &at in times.iter() {
        level = (level - rate * (at - last) as f64 / 1e6).max(0.0) + 1.0;
        (last, most) = (at, most.max(level));
    }
    most as u64
}

fn report_redis(redis: Commands, victims: u64, scopes: u64, report: &mut Report) {
    let each = |count: u64| format!("{:.2}", count as f64 / victims.max(1) as f64);
    report.note_figure("calls to Redis for each client that came back", each(redis.calls));
    report.note_figure("commands of Redis for each of them, those within functions counted", each(redis.all));
    let resumed = 2 * victims;
    let bound = resumed / 2 + scopes * (INSTANCES as u64 - 1) * READS_PER_SCOPE;
    let what = format!("reads of history for {resumed} subscriptions, {scopes} scopes, {} instances", INSTANCES - 1);
    report.check(
        "reads",
        redis.history_reads <= bound,
        what,
        redis.history_reads.to_string(),
        format!("at most {bound}"),
    );
}

fn report_memory(before: &[u64], height: &[u64], after: &[u64], victims: u64, report: &mut Report) {
    let slack = SLACK_BYTES + victims / before.len() as u64 * SLACK_PER_GUEST_BYTES;
    for (index, ((before, height), after)) in before.iter().zip(height).zip(after).enumerate() {
        let mib = |bytes: &u64| *bytes as f64 / 1_048_576.0;
        let measured = format!("{:.1} / {:.1} / {:.1} MiB", mib(before), mib(height), mib(after));
        let bound = format!("first + {:.1} MiB", mib(&slack));
        let what = format!("memory of gw-{}: before / with its guests / when they had left", index + 2);
        report.check("memory", *after <= before + slack, what, measured, bound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_ahead_of_a_rate_is_counted() {
        // A hundred arrivals at once, then a hundred per second.
        let mut times: Vec<u64> = vec![1_000_000; 100];
        times.extend((1..=100).map(|n| 1_000_000 + n * 10_000));
        assert_eq!(excess(&mut times, 100.0), 100);
        // Three hundred arrivals within half a second.
        let mut times: Vec<u64> = (0..300).map(|n| n * 500_000 / 300).collect();
        assert!((249..=251).contains(&excess(&mut times, 100.0)));
    }
}
