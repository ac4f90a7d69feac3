//! Reads flags, environment and file into one [`RawConfig`].

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::key::{KEYS, Key, ValueKind};
use super::nearest::nearest;
use super::problem::Source;
use super::raw::{RawConfig, Setting};
use super::source::Sources;
use super::text_file::read_text;
use super::variable::{FILE_VARIABLE, is_service_link, resembles};

/// The path of the file, and the source that named it.
type NamedFile = Option<(PathBuf, Source)>;

impl RawConfig {
    /// Reads all sources in order of precedence, flags first. The first source that sets a key wins, but every value
    /// is checked. Problems are collected here and reported by the check that follows.
    #[must_use]
    pub fn gather(sources: Sources) -> Self {
        let mut raw = Self::default();
        for flag in sources.flags {
            match Key::find(&flag.key) {
                Some(key) => raw.set(key, key.kind.read_text(&flag.text), Source::Flag(flag.written)),
                None => raw.unknown_key(flag.key, KEYS, Source::Flag(flag.written)),
            }
        }
        let mut file = sources.file.map(|path| (path, Source::Flag("--config".into())));
        let mut environment = sources.environment;
        environment.sort();
        for (name, text) in environment {
            raw.set_variable(name, &text, &mut file);
        }
        let has_file = file.is_some();
        if let Some((path, named_by)) = file {
            let text =
                read_text(&path).and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()));
            match text {
                Ok(text) => raw.set_file(&text, &Source::File(path)),
                Err(error) => {
                    let value = Value::from(&*path.to_string_lossy()).to_string();
                    raw.complain("the file", Some(value), named_by, format!("a file that can be read: {error}"));
                    raw.is_file_unread = true;
                }
            }
        }
        raw.resolve(has_file, sources.host.as_deref());
        raw
    }

    fn set_variable(&mut self, name: String, text: &str, file: &mut NamedFile) {
        // A line end comes with every value that was read from a file.
        let text = text.trim();
        // Compose files and unit files write `VARIABLE=` for "not set".
        if !name.starts_with("TIDEGATE_") || text.is_empty() || is_service_link(&name, text) {
            return;
        }
        // Other tools write a double underscore for the dot. No two keys differ only by this.
        let canonical = name.replace("__", "_");
        if canonical == FILE_VARIABLE {
            file.get_or_insert_with(|| (text.into(), Source::Environment(name)));
            return;
        }
        let Some(key) = KEYS.iter().find(|key| key.variable() == canonical) else {
            let Some(nearest) = resembles(&canonical) else { return self.foreign_variables.push(name) };
            // The value is not shown, because this may be a misspelt secret.
            let source = Source::Environment("the environment".into());
            return self.complain(name, None, source, format!("a variable that exists; the nearest is {nearest}"));
        };
        if text.contains(char::REPLACEMENT_CHARACTER) {
            return self.complain(key.name, None, Source::Environment(name), "a text in UTF-8".into());
        }
        if let Some(Setting { source: Source::Environment(other), .. }) = self.settings.get(key.name) {
            let expected = format!("one variable for it; {other} is set too");
            return self.complain(key.name, None, Source::Environment(name), expected);
        }
        self.set(key, key.kind.read_text(text), Source::Environment(name));
    }

    fn set_file(&mut self, text: &str, source: &Source) {
        let table = match text.parse::<Table>() {
            Ok(table) => table,
            Err(error) => {
                // The parser's own message quotes the line, which may contain a secret.
                let line = 1 + error.span().map_or(0, |span| text[..span.start].matches('\n').count());
                let expected = format!("TOML: {}", error.message());
                self.is_file_unread = true;
                return self.complain(format!("line {line}"), None, source.clone(), expected);
            }
        };
        for (name, value) in table {
            let section = format!("{name}.");
            match value {
                Value::Table(keys) if KEYS.iter().any(|key| key.name.starts_with(&section)) => {
                    for (key, value) in keys {
                        self.set_from_file(format!("{section}{key}"), value, source);
                    }
                }
                value => self.set_from_file(name, value, source),
            }
        }
    }

    fn set_from_file(&mut self, name: String, value: Value, source: &Source) {
        match (Key::find(&name), source) {
            (Some(key), Source::File(file)) => {
                // The file and the files that it names move together, wherever the gateway is started.
                let folder = file.parent().unwrap_or(Path::new(""));
                self.set(key, key.kind.resolve_files(value, folder), source.clone());
            }
            (Some(key), _) => self.set(key, value, source.clone()),
            (None, _) => self.unknown_key(name, KEYS, source.clone()),
        }
    }

    fn set(&mut self, key: &'static Key, value: Value, source: Source) {
        if let (ValueKind::Rows(keys), Value::Array(rows)) = (key.kind, &value) {
            for (index, row) in rows.iter().enumerate() {
                self.check_row(&format!("{}[{index}]", key.name), keys, row, &source);
            }
        }
        if let Some(value) = self.accept(key, key.name, value, &source) {
            self.settings.entry(key.name).or_insert(Setting { value, source });
        }
    }

    fn check_row(&self, name: &str, keys: &'static [Key], row: &Value, source: &Source) {
        for (key_name, value) in row.as_table().into_iter().flatten() {
            let full = format!("{name}.{key_name}");
            match keys.iter().find(|key| key.name == key_name) {
                Some(key) => drop(self.accept(key, &full, value.clone(), source)),
                None => self.unknown_key(full, keys, source.clone()),
            }
        }
    }

    /// The value is not shown, because the key may be a misspelt secret.
    fn unknown_key(&self, name: String, known: &[Key], source: Source) {
        let in_row = name.rsplit_once("].").map_or(&*name, |(_, key)| key);
        let nearest = nearest(in_row, known.iter().map(|key| key.name.to_owned()));
        self.complain(name, None, source, format!("a key that exists; the nearest is {nearest}"));
    }
}
