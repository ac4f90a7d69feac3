//! Each instance in turn is asked to leave, moves its clients, ends, and is started again, while clients publish and hear.

use std::time::Duration;

use history_checker::Event;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::report::{Report, seconds, share};
use super::stage::{INSTANCES, Plan, Stage};
use super::trace::Absence;
use crate::failure::Failure;
use crate::run::Bench;

const STEADY: Duration = Duration::from_secs(2);
const AFTERMATH: Duration = Duration::from_secs(2);
/// `drain.grace_ms`, and what the process needs to end.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(22);
/// How long Redis is away when it is restarted too, beside its start.
const REDIS_AWAY: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(10);
/// Clients of an instance leave at most at this rate, or evenly over ten seconds.
const MOVED_PER_SECOND: u64 = 500;
const WINDOW: Duration = Duration::from_secs(10);
const GOING_AWAY: u16 = 1012;

/// How large it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) clients: usize,
    pub(crate) scopes: usize,
    /// From one publish of a client to its next.
    pub(crate) publish_every: Duration,
    /// No client is without its subscriptions for longer.
    pub(crate) silence: Duration,
}

/// One instance's turn.
struct Turn {
    from_us: u64,
    left: Duration,
    /// Without Redis.
    away: Option<Duration>,
    code: Option<i32>,
    whole: Duration,
}

/// All instances, one by one; with `redis`, Redis is restarted while the second one leaves.
pub(crate) async fn rolling(bench: &Bench, size: Size, redis: bool, seed: u64) -> Result<Report, Failure> {
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
    let mut stage = Stage::open(bench, plan, seed).await?;
    stage.enter_many(size.clients, None);
    stage.until_live(size.clients).await?;
    stage.begin_flow();
    sleep(STEADY).await;
    let (began, from_us) = (Instant::now(), stage.audience.now_us());
    stage.audience.recorder.record(Event::FaultBegan);
    let mut turns = Vec::new();
    for index in 0..INSTANCES {
        let cuts = stage.cuts() + stage.held_by(index);
        turns.push(turn(&mut stage, index, redis && index == 1).await?);
        stage.until_back(cuts, size.clients).await?;
    }
    let whole = began.elapsed();
    stage.audience.recorder.record(Event::FaultEnded { proof: "every instance ended and began again".into() });
    sleep(AFTERMATH).await;
    stage.conclude(&mut report).await?;
    report.say("until all three instances had been restarted", format!("{:.2} s", whole.as_secs_f64()));
    tell_turns(&stage, &turns, &mut report);
    tell_silence(&stage, from_us, size.silence, &mut report);
    Ok(report)
}

async fn turn(stage: &mut Stage, index: usize, redis: bool) -> Result<Turn, Failure> {
    let (began, from_us) = (Instant::now(), stage.audience.now_us());
    stage.gateways[index].process.signal(Signal::TERM)?;
    let mut away = None;
    if redis {
        let killed = Instant::now();
        stage.redis.crash()?;
        sleep(REDIS_AWAY).await;
        stage.redis.restart().await?;
        away = Some(killed.elapsed());
    }
    while !stage.gateways[index].process.has_ended()? {
        if began.elapsed() > LEAVE_TIME_MAX {
            return Err(Failure::Late(format!("{} has ended after SIGTERM", stage.gateways[index].name)));
        }
        sleep(POLL).await;
    }
    let (left, code) = (began.elapsed(), stage.gateways[index].process.exit_code()?);
    stage.gateways[index].restart()?;
    stage.gateways[index].await_connected().await?;
    Ok(Turn { from_us, left, away, code, whole: began.elapsed() })
}

fn tell_turns(stage: &Stage, turns: &[Turn], report: &mut Report) {
    let seconds_of = |of: fn(&Turn) -> Duration| {
        let each: Vec<String> = turns.iter().map(|turn| format!("{:.2}", of(turn).as_secs_f64())).collect();
        format!("{} s", each.join(" / "))
    };
    report.say("from SIGTERM to the end of the process, of each", seconds_of(|turn| turn.left));
    report.say("from SIGTERM until it was ready again", seconds_of(|turn| turn.whole));
    for away in turns.iter().filter_map(|turn| turn.away) {
        report.say(
            "Redis was killed in the second turn, and answered again after",
            format!("{:.2} s", away.as_secs_f64()),
        );
    }
    let codes: Vec<_> = turns.iter().map(|turn| turn.code.unwrap_or(-1)).collect();
    report.check("exit", codes == [0; INSTANCES], "exit codes", format!("{codes:?}"), "all 0");
    for (index, turn) in turns.iter().enumerate() {
        let until_us = turns.get(index + 1).map_or(u64::MAX, |next| next.from_us);
        let ends: Vec<u64> = (stage.absences(turn.from_us).iter())
            .map(|absence| absence.ended_us)
            .filter(|ended| *ended < until_us)
            .collect();
        tell_pace(index, &ends, report);
    }
}

/// Clients that leave one after the other are a load for the others; those that leave at once are a storm.
fn tell_pace(index: usize, ends: &[u64], report: &mut Report) {
    let (first, last) = (ends.iter().min().copied().unwrap_or(0), ends.iter().max().copied().unwrap_or(0));
    let due_us = (ends.len() as u64 * 1_000_000 / MOVED_PER_SECOND).min(WINDOW.as_micros() as u64);
    let least = due_us / 2;
    let what = format!("gw-{} moved its {} clients over", index + 1, ends.len());
    let holds = !ends.is_empty() && last - first >= least;
    report.check("pace", holds, what, seconds(last - first), format!("at least {}", seconds(least)));
}

/// A silence is the time from the end of a client's connection until all its subscriptions stand again and everything
/// acknowledged by then has come.
fn tell_silence(stage: &Stage, from_us: u64, most: Duration, report: &mut Report) {
    let absences = stage.absences(from_us);
    report.say("clients moved", absences.len().to_string());
    let is_told = |absence: &Absence| absence.code == GOING_AWAY && absence.told;
    let untold = absences.iter().filter(|absence| !is_told(absence)).count();
    report.check("told", untold == 0, "of those, cut without a reconnect frame and 1012", untold.to_string(), "0");
    let mut silences: Vec<u64> =
        absences.iter().map(|absence| absence.caught_up_us.saturating_sub(absence.ended_us)).collect();
    let (half, most_of) = (share(&mut silences, 0.5), share(&mut silences, 0.99));
    report.say("silence of a moved client: half / 99 % of them", format!("{} / {}", seconds(half), seconds(most_of)));
    let longest = share(&mut silences, 1.0);
    let holds = !silences.is_empty() && u128::from(longest) <= most.as_micros();
    let bound = format!("within {:.1} s", most.as_secs_f64());
    report.check("silence", holds, "longest silence of any client", seconds(longest), bound);
    let latest = stage.seats.iter().map(|seat| seat.trace.latest_us()).max().unwrap_or(0);
    report.say("the latest message, from its first sending until a client had it", seconds(latest));
}
