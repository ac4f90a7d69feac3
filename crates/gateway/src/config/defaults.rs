//! Sets the default of every key: first the fixed defaults, then those derived from other keys or from the machine.

use std::num::NonZeroUsize;

use toml::Value;

use super::choices::SHARDS_MAX;
use super::instance::instance_name;
use super::key::{Fallback, KEYS, parse_toml_value};
use super::problem::Source;
use super::raw::{RawConfig, Setting};

/// Keys that do not end dev mode when they are set: they open no listener and configure no resource.
const FOR_DEV: [&str; 4] = ["dev", "dev_page", "log.filter", "log.format"];

impl RawConfig {
    /// Sets every key that no source has set. `has_file` is true if a configuration file was named, even if it is
    /// empty.
    pub(super) fn resolve(&mut self, has_file: bool, host: Option<&str>) {
        let is_bare = !has_file && self.settings.keys().all(|key| FOR_DEV.contains(key));
        for key in KEYS {
            if let Fallback::Toml(text) = key.default {
                self.fill(key.name, parse_toml_value(text).expect("defaults are TOML"));
            }
        }
        self.fill("dev", Value::from(is_bare));
        let dev = self.flag("dev");
        self.fill("dev_page", Value::from(dev));
        // Outside dev mode the memory broker must be configured explicitly: several instances that do not share
        // messages would all report that they are healthy.
        let is_memory = dev && self.optional_text("redis.url").is_none();
        self.fill("broker", Value::from(if is_memory { "memory" } else { "redis" }));
        let origins = if dev { vec!["loopback"] } else { Vec::new() };
        self.fill("http.allowed_origins", Value::from(origins));
        self.fill("auth.keys", Value::Array(Vec::new()));
        self.fill("families", Value::Array(Vec::new()));
        self.fill("instance", Value::from(instance_name(host, self.address("listen").port())));
        if self.number("shards") == 0 {
            // Takes CPU affinity and the quota of the cgroup into account.
            let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
            self.complete("shards", Value::from(i64::try_from(cores).unwrap_or(SHARDS_MAX).min(SHARDS_MAX)));
        }
    }

    fn fill(&mut self, name: &'static str, value: Value) {
        self.settings.entry(name).or_insert(Setting { value, source: Source::Default });
    }

    /// Replaces a configured value by its effective value, for `--print-config`.
    pub(super) fn complete(&mut self, name: &'static str, value: Value) {
        let setting = self.settings.get_mut(name).expect("every key has its default");
        setting.value = value;
    }
}
