//! Redis names, uses of the Redis client and reads of the environment occur only in their own files.

use super::{Finding, Source};

/// The beginning of every Redis name, as it would be written in a string.
const REDIS_NAME: &str = concat!("tidegate", ":");
/// Files that may name the Redis client: its three seams, and the file that locates the server and makes calls for all
/// of them.
const REDIS_CLIENT_SEAMS: [&str; 4] = [
    "crates/message-router/src/broker/redis",
    "crates/connection-registry/src/store/redis",
    "crates/records/src/store/redis",
    "crates/redis-topology/src",
];
/// The gateway's configuration, and the tools that are not part of the product.
const ENVIRONMENT_READERS: [&str; 4] =
    ["crates/gateway/src/config", "crates/history-checker/src/main", "crates/xtask/", "loadtest/"];

/// Tests may write names out. They play publishers in other languages, which have no `keyspace`, and so they pin the
/// names.
pub(super) fn redis_names_live_in_keyspace(source: &Source) -> Vec<Finding> {
    if source.path.starts_with("crates/keyspace/") || source.is_test() {
        return Vec::new();
    }
    // With a space after it, the text is the program's name at the beginning of a sentence.
    let is_name = |at: usize| !source.strings[at + REDIS_NAME.len()..].starts_with(char::is_whitespace);
    let places = source.strings.match_indices(REDIS_NAME).map(|(at, _)| at).filter(|&at| is_name(at));
    places
        .map(|at| source.line_of(at))
        .map(|line| source.error(line, "a Redis name in a string: names are built in the crate `keyspace` only"))
        .collect()
}

pub(super) fn redis_client_stays_behind_its_seams(source: &Source) -> Vec<Finding> {
    let is_tool = ["crates/chaos/", "crates/xtask/", "loadtest/"].iter().any(|tool| source.path.starts_with(tool));
    if is_tool || source.is_test() || starts_with_any(source, &REDIS_CLIENT_SEAMS) {
        return Vec::new();
    }
    let names_crate = |at: usize| {
        let before = &source.code[..at];
        // `broker::redis::…` is a module of this workspace.
        !before.ends_with("::") && !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
    };
    ["redis::", "deadpool_redis::"]
        .iter()
        .flat_map(|word| source.code.match_indices(word))
        .filter(|&(at, _)| names_crate(at))
        .map(|(at, _)| {
            source.error(source.line_of(at), "the Redis client is used behind the broker and the stores only")
        })
        .collect()
}

pub(super) fn environment_is_read_in_config(source: &Source) -> Vec<Finding> {
    if source.is_test() || starts_with_any(source, &ENVIRONMENT_READERS) {
        return Vec::new();
    }
    ["std::env", "env::var"]
        .iter()
        .flat_map(|word| at_lines(source, &source.code, word))
        .map(|line| source.error(line, "the environment is read in the gateway's `config` only"))
        .collect()
}

fn starts_with_any(source: &Source, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| source.path.starts_with(prefix))
}

fn at_lines<'a>(source: &'a Source, view: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    view.match_indices(word).map(|(at, _)| source.line_of(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_redis_name_outside_keyspace_is_found() {
        let text = format!(
            "//! {REDIS_NAME} in a comment is fine\nconst KEY: &str = \"{REDIS_NAME}x\";\nfn f() {{ say(\"{REDIS_NAME} stopped\"); }}\n"
        );
        let found = |path: &str| lines(&redis_names_live_in_keyspace(&Source::new(path, text.as_str())));
        assert_eq!(found("crates/gateway/src/pump.rs"), [2]);
        assert!(found("crates/keyspace/src/lib.rs").is_empty());
        assert!(found("crates/gateway/tests/cli.rs").is_empty());
    }

    #[test]
    fn the_redis_client_outside_its_seams_is_found() {
        let text =
            "use redis::Client;\nuse deadpool_redis::Pool;\nuse crate::broker::redis::RedisBroker;\n// redis::cmd\n";
        let found = |path: &str| lines(&redis_client_stays_behind_its_seams(&Source::new(path, text)));
        assert_eq!(found("crates/gateway/src/pump.rs"), [1, 2]);
        assert!(found("crates/message-router/src/broker/redis/subscriber.rs").is_empty());
        assert!(found("crates/message-router/tests/conformance.rs").is_empty());
    }

    #[test]
    fn the_environment_outside_config_is_found() {
        let text = "use std::env;\nfn f() { env::var(\"A\"); env!(\"B\"); }\n";
        let found = |path: &str| lines(&environment_is_read_in_config(&Source::new(path, text)));
        assert_eq!(found("crates/gateway/src/edge.rs"), [1, 2]);
        assert!(found("crates/gateway/src/config/raw.rs").is_empty());
        assert!(found("loadtest/src/main.rs").is_empty());
    }
}
