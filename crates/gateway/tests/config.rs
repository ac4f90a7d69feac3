//! The configuration from all its sources: what wins, what is refused, and what is never shown.

use std::path::PathBuf;

use tidegate_gateway::config::{
    BrokerConfig, Config, Fallback, FlagSetting, KEYS, KeyMaterial, Kind, PublishConfig, RawConfig, Sources,
};

/// 32 bytes, the least.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A configuration that may serve.
fn keys_variable() -> (String, String) {
    ("TIDEGATE_AUTH_KEYS".into(), format!(r#"[{{ kid = "a", algorithm = "HS256", secret = "{SECRET}" }}]"#))
}

fn sources(environment: &[(&str, &str)]) -> Sources {
    let environment = environment.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
    Sources { environment, host: Some("web1".into()), ..Sources::default() }
}

fn serving(environment: &[(&str, &str)]) -> Sources {
    let mut sources = sources(environment);
    sources.environment.push(keys_variable());
    if !sources.environment.iter().any(|(name, _)| name == "TIDEGATE_BROKER" || name == "TIDEGATE_REDIS_URL") {
        sources.environment.push(("TIDEGATE_REDIS_URL".into(), "redis://127.0.0.1:6379".into()));
    }
    sources
}

fn set(key: &str, text: &str) -> FlagSetting {
    FlagSetting { written: "--set".into(), key: key.into(), text: text.into() }
}

fn check(sources: Sources) -> Result<Config, String> {
    Config::check(&mut RawConfig::gather(sources)).map_err(|problems| problems.to_string())
}

/// A file that is gone when the test ends.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("the temporary directory takes files");
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

// === sources ===

#[test]
fn flags_outweigh_the_environment_and_the_environment_the_file() {
    let file = TempFile::new(
        "precedence.toml",
        "listen = '127.0.0.1:1'\nadmin_listen = '127.0.0.1:2'\n[limits]\nping_interval_ms = 20000\nmessages_burst = 7\n",
    );
    let mut sources = serving(&[
        ("TIDEGATE_LISTEN", "127.0.0.1:3"),
        ("TIDEGATE_LIMITS_PING_INTERVAL_MS", "21000"),
        ("UNRELATED", "x"),
    ]);
    sources.file = Some(file.0.clone());
    sources.flags = vec![set("listen", "127.0.0.1:4"), set("listen", "127.0.0.1:5")];
    let config = check(sources).unwrap();
    assert_eq!(config.listen.port(), 4, "of two flags the first");
    assert_eq!(config.admin_listen.port(), 2);
    assert_eq!(config.limits.ping_interval.as_millis(), 21_000);
    assert_eq!(config.limits.messages_burst, 7);
    assert_eq!(config.limits.messages_per_second, 100, "nobody set it");
}

#[test]
fn the_environment_names_the_file_and_a_flag_names_another() {
    let (one, other) = (TempFile::new("one.toml", "shards = 1"), TempFile::new("other.toml", "shards = 2"));
    let mut sources = serving(&[]);
    sources.environment.push(("TIDEGATE_CONFIG".into(), one.0.display().to_string()));
    assert_eq!(check(sources).unwrap().shards, 1);
    let mut sources = serving(&[("TIDEGATE_CONFIG", "/nowhere/at/all.toml")]);
    sources.file = Some(other.0.clone());
    assert_eq!(check(sources).unwrap().shards, 2);
}

#[test]
fn a_variable_may_write_the_dot_as_one_underscore_or_two_and_be_empty() {
    let config = check(serving(&[("TIDEGATE_LIMITS__MESSAGES_BURST", "9"), ("TIDEGATE_AUTH_ISSUER", "")])).unwrap();
    assert_eq!((config.limits.messages_burst, config.auth.issuer), (9, None));
    let both = [("TIDEGATE_LIMITS__MESSAGES_BURST", "9"), ("TIDEGATE_LIMITS_MESSAGES_BURST", "8")];
    let problems = check(serving(&both)).unwrap_err();
    assert!(problems.contains("expected one variable for it; TIDEGATE_LIMITS_MESSAGES_BURST is set too"), "{problems}");
}

#[test]
fn lists_are_written_as_in_toml_or_with_commas() {
    let origins = |text| check(serving(&[("TIDEGATE_HTTP_ALLOWED_ORIGINS", text)])).unwrap().allowed_origins.exact;
    assert_eq!(origins("https://a.example, http://b.example:81"), ["https://a.example", "http://b.example:81"]);
    assert_eq!(origins(r#"["https://a.example"]"#), ["https://a.example"]);
    assert!(
        check(serving(&[("TIDEGATE_HTTP_ALLOWED_ORIGINS", "https://a.example/")])).is_err(),
        "origins have no path"
    );
}

#[test]
fn variables_that_kubernetes_makes_of_a_service_are_passed_over() {
    let links = [
        ("TIDEGATE_SERVICE_HOST", "10.0.0.1"),
        ("TIDEGATE_SERVICE_PORT", "8080"),
        ("TIDEGATE_SERVICE_PORT_WS", "8080"),
        ("TIDEGATE_PORT", "tcp://10.0.0.1:8080"),
        ("TIDEGATE_GATEWAY_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("TIDEGATE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
    ];
    check(serving(&links)).unwrap();
}

#[test]
fn every_key_has_a_variable_of_its_own() {
    let mut variables: Vec<String> = KEYS.iter().map(|key| key.variable()).collect();
    variables.push("TIDEGATE_CONFIG".into());
    for variable in &variables {
        assert_eq!(variables.iter().filter(|other| *other == variable).count(), 1, "{variable}");
        assert_eq!(variable.replace("__", "_"), *variable, "a double underscore stands for a dot");
        // Were it taken for one of Kubernetes' variables, it would be passed over even when it is wrong.
        if variable != "TIDEGATE_CONFIG" {
            let key = KEYS.iter().find(|key| key.variable() == *variable).unwrap();
            assert!(check(serving(&[(variable, "\u{FFFD}")])).is_err(), "{} is not read from {variable}", key.name);
        }
    }
}

#[test]
fn every_key_changes_what_the_gateway_runs_by() {
    let pem = TempFile::new("rsa.pem", RSA_PUBLIC);
    let rsa = format!("[{{ algorithm = 'RS256', public_key_file = '{}' }}]", pem.0.display());
    let runs_by = |flags: &[(&str, &str)]| {
        let flags = flags.iter().map(|(key, text)| set(key, text)).collect();
        let config = check(Sources { flags, environment: vec![keys_variable()], ..sources(&[]) });
        format!("{:?}", config.unwrap_or_else(|problems| panic!("{problems}")))
    };
    let redis = ("redis.url", "redis://127.0.0.1:6379");
    for key in KEYS {
        let one_more = |default: &str| (default.parse::<i64>().expect("a number") + 1).to_string();
        let other = match (key.name, key.kind, key.default) {
            ("shards", ..) => "251".to_owned(),
            ("auth.keys", ..) => rsa.clone(),
            ("auth.default_subscribe" | "auth.default_publish", ..) => "collection:7".into(),
            ("http.allowed_origins", ..) => "https://b.example".into(),
            ("families", ..) => "[{ name = 'room' }]".into(),
            ("limits.message_bytes_max", ..) => "2048".into(),
            ("registry.beat_ms", ..) => "1900".into(),
            ("registry.lease_ms", ..) => "5900".into(),
            ("log.filter", ..) => "debug".into(),
            (_, Kind::Flag, _) => "true".into(),
            (_, Kind::Number { .. }, Fallback::Toml(default)) => one_more(default),
            (_, Kind::Choice(words), _) => words[1].into(),
            (name, ..) if name.ends_with("listen") => "127.0.0.1:1234".into(),
            _ => "another".into(),
        };
        let (before, after) = match key.name {
            "broker" => (runs_by(&[redis]), runs_by(&[("broker", "memory")])),
            "redis.url" => (runs_by(&[redis]), runs_by(&[(redis.0, "redis://127.0.0.1:6380")])),
            "dev_page" => {
                let dev = ("dev", "true");
                (runs_by(&[redis, dev, ("dev_page", "false")]), runs_by(&[redis, dev, ("dev_page", "true")]))
            }
            name => (runs_by(&[redis]), runs_by(&[redis, (name, &other)])),
        };
        assert_ne!(before, after, "{} is a key that nothing reads", key.name);
    }
}

// === dev mode ===

#[test]
fn a_start_without_configuration_is_dev_mode_on_loopback_with_a_key_of_its_own() {
    let config = check(sources(&[])).unwrap();
    assert!(config.dev && config.dev_page);
    assert!(config.listen.ip().is_loopback() && config.admin_listen.ip().is_loopback());
    assert!(matches!(config.broker, BrokerConfig::Memory));
    assert!(config.allowed_origins.loopback && !config.allowed_origins.any);
    let secret = |config: &Config| match &config.auth.keys[..] {
        [key] => match &key.material {
            KeyMaterial::Hs256(secret) => secret.expose().to_vec(),
            KeyMaterial::Rs256(_) => panic!("a key that cannot sign"),
        },
        keys => panic!("{} keys", keys.len()),
    };
    assert_eq!(secret(&config).len(), 32);
    assert_ne!(secret(&config), secret(&check(sources(&[])).unwrap()));
    assert!(check(sources(&[("TIDEGATE_LOG_FILTER", "debug")])).unwrap().dev, "a log level opens nothing");
}

#[test]
fn a_configuration_without_keys_is_refused_and_told_how_to_make_one() {
    for environment in [&[("TIDEGATE_REDIS_URL", "redis://127.0.0.1")][..], &[("TIDEGATE_LISTEN", "127.0.0.1:0")]] {
        let problems = check(sources(environment)).unwrap_err();
        assert!(problems.contains("auth.keys is not set"), "{problems}");
        assert!(problems.contains("openssl rand -hex 32 > token.key"), "{problems}");
    }
    let empty = TempFile::new("empty.toml", "");
    let problems = check(Sources { file: Some(empty.0.clone()), ..sources(&[]) }).unwrap_err();
    assert!(problems.contains("auth.keys is not set"), "an empty file is a configuration: {problems}");
}

#[test]
fn outside_dev_mode_the_memory_broker_must_be_asked_for() {
    let mut without = serving(&[]);
    without.environment.retain(|(name, _)| name != "TIDEGATE_REDIS_URL");
    assert!(check(without).unwrap_err().contains("redis.url is not set"));
    let config = check(serving(&[("TIDEGATE_BROKER", "memory")])).unwrap();
    assert!(matches!(config.broker, BrokerConfig::Memory));
    assert_eq!(config.allowed_origins, tidegate_gateway::config::Origins::default());
}

#[test]
fn dev_mode_with_redis_stays_on_loopback() {
    let dev = |address| {
        let environment = [("TIDEGATE_DEV", "true"), ("TIDEGATE_REDIS_URL", "redis://127.0.0.1")];
        let flags = vec![set("listen", address), set("agent_listen", address)];
        check(Sources { flags, ..serving(&environment) })
    };
    let config = dev("[::1]:0").unwrap();
    assert!(config.dev && matches!(config.broker, BrokerConfig::Redis(_)));
    assert_eq!(config.auth.keys[0].kid.as_deref(), Some("a"), "the key that was given");
    let problems = dev("0.0.0.0:0").unwrap_err();
    assert_eq!(problems.matches("expected a loopback address").count(), 2, "{problems}");
    let page = check(serving(&[("TIDEGATE_DEV_PAGE", "true")])).unwrap_err();
    assert!(page.contains("expected dev = true with it"), "{page}");
}

// === values that do not fit each other ===

#[test]
fn values_must_fit_each_other() {
    for (key, value, expected) in [
        ("limits.outbox_bytes_max", "1048576", "at least 4194304, which is 4 × limits.message_bytes_max"),
        ("limits.message_bytes_max", "1048577", "at least 4194308, which is 4 × limits.message_bytes_max"),
        ("limits.pong_timeout_ms", "30000", "less than limits.ping_interval_ms, which is 30000"),
        ("registry.lease_ms", "4000", "nine tenths of the lease must hold two beats and one call"),
        ("registry.reap_ms", "7000", "reap must be at least lease + beat"),
        ("admin_listen", "127.0.0.1:8080", "an address of its own; listen is the same"),
        ("auth.default_subscribe", "rooms:*", "there is no channel family \"rooms\""),
        ("auth.default_publish", "user:7", "user:ID belongs to that user"),
        ("families", "[{ name = 'room' }, { name = 'room' }]", "a name that no other row has"),
        ("families", "[{ keyed = true }]", "the first segment of the family's channels"),
        ("families", "[{ name = 'user', keyed = false }]", "true: user:ID belongs to that user"),
        ("auth.keys", "[{ algorithm = 'HS256', secret = 'short' }]", "at least 32 bytes, this one has 5"),
        ("auth.keys", "[{ secret_file = 'x' }]", "HS256 or RS256"),
        ("auth.keys", "[{ algorithm = 'HS256', public_key_file = 'x' }]", "HS256 with secret or secret_file"),
        ("auth.keys", "[{ algorithm = 'RS256', secret_file = 'x' }]", "RS256 with public_key_file"),
        ("auth.keys", "[{ algorithm = 'HS256', secret_file = '/nowhere' }]", "a file that can be read; \"/nowhere\""),
        ("log.filter", "a=b=c", "a log filter, such as info"),
        ("redis.url", "rediss://127.0.0.1", "a URL such as redis://"),
        ("redis.prefix", "a:b", "a name: 1 to 128 letters"),
        ("shards", "-1", "a whole number of threads from 0 to 256"),
    ] {
        let flags = vec![set(key, value)];
        let problems = check(Sources { flags, ..serving(&[]) }).expect_err(key);
        assert!(problems.starts_with("1 problem "), "{key} = {value}: {problems}");
        assert!(problems.contains(expected), "{key} = {value}: {problems}");
    }
}

#[test]
fn families_are_changed_and_added_to() {
    let rows = "[{ name = 'room', ttl_ms = 5000, binary = true }, { name = 'system', history_entries_max = 0 }]";
    let config = check(serving(&[("TIDEGATE_FAMILIES", rows)])).unwrap();
    let names: Vec<_> = config.policies.families().iter().map(|(_, shape)| shape.name.clone()).collect();
    assert_eq!(names, ["user", "collection", "system", "room"]);
    let policy = |name| *config.policies.policy(config.policies.families().find(name).unwrap());
    assert_eq!((policy("room").ttl_ms, policy("room").lane, policy("room").binary), (5_000, 3, true));
    assert_eq!((policy("system").ttl_ms, policy("system").history_entries_max), (300_000, 0));
    assert!(!config.policies.families().shape(config.policies.families().find("system").unwrap()).keyed);
}

#[test]
fn keys_come_from_files_without_the_end_of_the_line() {
    let secret = TempFile::new("secret", &format!("{SECRET}\r\n"));
    let pem = TempFile::new("key.pem", RSA_PUBLIC);
    let rows = format!(
        "[{{ kid = 'h', algorithm = 'HS256', secret_file = '{}' }}, {{ algorithm = 'RS256', public_key_file = '{}' }}]",
        secret.0.display(),
        pem.0.display()
    );
    let config = check(Sources { flags: vec![set("auth.keys", &rows)], ..serving(&[]) }).unwrap();
    let [hmac, rsa] = &config.auth.keys[..] else { panic!("two keys") };
    assert!(matches!(&hmac.material, KeyMaterial::Hs256(read) if read.expose() == SECRET.as_bytes()));
    assert!(matches!(&rsa.material, KeyMaterial::Rs256(read) if read == RSA_PUBLIC.as_bytes()) && rsa.kid.is_none());
}

#[test]
fn publishing_needs_redis_and_no_keys() {
    let mut raw = RawConfig::gather(sources(&[("TIDEGATE_REDIS_URL", "redis://127.0.0.1:7")]));
    assert_eq!(PublishConfig::check(&mut raw).unwrap().redis.url, "redis://127.0.0.1:7");
    let problems = PublishConfig::check(&mut RawConfig::gather(sources(&[]))).unwrap_err().to_string();
    assert!(problems.contains("redis.url is not set"), "{problems}");
}

const RSA_PUBLIC: &str = include_str!("keys/test_only_rs256_public.pem");
