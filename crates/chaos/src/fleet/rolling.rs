//! Each instance is drained, moves its clients, ends and restarts, one after the other, while clients publish and
//! receive.

use std::time::Duration;

use history_checker::Event;
use tokio::time::{Instant, sleep};

use super::harness::{FleetHarness, INSTANCES, Plan};
use super::report::{Report, seconds, share};
use super::trace::Absence;
use crate::environment::Environment;
use crate::failure::Failure;

const STEADY: Duration = Duration::from_secs(2);
const AFTERMATH: Duration = Duration::from_secs(2);
/// `drain.grace_ms`, and the time that the process needs to end.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(22);
/// How long Redis is down when it is also restarted, in addition to its start.
const REDIS_AWAY: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(10);
/// The clients of an instance leave at this rate at most, or evenly over ten seconds.
const MOVED_PER_SECOND: u64 = 500;
const WINDOW: Duration = Duration::from_secs(10);
const GOING_AWAY: u16 = 1012;

/// The size of the trial.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) clients: usize,
    pub(crate) scopes: usize,
    /// The time between two publishes of one client.
    pub(crate) publish_every: Duration,
    /// The longest time that a client may be without its subscriptions.
    pub(crate) silence: Duration,
}

/// The restart of one instance.
struct InstanceRestart {
    from_us: u64,
    left: Duration,
    /// How long Redis was down in this restart, if it was restarted.
    away: Option<Duration>,
    code: Option<i32>,
    whole: Duration,
}

/// Restarts all instances, one by one. With `redis`, Redis is restarted while the second instance drains.
pub(crate) async fn rolling(environment: &Environment, size: Size, redis: bool, seed: u64) -> Result<Report, Failure> {
    let name = if redis { "rolling-redis" } else { "rolling" };
    let more = if redis { ", and Redis in the middle of it" } else { "" };
    let mut report = Report::new(format!("{name}: every instance is restarted in turn under load{more}"));
    let plan = Plan {
        name: name.into(),
        scopes: size.scopes,
        publish_every: Some(size.publish_every),
        ramp: Duration::from_secs(2),
        connects_per_second: None,
        keeps: redis,
    };
    let mut harness = FleetHarness::open(environment, plan, seed).await?;
    harness.add_clients(size.clients, None);
    harness.until_live(size.clients).await?;
    harness.begin_flow();
    sleep(STEADY).await;
    let (began, from_us) = (Instant::now(), harness.audience.now_us());
    harness.audience.recorder.record(Event::FaultBegan);
    let mut restarts = Vec::new();
    for index in 0..INSTANCES {
        let cuts = harness.cuts() + harness.held_by(index);
        restarts.push(restart(&mut harness, index, redis && index == 1).await?);
        harness.until_back(cuts, size.clients).await?;
    }
    let whole = began.elapsed();
    harness.audience.recorder.record(Event::FaultEnded { proof: "every instance ended and began again".into() });
    sleep(AFTERMATH).await;
    harness.conclude(&mut report).await?;
    report.note_figure("until all three instances had been restarted", format!("{:.2} s", whole.as_secs_f64()));
    report_restarts(&harness, &restarts, &mut report);
    report_silence(&harness, from_us, size.silence, &mut report);
    Ok(report)
}

async fn restart(harness: &mut FleetHarness, index: usize, redis: bool) -> Result<InstanceRestart, Failure> {
    let (began, from_us) = (Instant::now(), harness.audience.now_us());
    harness.gateways[index].process.signal("-TERM")?;
    let mut away = None;
    if redis {
        let killed = Instant::now();
        harness.redis.crash()?;
        sleep(REDIS_AWAY).await;
        harness.redis.restart().await?;
        away = Some(killed.elapsed());
    }
    while harness.gateways[index].process.status()?.is_none() {
        if began.elapsed() > LEAVE_TIME_MAX {
            return Err(Failure::Late(format!("{} has ended after SIGTERM", harness.gateways[index].name)));
        }
        sleep(POLL).await;
    }
    let status = harness.gateways[index].process.status()?;
    let (left, code) = (began.elapsed(), status.and_then(|status| status.code()));
    harness.gateways[index].restart()?;
    harness.gateways[index].await_connected().await?;
    Ok(InstanceRestart { from_us, left, away, code, whole: began.elapsed() })
}

fn report_restarts(harness: &FleetHarness, restarts: &[InstanceRestart], report: &mut Report) {
    let seconds_of = |of: fn(&InstanceRestart) -> Duration| {
        let each: Vec<String> = restarts.iter().map(|restart| format!("{:.2}", of(restart).as_secs_f64())).collect();
        format!("{} s", each.join(" / "))
    };
    report.note_figure("from SIGTERM to the end of the process, of each", seconds_of(|restart| restart.left));
    report.note_figure("from SIGTERM until it was ready again", seconds_of(|restart| restart.whole));
    for away in restarts.iter().filter_map(|restart| restart.away) {
        report.note_figure(
            "Redis was killed in the second turn, and answered again after",
            format!("{:.2} s", away.as_secs_f64()),
        );
    }
    let codes: Vec<_> = restarts.iter().map(|restart| restart.code.unwrap_or(-1)).collect();
    report.check("exit", codes == [0; INSTANCES], "exit codes", format!("{codes:?}"), "all 0");
    for (index, restart) in restarts.iter().enumerate() {
        let until_us = restarts.get(index + 1).map_or(u64::MAX, |next| next.from_us);
        let ends: Vec<u64> = (harness.absences(restart.from_us).iter())
            .map(|absence| absence.ended_us)
            .filter(|ended| *ended < until_us)
            .collect();
        report_pace(index, &ends, report);
    }
}

/// Clients that leave one after the other are a small load for the other instances. Clients that leave at once are a
/// storm.
fn report_pace(index: usize, ends: &[u64], report: &mut Report) {
    let (first, last) = (ends.iter().min().copied().unwrap_or(0), ends.iter().max().copied().unwrap_or(0));
    let due_us = (ends.len() as u64 * 1_000_000 / MOVED_PER_SECOND).min(WINDOW.as_micros() as u64);
    let least = due_us / 2;
    let what = format!("gw-{} moved its {} clients over", index + 1, ends.len());
    let holds = !ends.is_empty() && last - first >= least;
    report.check("pace", holds, what, seconds(last - first), format!("at least {}", seconds(least)));
}

/// A silence is the time from the end of a client's connection until all its subscriptions are active again and every
/// message that was acknowledged by then has arrived.
fn report_silence(harness: &FleetHarness, from_us: u64, most: Duration, report: &mut Report) {
    let absences = harness.absences(from_us);
    report.note_figure("clients moved", absences.len().to_string());
    let was_asked_to_reconnect = |absence: &Absence| absence.code == GOING_AWAY && absence.has_retry_after;
    let without_retry_after = absences.iter().filter(|absence| !was_asked_to_reconnect(absence)).count();
    report.check(
        "reconnect-frame",
        without_retry_after == 0,
        "of those, cut without a reconnect frame and 1012",
        without_retry_after.to_string(),
        "0",
    );
    let mut silences: Vec<u64> =
        absences.iter().map(|absence| absence.caught_up_us.saturating_sub(absence.ended_us)).collect();
    let (half, most_of) = (share(&mut silences, 0.5), share(&mut silences, 0.99));
    report.note_figure(
        "silence of a moved client: half / 99 % of them",
        format!("{} / {}", seconds(half), seconds(most_of)),
    );
    let longest = share(&mut silences, 1.0);
    let holds = !silences.is_empty() && u128::from(longest) <= most.as_micros();
    let bound = format!("within {:.1} s", most.as_secs_f64());
    report.check("silence", holds, "longest silence of any client", seconds(longest), bound);
    let latest = harness.participants.iter().map(|participant| participant.trace.latest_us()).max().unwrap_or(0);
    report.note_figure("the latest message, from its first sending until a client had it", seconds(latest));
}
