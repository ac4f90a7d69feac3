//! What is told of a configuration: every problem at once, the effective values, and never a secret.

use std::path::PathBuf;

use tidegate_gateway::config::{Config, FlagSetting, RawConfig, Sources};

use crate::temp_file::TempFile;

/// Stands wherever a secret may stand, and must never be seen.
const HIDDEN: &str = "hidden-hidden-hidden-hidden-hidden-hidden";

fn gather(file: Option<PathBuf>, environment: &[(&str, &str)], set: &[(&str, &str)]) -> RawConfig {
    let flag =
        |(key, text): &(&str, &str)| FlagSetting { written: "--set".into(), key: (*key).into(), text: (*text).into() };
    RawConfig::gather(Sources {
        flags: set.iter().map(flag).collect(),
        environment: environment.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect(),
        file,
        host: Some("web1".into()),
    })
}

fn problems(mut raw: RawConfig) -> String {
    Config::check(&mut raw).expect_err("this is wrong").to_string()
}

#[test]
fn every_problem_is_told_at_once_with_key_value_source_and_what_was_expected() {
    let file = TempFile::new(
        "told-all.toml",
        &format!(
            r#"
            shards = "many"
            lissten = "127.0.0.1:1"
            [limits]
            message_bytes_max = 4194304
            [redis]
            pool = 3
            [auth]
            keys = [
                {{ kid = "a", algorithm = "HS256", secret = "short-hidden" }},
                {{ algorithm = "HS512", secret = "{HIDDEN}" }},
                {{ algorithm = "HS256", secrett = "{HIDDEN}" }},
            ]
            "#
        ),
    );
    let environment = [
        ("TIDEGATE_LIMITS_PING_INTERVAL_MS", "soon"),
        ("TIDEGATE_REDIS_URI", "redis://:hidden@127.0.0.1"),
        ("TIDEGATE_REDIS_URL", "http://user:hidden@127.0.0.1"),
    ];
    let problems_found = problems(gather(Some(file.0.clone()), &environment, &[("log.format", "xml")]));
    let problems_found = problems_found.replace(&file.0.display().to_string(), "gateway.toml");
    assert_eq!(problems_found, include_str!("problems.txt"));
    assert!(!problems_found.contains("hidden"), "{problems_found}");
}

#[test]
fn neither_toml_errors_nor_debug_show_secrets() {
    let file = TempFile::new("told-syntax.toml", &format!("shards = 1\n[auth]\nkeys = [{{ secret = \"{HIDDEN}\" ]\n"));
    let problems_found = problems(gather(Some(file.0.clone()), &[], &[]));
    assert!(problems_found.contains("line 3 (from ") && !problems_found.contains(HIDDEN), "{problems_found}");
    for wrong in [format!("[{{ secret = '{HIDDEN}'"), format!("['{HIDDEN}']"), HIDDEN.to_owned()] {
        let problems_found = problems(gather(None, &[("TIDEGATE_AUTH_KEYS", &wrong)], &[]));
        assert!(
            problems_found.contains("auth.keys = ")
                && problems_found.contains("\"[redacted]\"")
                && !problems_found.contains(HIDDEN),
            "{problems_found}"
        );
    }
    let mut raw = gather(None, &serving(), &[]);
    let shown = format!("{:?}", Config::check(&mut raw).unwrap());
    assert!(shown.contains("redacted") && !shown.contains("hidden"), "{shown}");
}

fn serving() -> [(&'static str, &'static str); 2] {
    const KEYS: &str = r#"[{ kid = "a", algorithm = "HS256", secret = "hidden-hidden-hidden-hidden-hidden-hidden" }]"#;
    [("TIDEGATE_AUTH_KEYS", KEYS), ("TIDEGATE_REDIS_URL", "redis://me:hidden@127.0.0.1:6379/2")]
}

fn printed(mut raw: RawConfig) -> String {
    Config::check(&mut raw).unwrap_or_else(|problems| panic!("{problems}"));
    raw.to_toml()
}

#[test]
fn what_is_printed_hides_secrets_and_is_a_configuration_again() {
    let environment = [
        ("TIDEGATE_AUTH_KEYS", r#"[{ algorithm = "HS256", secret = "hidden-hidden-hidden-hidden-hidden-hidden" }]"#),
        ("TIDEGATE_REDIS_URL", "redis://me:hidden@127.0.0.1:6379/2"),
        ("TIDEGATE_FAMILIES", "[{ name = 'room', ttl_ms = 5000 }]"),
        ("TIDEGATE_AGENT_LISTEN", "127.0.0.1:9081"),
        ("TIDEGATE_SHARDS", "0"),
    ];
    let first = printed(gather(None, &environment, &[]));
    assert!(!first.contains("hidden"), "{first}");
    assert!(first.contains(r#"url = "redis://[redacted]@127.0.0.1:6379/2""#), "{first}");
    assert!(first.contains(r#"secret = "[redacted]""#), "{first}");

    let again = TempFile::new("told-again.toml", &first);
    let problems_found = problems(gather(Some(again.0.clone()), &[], &[]));
    assert!(
        problems_found.starts_with("2 problems ") && problems_found.matches("the secret itself").count() == 2,
        "{problems_found}"
    );

    let restored = first.replace("[redacted]@", "me:hidden@").replace("[redacted]", HIDDEN);
    let restored = TempFile::new("told-restored.toml", &restored);
    assert_eq!(printed(gather(Some(restored.0.clone()), &[], &[])), first);
}

#[test]
fn dev_mode_prints_a_configuration_again_too() {
    let first = printed(gather(None, &[], &[]));
    let file = TempFile::new("told-dev.toml", &first);
    assert_eq!(printed(gather(Some(file.0.clone()), &[], &[])), first);
}

#[test]
fn a_url_that_is_wrong_is_not_shown_with_its_password() {
    let urls = [
        "redis://:hidden@",
        "redis//:hidden@host",
        "user:hidden@host:6379",
        "redis://a:hid/d@en@host:port",
        "redis+sentinel://a:hidden@host?sentinel_password=hidden",
        "redis+sentinel://a:hid?den@host/main?sentinel_password=hid@den",
        "redis+sentinel://host/main?sentinel_password=hid@den",
        "redis+cluster://:hidden@host:port",
        "redis://default:hid#den@host:6379",
        "redis://default:57#hidden",
        "redis://:hidden",
        "redis://hidden@host",
        "redis://host:6379?password=hidden",
        "redis://host:6379#hidden",
        "redis://host:6379/hid den",
        "redis+sentinel://host:6379/main?hidden",
        "redis+cluster://a,b:hidden",
    ];
    for url in urls {
        let problems_found = problems(gather(None, &[("TIDEGATE_REDIS_URL", url)], &[]));
        assert!(problems_found.contains("redis.url = ") && !problems_found.contains("hid"), "{problems_found}");
    }
}

#[test]
fn the_url_of_sentinels_is_printed_without_either_password() {
    let url = "redis+sentinel://me:hidden@h1,h2:7000/main/2?sentinel_user=u&sentinel_password=hidden";
    let keys = format!(r#"[{{ algorithm = "HS256", secret = "{HIDDEN}" }}]"#);
    let printed = printed(gather(None, &[("TIDEGATE_AUTH_KEYS", &keys), ("TIDEGATE_REDIS_URL", url)], &[]));
    assert!(printed.contains(r#"url = "redis+sentinel://[redacted]@h1,h2:7000/main/2?[redacted]""#), "{printed}");
}
