//! `--print-config`: the effective configuration as TOML.

use toml::Value;

use super::key::{KEYS, ValueKind};
use super::raw::RawConfig;

impl RawConfig {
    /// Returns every key that has a value, in the order of the table, with secrets redacted. Once the redacted
    /// secrets are filled in, it is a valid configuration file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for key in KEYS {
            let Some(setting) = self.settings.get(key.name) else { continue };
            let value = key.shown(&setting.value);
            let (key_section, name) = key.name.split_once('.').unwrap_or(("", key.name));
            if let (ValueKind::Rows(keys), "", Value::Array(rows)) = (key.kind, key_section, &value) {
                // After the header of a section, a bare key would belong to that section. A list of tables has its
                // own headers.
                for row in rows {
                    out += &format!("\n[[{name}]]\n");
                    let values = keys.iter().filter_map(|key| Some((key.name, row.get(key.name)?)));
                    values.for_each(|(name, value)| out += &format!("{name} = {value}\n"));
                }
                continue;
            }
            if key_section != section {
                out += &format!("\n[{key_section}]\n");
                section = key_section;
            }
            out += &format!("{name} = {value}\n");
        }
        out
    }
}
