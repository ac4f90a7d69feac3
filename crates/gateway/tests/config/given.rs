//! Sources to begin with, and the check of them.

use tidegate_gateway::config::{Config, FlagSetting, RawConfig, Sources};

/// 32 bytes, the least.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A configuration that may serve.
pub(crate) fn keys_variable() -> (String, String) {
    ("TIDEGATE_AUTH_KEYS".into(), format!(r#"[{{ kid = "a", algorithm = "HS256", secret = "{SECRET}" }}]"#))
}

pub(crate) fn sources(environment: &[(&str, &str)]) -> Sources {
    let environment = environment.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
    Sources { environment, host: Some("web1".into()), ..Sources::default() }
}

pub(crate) fn serving(environment: &[(&str, &str)]) -> Sources {
    let mut sources = sources(environment);
    sources.environment.push(keys_variable());
    if !sources.environment.iter().any(|(name, _)| name == "TIDEGATE_BROKER" || name == "TIDEGATE_REDIS_URL") {
        sources.environment.push(("TIDEGATE_REDIS_URL".into(), "redis://127.0.0.1:6379".into()));
    }
    sources
}

pub(crate) fn set(key: &str, text: &str) -> FlagSetting {
    FlagSetting { written: "--set".into(), key: key.into(), text: text.into() }
}

pub(crate) fn check(sources: Sources) -> Result<Config, String> {
    Config::check(&mut RawConfig::gather(sources)).map_err(|problems| problems.to_string())
}

/// The public half of a key that is published and worthless.
pub(crate) const RSA_PUBLIC: &str = include_str!("../keys/test_only_rs256_public.pem");
