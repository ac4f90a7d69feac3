//! Users at their limit lose an instance several times. Their own stale rows keep them out for at most the documented
//! time, and no user gets one connection too many.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use history_checker::Event;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep};

use super::harness::{FleetHarness, INSTANCES, Participant, Plan};
use super::meter::IncarnationKeys;
use super::report::{Report, seconds};
use super::stale_rows;
use super::subscriber::ClientIdentity;
use super::trace::Step;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::polling::until;
use crate::process;
use crate::redis_server::connect;

/// The value of `limits.connections_per_user`.
const LIMIT: usize = 10;
const TOO_MANY: u16 = 4005;
const STEADY: Duration = Duration::from_secs(2);
/// A client that kept its session is back within this time: one backoff wait, and the connection setup.
const KEPT_BACK: Duration = Duration::from_secs(5);
/// A client without its session is back within this time: ten seconds for the stale rows, two backoff waits, and the
/// connection setup.
const LOST_BACK: Duration = Duration::from_secs(13);
/// A connection too many is accepted with a `welcome` and closed a moment later.
const MOMENT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// The size of the trial.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Number of users. Half of them keep their session id, and half forget it.
    pub(crate) users: usize,
    pub(crate) kills: usize,
}

pub(crate) async fn limits(environment: &Environment, size: Size, seed: u64) -> Result<Report, Failure> {
    let title = format!("limits: users with {LIMIT} connections, which they may have, lose an instance");
    let mut report = Report::new(title);
    let plan = Plan {
        name: "limits".into(),
        scopes: 5,
        publish_every: None,
        ramp: Duration::from_secs(1),
        connects_per_second: None,
        keeps: false,
    };
    let mut harness = FleetHarness::open(environment, plan, seed).await?;
    let entitled = size.users * LIMIT;
    for number in 0..entitled {
        let identity = identity(&harness, number, number % size.users, size.users);
        harness.add_client(identity);
    }
    harness.until_live(entitled).await?;
    until_counted(&harness, entitled as u64).await?;
    // One more client per user tries to connect. It must be refused as long as the user has ten connections.
    for user in 0..size.users {
        let identity = identity(&harness, entitled + user, user, size.users);
        harness.add_client(identity);
    }
    harness.begin_flow();
    sleep(STEADY).await;
    let mut rounds = Vec::new();
    for round in 0..size.kills {
        rounds.push(kill(&mut harness, round % INSTANCES, size.users, &mut report).await?);
    }
    write_report(&harness, size, &rounds, &mut report);
    // The client that is one too many gives up. The others stay to the end.
    let extra: Vec<String> = (0..size.users).filter_map(|user| surplus(&harness, user)).collect();
    harness.retire(|participant| extra.contains(&participant.identity.name));
    harness.conclude(&mut report).await?;
    Ok(report)
}

fn user(number: usize) -> String {
    format!("user-{number}")
}

fn keeps_session(user: usize, users: usize) -> bool {
    user < users.div_ceil(2)
}

fn identity(harness: &FleetHarness, number: usize, of: usize, users: usize) -> ClientIdentity {
    ClientIdentity {
        name: format!("client-{number}"),
        user: user(of),
        patterns: harness.plan.patterns(number),
        keeps_session: keeps_session(of, users),
        first: Some(number % INSTANCES),
    }
}

/// The result of one kill.
struct Round {
    killed_us: u64,
    until_us: u64,
    /// The largest number of connections that Redis counted for one user.
    counted_max: u64,
}

async fn kill(harness: &mut FleetHarness, index: usize, users: usize, report: &mut Report) -> Result<Round, Failure> {
    let name = harness.gateways[index].name.clone();
    let incarnation_id = IncarnationKeys::of(&harness.redis, &name)
        .await?
        .ok_or_else(|| Failure::Unproven(format!("{name} is not listed")))?;
    let rows = incarnation_id.rows(&harness.redis).await?;
    harness.audience.recorder.record(Event::FaultBegan);
    let (killed, killed_us) = (Instant::now(), harness.audience.now_us());
    let signal = process::kill(&mut harness.gateways[index].process)?;
    let proof = format!("{name} died of signal {signal} with {rows} connections");
    harness.audience.recorder.record(Event::FaultEnded { proof: proof.clone() });
    if signal != 9 || rows == 0 {
        return Err(Failure::Unproven(proof));
    }
    let (is_over, counted_max) = (AtomicBool::new(false), AtomicU64::new(0));
    let outcome = async {
        let gone = stale_rows::watch(&harness.redis, &incarnation_id, killed).await;
        while killed.elapsed() < LOST_BACK && !all_have_ten(harness, users) {
            sleep(POLL).await;
        }
        is_over.store(true, Ordering::Relaxed);
        gone
    };
    let counting = async {
        while !is_over.load(Ordering::Relaxed) {
            if let Ok(most) = count(harness, users).await {
                counted_max.fetch_max(most, Ordering::Relaxed);
            }
            sleep(POLL).await;
        }
    };
    let (gone, ()) = tokio::join!(outcome, counting);
    stale_rows::write_report(gone, report);
    harness.gateways[index].restart()?;
    harness.gateways[index].await_connected().await?;
    Ok(Round { killed_us, until_us: harness.audience.now_us(), counted_max: counted_max.into_inner() })
}

/// Waits until Redis lists this many connections in total.
async fn until_counted(harness: &FleetHarness, expected: u64) -> Result<(), Failure> {
    let listed = async || -> Result<u64, Failure> {
        let mut sum = 0;
        for incarnation_id in IncarnationKeys::all(&harness.redis).await? {
            sum += incarnation_id.rows(&harness.redis).await?;
        }
        Ok(sum)
    };
    until("Redis lists every connection", async || listed().await.is_ok_and(|sum| sum == expected)).await
}

/// The largest number of connections that Redis counts for one user, over all instances at one moment.
async fn count(harness: &FleetHarness, users: usize) -> Result<u64, Failure> {
    let incarnation_ids = IncarnationKeys::all(&harness.redis).await?;
    let fields: Vec<String> = (0..users).map(|number| format!("#default/{}", user(number))).collect();
    let mut pipe = redis::pipe();
    pipe.atomic();
    for incarnation_id in &incarnation_ids {
        pipe.cmd("HMGET").arg(incarnation_id.users()).arg(&fields);
    }
    let ask = async || -> redis::RedisResult<Vec<Vec<Option<u64>>>> {
        let mut connection: MultiplexedConnection = connect(harness.redis.address, ANSWER_TIME_MAX).await?;
        pipe.query_async(&mut connection).await
    };
    let counts = ask().await.map_err(Failure::redis("counting connections"))?;
    let of = |user: usize| {
        counts.iter().filter_map(|incarnation_id| incarnation_id.get(user).copied().flatten()).sum::<u64>()
    };
    Ok((0..users).map(of).max().unwrap_or(0))
}

fn is_live(participant: &Participant) -> bool {
    let last = |step: &Step| !matches!(step, Step::Has(..));
    let moments = participant.trace.moments();
    moments.iter().map(|moment| moment.step).rfind(last) == Some(Step::Live)
}

fn all_have_ten(harness: &FleetHarness, users: usize) -> bool {
    let mut live: BTreeMap<&str, usize> = BTreeMap::new();
    for participant in harness.participants.iter().filter(|participant| is_live(participant)) {
        *live.entry(&participant.identity.user).or_default() += 1;
    }
    (0..users).all(|number| live.get(user(number).as_str()).is_some_and(|count| *count >= LIMIT))
}

/// The client of this user that has no connection now.
fn surplus(harness: &FleetHarness, number: usize) -> Option<String> {
    let name = user(number);
    let theirs = || harness.participants.iter().filter(|participant| participant.identity.user == name);
    let out = theirs().find(|participant| !is_live(participant)).or_else(|| theirs().next_back());
    out.map(|participant| participant.identity.name.clone())
}

fn write_report(harness: &FleetHarness, size: Size, rounds: &[Round], report: &mut Report) {
    let kept = |participant: &&Participant| participant.identity.keeps_session;
    for (keeps, who, bound) in [(true, "named their session", KEPT_BACK), (false, "forgot it", LOST_BACK)] {
        let longest = rounds.iter().map(|round| until_ten(harness, size.users, keeps, round)).max().unwrap_or(u64::MAX);
        let measured = if longest == u64::MAX { "never".into() } else { seconds(longest) };
        report.check(
            if keeps { "stale-row-refusal" } else { "back" },
            u128::from(longest) <= bound.as_micros(),
            format!("until users who {who} had their ten again, longest"),
            measured,
            format!("within {} s", bound.as_secs()),
        );
    }
    let first = rounds.first().map_or(0, |round| round.killed_us);
    let entitled = harness.participants.iter().take(size.users * LIMIT);
    let refused = entitled.filter(kept).map(|participant| refusals(participant, first)).sum::<usize>();
    let what = "refusals (4005) of those among ten who named their session";
    report.check("stale-row-refusal", refused == 0, what, refused.to_string(), "0");
    let others: usize =
        harness.participants.iter().skip(size.users * LIMIT).map(|participant| refusals(participant, 0)).sum();
    report.check("eleventh", others > 0, "refusals of an eleventh connection", others.to_string(), "some");
    let most = rounds.iter().map(|round| round.counted_max).max().unwrap_or(0);
    let bound = format!("at most {LIMIT}");
    report.check(
        "limit",
        most <= LIMIT as u64 && most > 0,
        "most that Redis counted for a user",
        most.to_string(),
        bound,
    );
    let over = (0..size.users).map(|number| over_limit(harness, number)).max().unwrap_or(0);
    report.check(
        "limit",
        u128::from(over) <= MOMENT.as_micros(),
        "longest that a user had more than ten open",
        seconds(over),
        format!("within {} s", MOMENT.as_secs()),
    );
}

fn refusals(participant: &Participant, from_us: u64) -> usize {
    let is_refusal = |step: Step| matches!(step, Step::Ended(TOO_MANY, _));
    participant.trace.moments().iter().filter(|moment| moment.at_us > from_us && is_refusal(moment.step)).count()
}

/// Time from a kill until each of these users had ten connections that stayed open until the end of the round.
fn until_ten(harness: &FleetHarness, users: usize, keeps: bool, round: &Round) -> u64 {
    let of = |number: usize| {
        let lasting = |stay: &(u64, u64)| stay.0 <= round.until_us && stay.1 > round.until_us;
        let mut since: Vec<u64> = stays(harness, number).into_iter().filter(lasting).map(|stay| stay.0).collect();
        since.sort_unstable();
        since.get(LIMIT - 1).map_or(u64::MAX, |at| at.saturating_sub(round.killed_us))
    };
    (0..users).filter(|number| keeps_session(*number, users) == keeps).map(of).max().unwrap_or(0)
}

/// The connections of a user, from `welcome` to end.
fn stays(harness: &FleetHarness, number: usize) -> Vec<(u64, u64)> {
    let (name, now_us) = (user(number), harness.audience.now_us());
    let theirs = harness.participants.iter().filter(|participant| participant.identity.user == name);
    theirs.flat_map(|participant| participant.trace.stays(now_us)).collect()
}

/// The longest time for which a user had more than ten connections open, as clients saw it.
fn over_limit(harness: &FleetHarness, number: usize) -> u64 {
    let stays = stays(harness, number).into_iter();
    let mut edges: Vec<(u64, i64)> = stays.flat_map(|(from, to)| [(from, 1), (to, -1)]).collect();
    edges.sort_unstable();
    let (mut open, mut since, mut longest) = (0, 0, 0);
    for (at, change) in edges {
        let was_over = open > LIMIT as i64;
        open += change;
        match (was_over, open > LIMIT as i64) {
            (false, true) => since = at,
            (true, false) => longest = longest.max(at - since),
            _ => {}
        }
    }
    longest
}
