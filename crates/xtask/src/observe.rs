//! `cargo xtask observe`: the shipped rules and dashboards against real servers.
//!
//! ```text
//!   rules ─▶ promtool        each alert on series on which it fires, and on which it stays quiet
//!   dashboards ─▶ tsc        Grafana's own types
//!   fleet ─▶ observer.py     Prometheus, Alertmanager and exporters beside a live cluster: every panel has data, and
//!                            faults fire alerts, which resolve afterwards
//! ```

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde_json::json;

use crate::cluster::Fleet;
use crate::failure::Failure;
use crate::step::Step;
use crate::{npm, package, python, workspace};

const OBSERVER: &str = "deploy/observe";
const RULE_TESTS: &str = "deploy/prometheus/tests";
const DASHBOARD_TESTS: &str = "deploy/grafana/tests";

/// Settings of the gateways that faults need: few connections until an instance is full, and round trips that are
/// measured within the run.
const SETTINGS: [(&str, &str); 3] = [
    ("TIDEGATE_LIMITS_CONNECTIONS_MAX", "950"),
    ("TIDEGATE_LIMITS_PING_INTERVAL_MS", "3000"),
    ("TIDEGATE_LIMITS_PONG_TIMEOUT_MS", "2000"),
];

/// How many faults to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// For the test command: the faults of the observer's `SHORT`.
    Short,
    Full,
}

pub(crate) fn run(length: Length) -> Result<(), Failure> {
    package::ensure(&[
        package::REDIS,
        package::HAPROXY,
        package::PROMETHEUS,
        package::ALERTMANAGER,
        package::REDIS_EXPORTER,
    ])?;
    let home = workspace::target().join("observe");
    let text = fs::read_to_string(workspace::root().join(OBSERVER).join("requirements.txt"));
    let text = text.map_err(Failure::during("reading requirements.txt"))?;
    let python = python::with(&text.lines().collect::<Vec<_>>(), &home.join("venv"))?;
    Step::new(&python).args(["-B", "-m", "unittest", "--verbose"]).dir(workspace::root().join(RULE_TESTS)).run()?;
    check_dashboards(&home)?;
    Step::cargo(&["build", "--package", "tidegate-gateway", "--features", "tls"]).run()?;
    let binary = workspace::target().join("debug/tidegate");
    let mut fleet = Fleet::start(&binary, &home.join("fleet"), &SETTINGS, &AtomicBool::new(false))?;
    let description = home.join("fleet.json");
    fs::write(&description, describe(&fleet)).map_err(Failure::during("writing fleet.json"))?;
    let script = workspace::root().join(OBSERVER).join("observer.py");
    let observer = Step::new(&python).args(["-B".as_ref(), script.as_os_str(), description.as_os_str()]);
    let result = if length == Length::Short { observer.args(["--short"]).run() } else { observer.run() };
    fleet.end();
    result
}

fn check_dashboards(home: &Path) -> Result<(), Failure> {
    let tests = workspace::root().join(DASHBOARD_TESTS);
    let modules = npm::install(&tests, &home.join("grafana"))?;
    Step::new("node")
        .args(["--test", "--test-reporter=spec", "types.test.js"])
        .dir(tests)
        .env("GRAFANA_MODULES", modules)
        .env("GRAFANA_HOME", home)
        .run()
}

/// Addresses and process ids, for the observer.
fn describe(fleet: &Fleet) -> String {
    let gateways = fleet.gateways.iter();
    let gateways: Vec<_> =
        gateways.map(|gateway| json!({"clients": gateway.clients, "admin": gateway.admin})).collect();
    let pids: serde_json::Map<_, _> =
        fleet.members.iter().map(|member| (member.name.clone(), json!(member.pid()))).collect();
    json!({
        "redis": fleet.redis,
        "entrance": fleet.entrance,
        "statistics": fleet.statistics,
        "gateways": gateways,
        "pids": pids,
    })
    .to_string()
}
