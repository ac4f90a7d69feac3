//! The crate graph must equal the drawing.
//!
//! ```text
//!   gateway ──▶ message-router ───────▶ redis-topology ──▶ keyspace ──▶ wire
//!      │  ├───▶ connection-registry ───────▲                  ▲           ▲
//!      │  ├───▶ records ───────────────────▲                  │           │
//!      └──┴───────────────────────────────────────────────────┴───────────┤
//!   loadtest ──▶ keyspace ────────────────────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Finding, Weight};
use crate::failure::Failure;
use crate::step::Step;

/// Each crate and the crates of this workspace that it depends on, in alphabetical order. Tests may use more crates.
const DRAWING: &[(&str, &[&str])] = &[
    ("chaos", &["history-checker", "keyspace", "test-support", "wire"]),
    ("connection-registry", &["keyspace", "redis-topology", "wire"]),
    ("history-checker", &[]),
    ("keyspace", &["wire"]),
    ("loadtest", &["keyspace", "test-support", "wire"]),
    ("message-router", &["keyspace", "redis-topology", "wire"]),
    ("records", &["keyspace", "redis-topology", "wire"]),
    ("redis-model", &["wire"]),
    ("redis-topology", &["keyspace"]),
    ("test-support", &[]),
    ("tidegate-gateway", &["connection-registry", "keyspace", "message-router", "records", "redis-topology", "wire"]),
    ("wire", &[]),
    ("xtask", &["test-support"]),
];

/// The output of `cargo metadata` for the workspace.
pub(super) fn metadata() -> Result<Value, Failure> {
    let text = Step::cargo(&["metadata", "--no-deps", "--offline", "--format-version", "1"]).answer()?;
    serde_json::from_str(&text).map_err(|error| Failure::new(format!("cargo metadata: {error}")))
}

pub(super) fn equal_the_drawing(metadata: &Value) -> Vec<Finding> {
    let drawn: BTreeMap<&str, Vec<&str>> = DRAWING.iter().map(|(name, to)| (*name, to.to_vec())).collect();
    let found = edges(metadata);
    let names: BTreeSet<&str> = drawn.keys().chain(found.keys()).copied().collect();
    names
        .into_iter()
        .filter(|name| drawn.get(name) != found.get(name))
        .map(|name| Finding {
            path: "Cargo.toml".into(),
            line: 0,
            weight: Weight::Error,
            what: format!(
                "crate `{name}` depends on {:?} of this workspace, and the drawing in ARCHITECTURE.md says {:?}",
                found.get(name).map_or(&[][..], Vec::as_slice),
                drawn.get(name).map_or(&[][..], Vec::as_slice),
            ),
        })
        .collect()
}

/// Maps each package to the workspace members that it depends on, sorted, without dev-dependencies.
fn edges(metadata: &Value) -> BTreeMap<&str, Vec<&str>> {
    list(&metadata["packages"]).filter_map(|package| Some((package["name"].as_str()?, edges_of(package)))).collect()
}

fn edges_of(package: &Value) -> Vec<&str> {
    let ours = list(&package["dependencies"]).filter(|dep| dep["path"].is_string() && dep["kind"] != "dev");
    let mut names: Vec<&str> = ours.filter_map(|dep| dep["name"].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The drawing in the format of `cargo metadata`, with one more edge.
    fn drawn_with(from: &str, to: &str, kind: Value) -> Value {
        let dependency = |name: &str, kind: &Value| json!({"name": name, "path": "/x", "kind": kind});
        let packages: Vec<Value> = DRAWING
            .iter()
            .map(|(name, deps)| {
                let mut deps: Vec<Value> = deps.iter().map(|dep| dependency(dep, &Value::Null)).collect();
                if *name == from {
                    deps.push(dependency(to, &kind));
                }
                json!({"name": name, "dependencies": deps})
            })
            .collect();
        json!({"packages": packages})
    }

    #[test]
    fn a_new_edge_is_found_and_a_test_edge_is_free() {
        let found = equal_the_drawing(&drawn_with("message-router", "connection-registry", Value::Null));
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("`message-router`"), "{}", found[0]);
        assert_eq!(equal_the_drawing(&drawn_with("message-router", "connection-registry", json!("dev"))), []);
    }

    #[test]
    fn a_crate_that_is_not_drawn_is_found() {
        let metadata = json!({"packages": [{"name": "wire", "dependencies": []}, {"name": "new", "dependencies": []}]});
        let what: Vec<String> = equal_the_drawing(&metadata).iter().map(Finding::to_string).collect();
        assert!(what.iter().any(|line| line.contains("`new`")), "{what:?}");
        assert!(!what.iter().any(|line| line.contains("`wire`")), "{what:?}");
    }
}
