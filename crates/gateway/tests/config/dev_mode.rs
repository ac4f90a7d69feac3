//! What a start without configuration may do, and what one with a configuration must have.

use tidegate_gateway::config::{BrokerConfig, Config, KeyMaterial, Origins, Sources};

use crate::given::{check, serving, set, sources};
use crate::temp_file::TempFile;

#[test]
fn a_start_without_configuration_is_dev_mode_on_loopback_with_a_key_of_its_own() {
    let config = check(sources(&[])).unwrap();
    assert!(config.dev && config.dev_page);
    assert!(config.listen.ip().is_loopback() && config.admin_listen.ip().is_loopback());
    assert!(matches!(config.broker, BrokerConfig::Memory));
    assert!(config.http.allowed_origins.loopback && !config.http.allowed_origins.any);
    let secret = |config: &Config| match &config.auth.keys[..] {
        [key] => match &key.material {
            KeyMaterial::Hs256(secret) => secret.expose().to_vec(),
            _ => panic!("a key that cannot sign"),
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
    assert_eq!(config.http.allowed_origins, Origins::default());
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
