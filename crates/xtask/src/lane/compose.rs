//! Lane `compose`: docker-compose.yml is valid, and the gateways and HAProxy accept the settings that it gives them.
//!
//! No container engine is needed, because `config` only reads the file. If docker has no compose plugin, Debian's
//! `docker-compose` reads the file.

use std::fs;

use crate::failure::Failure;
use crate::step::Step;
use crate::{package, workspace};

const FILE: &str = "docker-compose.yml";
/// The one variable that the file requires.
const SECRET: &str = "JWT_SECRET";
const GATEWAYS: [&str; 3] = ["gateway1", "gateway2", "gateway3"];

pub(super) fn run() -> Result<(), Failure> {
    let has_plugin = Step::new("docker").args(["compose", "version"]).succeeds();
    if !has_plugin {
        package::ensure(&[package::COMPOSE])?;
    }
    let config = || match has_plugin {
        true => Step::new("docker").args(["compose", "--file", FILE, "config"]),
        false => Step::new("docker-compose").args(["--file", FILE, "config"]),
    };
    if config().env(SECRET, "").succeeds() {
        return Err(Failure::new(format!("{FILE} must refuse to start without {SECRET}, and does not")));
    }
    let text = config().env(SECRET, "0".repeat(64)).answer()?;
    println!("ok: {FILE} is valid, and refuses to start without {SECRET}");
    haproxy_knows_its_variables(&text)?;
    gateways_know_when_they_are_killed(&text)?;
    gateways_take_their_environment(&text)
}

/// With a misspelt variable, HAProxy would use its default, which is a server that does not exist.
fn haproxy_knows_its_variables(config: &str) -> Result<(), Failure> {
    let shipped = fs::read_to_string(workspace::root().join("haproxy/haproxy.cfg"));
    let shipped = shipped.map_err(Failure::during("reading haproxy/haproxy.cfg"))?;
    let variables = environment(config, "haproxy");
    match variables.iter().find(|(name, _)| !shipped.contains(name)) {
        None if variables.is_empty() => Err(Failure::new("the service haproxy has no environment")),
        None => Ok(()),
        Some((name, _)) => Err(Failure::new(format!("haproxy.cfg does not know {name}"))),
    }
}

/// The stop period of the container and the setting that the gateway checks its drain against are equal.
fn gateways_know_when_they_are_killed(config: &str) -> Result<(), Failure> {
    for service in GATEWAYS {
        let period = setting(config, service, "stop_grace_period").and_then(|period| {
            // The period as the file has it, or as the plugin prints it.
            let seconds = period.strip_suffix("m0s").map_or(period.strip_suffix('s')?.parse().ok(), |minutes| {
                minutes.parse::<u64>().ok().map(|minutes| 60 * minutes)
            });
            Some(format!("{}", 1_000 * seconds?))
        });
        let variables = environment(config, service);
        let configured =
            variables.iter().find(|(name, _)| name == "TIDEGATE_DRAIN_KILL_AFTER_MS").map(|(_, value)| value);
        if period.is_none() || configured != period.as_ref() {
            return Err(Failure::new(format!("{service} is killed after {period:?} ms, and was told {configured:?}")));
        }
    }
    println!("ok: every gateway knows after how long it is killed");
    Ok(())
}

/// The value of a key of the service itself.
fn setting<'c>(config: &'c str, service: &str, key: &str) -> Option<&'c str> {
    let header = format!("  {service}:");
    let lines = config.lines().skip_while(|line| *line != header).skip(1);
    lines
        .take_while(|line| line.starts_with("    "))
        .find_map(|line| line.strip_prefix("    ")?.strip_prefix(key)?.strip_prefix(": "))
}

fn gateways_take_their_environment(config: &str) -> Result<(), Failure> {
    Step::cargo(&["build", "--package", "tidegate-gateway", "--features", "tls"]).run()?;
    let binary = workspace::target().join("debug/tidegate");
    for service in GATEWAYS {
        let variables = environment(config, service);
        if variables.is_empty() {
            return Err(Failure::new(format!("the service {service} has no environment")));
        }
        let check = Step::new(&binary).args(["serve", "--check-config"]);
        variables.into_iter().fold(check, |check, (name, value)| check.env(&name, value)).run()?;
        println!("ok: {service} takes the environment that {FILE} gives it");
    }
    Ok(())
}

/// The variables of one service in the output of `config`: YAML in a fixed format with two spaces per level. A long
/// value can continue on the next line with more indentation. The line break then stands for a space.
fn environment(config: &str, service: &str) -> Vec<(String, String)> {
    let header = format!("  {service}:");
    let of_service =
        config.lines().skip_while(|line| *line != header).skip(1).take_while(|line| line.starts_with("    "));
    let block = of_service.skip_while(|line| *line != "    environment:").skip(1);
    let mut variables: Vec<(String, String)> = Vec::new();
    for line in block.take_while(|line| line.starts_with("      ")) {
        match (variables.last_mut(), line.trim().split_once(": ")) {
            (Some((_, value)), _) if line.starts_with("       ") => {
                value.push(' ');
                value.push_str(line.trim());
            }
            (_, Some((name, value))) => variables.push((name.to_owned(), value.to_owned())),
            (_, None) => {}
        }
    }
    variables.into_iter().map(|(name, value)| (name, unquote(&value))).collect()
}

fn unquote(value: &str) -> String {
    let inside = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(text) = inside('\'') {
        return text.replace("''", "'");
    }
    match inside('"') {
        Some(text) => text.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_of_one_service_is_read() {
        let config = "services:\n  a:\n    environment:\n      X: wrong\n  b:\n    cap_drop:\n    - ALL\n    environment:\n      \
                      A: 0.0.0.0:1\n      B: '[{ s =\n        \"it''s\" }]'\n      C: \"x \\\"y\\\"\"\n    image: z\n  c:\n    environment:\n      D: no\n";
        let expected = [("A", "0.0.0.0:1"), ("B", "[{ s = \"it's\" }]"), ("C", "x \"y\"")];
        assert_eq!(environment(config, "b"), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(environment(config, "d"), []);
    }
}
