//! The example file and the documentation, held against the code.

use std::path::{Path, PathBuf};

use tidegate_gateway::config::{Config, Fallback, FlagSetting, KEYS, RawConfig, Sources, ValueKind};
use toml::{Table, Value};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn example() -> String {
    std::fs::read_to_string(repository("deploy/gateway.example.toml")).unwrap()
}

/// The effective configuration, whether it may serve or not.
fn effective(mut sources: Sources) -> String {
    sources.host = Some("web1".into());
    let mut raw = RawConfig::gather(sources);
    // The example has neither key nor Redis, and says so; nothing else may be wrong with it.
    let problems = Config::check(&mut raw).unwrap_err();
    let keys: Vec<_> = problems.0.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["auth.keys", "redis.url"], "{problems}");
    raw.to_toml()
}

#[test]
fn the_example_holds_the_defaults() {
    let not_dev = FlagSetting { written: "--set".into(), key: "dev".into(), text: "false".into() };
    let defaults = effective(Sources { flags: vec![not_dev], ..Sources::default() });
    let file = Some(repository("deploy/gateway.example.toml"));
    assert_eq!(effective(Sources { file, ..Sources::default() }), defaults);
}

#[test]
fn the_example_holds_every_key() {
    let plain: Table = example().parse().unwrap();
    let every: Table = example().lines().map(uncommented).collect::<String>().parse().unwrap();
    let lookup = |table: &Table, name: &str| match name.split_once('.') {
        Some((section, key)) => table.get(section).and_then(|section| section.get(key)).cloned(),
        None => table.get(name).cloned(),
    };
    for key in KEYS {
        let expected = match key.default {
            Fallback::Toml(default) => Some(format!("it = {default}").parse::<Table>().unwrap()["it"].clone()),
            Fallback::Derived | Fallback::Absent => None,
        };
        if key.name != "families" {
            assert_eq!(lookup(&plain, key.name), expected, "{} in the example", key.name);
        }
        assert!(lookup(&every, key.name).is_some(), "{} is missing in the example", key.name);
    }
    let Some(ValueKind::Rows(row)) = KEYS.iter().find(|key| key.name == "families").map(|key| key.kind) else {
        panic!("families are rows")
    };
    for family in plain["families"].as_array().unwrap() {
        let keys: Vec<_> = row.iter().filter(|key| family.get(key.name).is_none()).map(|key| key.name).collect();
        assert_eq!(keys, [""; 0], "missing in {family}");
    }
}

/// `#key = …` without its `#`; `# prose` as it is.
fn uncommented(line: &str) -> String {
    let is_key = line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
    format!("{}\n", if is_key { &line[1..] } else { line })
}

#[test]
fn the_commented_keys_of_the_example_are_right_too() {
    let secret = std::env::temp_dir().join(format!("tidegate-example-{}.key", std::process::id()));
    std::fs::write(&secret, [b'x'; 32]).unwrap();
    let text: String = example().lines().map(uncommented).collect();
    let named = |path: &std::path::Path| Value::from(&*path.to_string_lossy()).to_string();
    let text = text.replace("\"token.key\"", &named(&secret));
    let tls_file = |name| named(&repository("crates/gateway/tests/keys").join(name));
    let text = text.replace("\"tls/fullchain.pem\"", &tls_file("test_only_tls_certificate.pem"));
    let text = text.replace("\"tls/privkey.pem\"", &tls_file("test_only_tls_key.pem"));
    // Its files for TLS to Redis have an effect with such a URL only.
    let text = text.replace("\"redis://", "\"rediss://");
    let redis_file = |name| named(&repository("crates/test-support/keys").join(name));
    let text = text.replace("\"redis/ca.pem\"", &redis_file("test_only_redis_ca.pem"));
    let text = text.replace("\"redis/gateway.pem\"", &redis_file("test_only_redis_client.pem"));
    let text = text.replace("\"redis/gateway-key.pem\"", &redis_file("test_only_redis_client_key.pem"));
    let file = secret.with_extension("toml");
    std::fs::write(&file, text).unwrap();
    let checked = Config::check(&mut RawConfig::gather(Sources { file: Some(file.clone()), ..Sources::default() }));
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_file(&secret).unwrap();
    match checked {
        Ok(config) => assert_eq!(config.instance.as_str(), "web1-8080"),
        Err(problems) => {
            let keys: Vec<_> = problems.0.iter().map(|problem| problem.key.as_str()).collect();
            // A gateway built without TLS refuses it; nothing else may be wrong.
            assert!(cfg!(not(feature = "tls")) && keys == ["tls.cert_file", "tls.key_file", "redis.url"], "{problems}");
        }
    }
}

#[test]
fn the_documentation_lists_every_key_with_its_default() {
    let text = std::fs::read_to_string(repository("docs/configuration.md")).unwrap();
    for key in KEYS {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{}` |", key.name)));
        let row = row.unwrap_or_else(|| panic!("docs/configuration.md has no row for {}", key.name));
        if let Fallback::Toml(default) = key.default {
            assert!(
                row.contains(&format!("| `{default}` |")),
                "{}: the default is {default}, not as in {row}",
                key.name
            );
        }
        if let ValueKind::Rows(keys) = key.kind {
            for inner in keys {
                let name = format!("{}[].{}", key.name, inner.name);
                assert!(text.contains(&format!("| `{name}` |")), "docs/configuration.md has no row for {name}");
            }
        }
    }
    let documented = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name));
    for name in documented.filter(|name| !name.contains("[]") && !name.contains(' ')) {
        assert!(KEYS.iter().any(|key| key.name == name), "{name} is documented, but is no key");
    }
}
