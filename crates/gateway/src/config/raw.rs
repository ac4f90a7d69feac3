//! The unchecked configuration: the value and the source of each key, and the problems found so far.
//!
//! This is not a `serde` struct, because `serde` stops at the first error and does not keep the source of a value.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use toml::{Table, Value};

use super::key::{Key, ValueKind};
use super::problem::{Problem, Problems, Source};

/// The value of each key, and the problems found so far.
#[derive(Debug, Default)]
pub struct RawConfig {
    pub(super) settings: BTreeMap<&'static str, Setting>,
    /// In a `RefCell`, so that a check can report a problem while it borrows values.
    problems: RefCell<Vec<Problem>>,
    /// A configuration file was named but could not be read, so its settings are unknown.
    pub(super) is_file_unread: bool,
    /// Names of variables that begin with `TIDEGATE_` and belong to other programs.
    pub(super) foreign_variables: Vec<String>,
}

/// The value of one key, and its source.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// The value, of the key's kind.
    pub(super) value: Value,
    /// The source that set it.
    pub(super) source: Source,
}

/// One row of a list of tables.
#[derive(Debug)]
pub(super) struct TableRow {
    /// The full name of the list's key.
    list: &'static str,
    /// Index in the list, from 0.
    index: usize,
    /// All keys that the row sets.
    names: Vec<String>,
    /// The values that passed their checks.
    table: Table,
}

// === reporting problems ===

impl RawConfig {
    pub(super) fn complain(&self, key: impl Into<String>, value: Option<String>, source: Source, expected: String) {
        self.problems.borrow_mut().push(Problem { key: key.into(), value, source, expected });
    }

    /// Reports that a key has a wrong value, or that a required key has none. Reports nothing if the file could not
    /// be read: then the key may be set there, and the unreadable file is already reported.
    pub(super) fn wrong(&self, name: &'static str, expected: impl Into<String>) {
        if self.is_file_unread {
            return;
        }
        let key = Key::find(name).expect("checks name keys of the table");
        match self.settings.get(name) {
            Some(Setting { value, source }) if *source != Source::Default || !is_empty_list(value) => {
                self.complain(name, Some(key.shown(value).to_string()), source.clone(), expected.into());
            }
            // The key is set, but its value was refused: it is not missing.
            _ if self.problems.borrow().iter().any(|problem| problem.key == name) => {}
            _ => self.complain(name, None, Source::Default, expected.into()),
        }
    }

    /// Reports that a value in a row of a list is wrong. The value is not shown.
    pub(super) fn wrong_row(&self, row: &TableRow, key: &str, expected: impl Into<String>) {
        let source = self.settings.get(row.list).map_or(Source::Default, |setting| setting.source.clone());
        self.complain(format!("{}[{}].{key}", row.list, row.index), None, source, expected.into());
    }

    /// Returns all problems and clears them.
    ///
    /// # Errors
    /// If there are problems.
    pub(super) fn finish(&self) -> Result<(), Problems> {
        let problems = self.problems.take();
        if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
    }

    /// Checks a value against its key and reports a problem if the key does not accept it. `name` is the full name of
    /// the key; in a row it includes the list and the index.
    pub(super) fn accept(&self, key: &Key, name: &str, value: Value, source: &Source) -> Option<Value> {
        let shown = key.shown(&value).to_string();
        let complain = |expected| self.complain(name, Some(shown), source.clone(), expected);
        key.accept(value).map_err(complain).ok()
    }
}

// === values ===
//
// These functions panic if a key has no value. This does not happen: `resolve` sets the default of every key, and
// keys without a default are read with `optional_text` or `optional_ms`.

impl RawConfig {
    /// The variables that begin with `TIDEGATE_`, resemble no key, and are passed over.
    #[must_use]
    pub fn foreign_variables(&self) -> &[String] {
        &self.foreign_variables
    }

    /// The keys whose values differ from those of an earlier reading, and that SIGHUP does not replace.
    #[must_use]
    pub fn needs_restart(&self, before: &Self) -> Vec<&'static str> {
        let value = |raw: &Self, name: &str| raw.settings.get(name).map(|setting| setting.value.clone());
        let is_set = |name: &&str| !self.is_default(name) || !before.is_default(name);
        let differs = |name: &&'static str| value(self, name) != value(before, name);
        // Dev mode keeps its keys, and TLS is not switched on or off.
        let is_dev = value(before, "dev").is_some_and(|dev| dev.as_bool() == Some(true));
        let is_switched = |name: &str| value(self, name).is_some() != value(before, name).is_some();
        let is_kept = |name: &str| is_dev && name.starts_with("auth.") || name.starts_with("tls.") && is_switched(name);
        let names = super::key::KEYS.iter().map(|key| key.name).filter(|name| is_kept(name) || !is_reloadable(name));
        names.filter(is_set).filter(differs).collect()
    }

    /// Whether no source sets the key.
    pub(super) fn is_default(&self, name: &str) -> bool {
        self.settings.get(name).is_none_or(|setting| setting.source == Source::Default)
    }

    fn value(&self, name: &str) -> &Value {
        &self.settings.get(name).unwrap_or_else(|| panic!("{name} has a default")).value
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.value(name).as_bool().expect("checked by its kind")
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        self.value(name).as_integer().and_then(|number| u64::try_from(number).ok()).expect("checked by its kind")
    }

    pub(super) fn size(&self, name: &str) -> usize {
        usize::try_from(self.number(name)).unwrap_or(usize::MAX)
    }

    pub(super) fn count(&self, name: &str) -> u32 {
        u32::try_from(self.number(name)).unwrap_or(u32::MAX)
    }

    pub(super) fn ms(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name))
    }

    /// Like [`Self::ms`], for a key without a default.
    pub(super) fn optional_ms(&self, name: &str) -> Option<Duration> {
        self.settings.contains_key(name).then(|| self.ms(name))
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.value(name).as_str().expect("checked by its kind")
    }

    pub(super) fn optional_text(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(|setting| setting.value.as_str().expect("checked by its kind"))
    }

    pub(super) fn address(&self, name: &str) -> SocketAddr {
        self.text(name).parse().expect("checked by its kind")
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let list = self.value(name).as_array().expect("checked by its kind");
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Returns the rows of a list. Values that failed their check are already reported, and are left out.
    pub(super) fn rows(&self, list: &'static str) -> Vec<TableRow> {
        let Some(ValueKind::Rows(keys)) = Key::find(list).map(|key| key.kind) else {
            panic!("{list} is a list of tables")
        };
        let rows = self.value(list).as_array().expect("checked by its kind").iter().filter_map(Value::as_table);
        let accepted = |table: &Table| {
            let accepted = |(name, value): (&String, &Value)| {
                let key = keys.iter().find(|key| key.name == name)?;
                Some((name.clone(), key.accept(value.clone()).ok()?))
            };
            table.iter().filter_map(accepted).collect()
        };
        let row = |(index, table): (usize, &Table)| TableRow {
            list,
            index,
            names: table.keys().cloned().collect(),
            table: accepted(table),
        };
        rows.enumerate().map(row).collect()
    }
}

/// Whether SIGHUP replaces the key's value. Of a file, its content too.
fn is_reloadable(name: &str) -> bool {
    let is_file = ["tls.", "redis."].iter().any(|section| name.starts_with(section)) && name.ends_with("_file");
    let is_of_tokens = name.starts_with("auth.") && !matches!(name, "auth.cookie" | "auth.expiry_grace_ms");
    is_file || is_of_tokens || matches!(name, "http.allowed_origins" | "log.filter")
}

fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

impl TableRow {
    /// Whether the row sets the key, even with a wrong value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.names.iter().any(|name| name == key)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.table.get(key).and_then(Value::as_str)
    }

    /// The texts of a list; none if the row does not set it.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        let list = self.table.get(key).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.table.get(key).and_then(Value::as_bool)
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.table.get(key).and_then(Value::as_integer).and_then(|number| u64::try_from(number).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    const SERVING: [(&str, &str); 2] = [
        ("TIDEGATE_BROKER", "memory"),
        ("TIDEGATE_AUTH_KEYS", r#"[{ algorithm = "HS256", secret = "0123456789abcdef0123456789abcdef" }]"#),
    ];
    const TLS: [(&str, &str); 2] = [("TIDEGATE_TLS_CERT_FILE", "a.pem"), ("TIDEGATE_TLS_KEY_FILE", "a.key")];

    fn read(environments: &[&[(&str, &str)]]) -> RawConfig {
        let variables = environments.iter().copied().flatten();
        let environment = variables.map(|(name, text)| ((*name).into(), (*text).into())).collect();
        let mut raw = RawConfig::gather(Sources { environment, ..Sources::default() });
        // It sets what is derived. The files of these certificates do not exist.
        let _ = Config::check(&mut raw);
        raw
    }

    #[test]
    fn a_reload_names_the_keys_that_it_does_not_replace() {
        let none: &[(&str, &str)] = &[];
        let renewed = [("TIDEGATE_TLS_CERT_FILE", "b.pem"), ("TIDEGATE_TLS_KEY_FILE", "b.key")];
        let dev = [("TIDEGATE_DEV", "true")];
        let leeway = [("TIDEGATE_AUTH_LEEWAY_S", "3")];
        let (files, nothing): (&[&str], &[&str]) = (&["tls.cert_file", "tls.key_file"], &[]);
        let cases: [(&[_], &[_], &[_], &[&str]); 8] = [
            (none, none, &[("TIDEGATE_AUTH_EXPIRY_GRACE_MS", "5000")], &["auth.expiry_grace_ms"]),
            (none, none, &[("TIDEGATE_AUTH_COOKIE", "other")], &["auth.cookie"]),
            (none, none, &leeway, nothing),
            (&dev, none, &leeway, &["auth.leeway_s"]),
            (none, &TLS, &renewed, nothing),
            (none, none, &TLS, files),
            (none, &TLS, none, files),
            (none, none, &[("TIDEGATE_SHARDS", "3"), ("TIDEGATE_LOG_FILTER", "debug")], &["shards"]),
        ];
        for (n, (both, before, after, expected)) in cases.into_iter().enumerate() {
            let before = read(&[&SERVING, both, before]);
            assert_eq!(read(&[&SERVING, both, after]).needs_restart(&before), expected, "{n}");
        }
    }
}
