//! The load that an idle fleet puts on Redis.

use std::time::Duration;

use tokio::time::sleep;

use super::harness::{FleetHarness, INSTANCES, Plan};
use super::meter::Commands;
use super::report::Report;
use crate::environment::Environment;
use crate::failure::Failure;

/// Time for rows to be written, subscriptions to be made and threads to release memory.
const SETTLE: Duration = Duration::from_secs(3);
/// The default of `redis.check_interval_ms`. Each scope is compared once per interval, many scopes in one call.
const CHECK_INTERVAL_S: f64 = 30.0;
const SCOPES_PER_CALL: f64 = 128.0;
/// One comparison, and a margin for those that fall into one window but not into the other.
const COMMANDS_PER_SCOPE: f64 = 1.5;
/// Heartbeats can fall into a window or just outside. This is the tolerance in calls, and in commands.
const SLACK: (f64, f64) = (1.5, 8.0);

/// The size of the trial.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) few: usize,
    pub(crate) many: usize,
    pub(crate) window: Duration,
}

pub(crate) async fn idle(environment: &Environment, size: Size, seed: u64) -> Result<Report, Failure> {
    let mut report = Report::new("idle: what a fleet costs Redis while nothing is said".into());
    let plan = Plan {
        name: "idle".into(),
        // Every client subscribes to its own scope, as a user does.
        scopes: size.many,
        publish_every: None,
        ramp: Duration::from_secs(1),
        connects_per_second: None,
        keeps: false,
    };
    let mut harness = FleetHarness::open(environment, plan, seed).await?;
    harness.add_clients(size.few, None);
    let few = measure(&harness, size.few, size.window, &mut report).await?;
    harness.add_clients(size.many, None);
    let many = measure(&harness, size.many, size.window, &mut report).await?;
    // Only the comparison of each scope with Redis may grow. The instance that serves the scope makes it.
    let scopes = ((size.many - size.few) / INSTANCES) as f64 / CHECK_INTERVAL_S;
    let mut bound = |what: &str, few: f64, many: f64, growth: f64| {
        let bound = few + growth;
        let what = format!("{what} per second and instance with {} connections", size.many);
        let bound_text = format!("at most {bound:.2}: as with {}, and the checks", size.few);
        report.check("idle", few > 0.0 && many <= bound, what, format!("{many:.2}"), bound_text);
    };
    bound("calls", few.0, many.0, scopes / SCOPES_PER_CALL + SLACK.0);
    bound("commands", few.1, many.1, scopes * COMMANDS_PER_SCOPE + SLACK.1);
    Ok(report)
}

/// Calls per second and instance, and the number of all commands.
async fn measure(
    harness: &FleetHarness,
    connections: usize,
    window: Duration,
    report: &mut Report,
) -> Result<(f64, f64), Failure> {
    harness.until_live(connections).await?;
    sleep(SETTLE).await;
    let before = Commands::read(&harness.redis).await?;
    sleep(window).await;
    let spent = Commands::read(&harness.redis).await?.since(before);
    let each = |count: u64| count as f64 / window.as_secs_f64() / INSTANCES as f64;
    let what = format!("calls, and commands in all, per second and instance: {connections} connections");
    report.note_figure(what, format!("{:.2}, {:.2}", each(spent.calls), each(spent.all)));
    Ok((each(spent.calls), each(spent.all)))
}
