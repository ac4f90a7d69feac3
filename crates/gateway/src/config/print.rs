//! `--print-config`: the effective configuration as TOML.

use toml::Value;

use super::key::{KEYS, ValueKind};
use super::raw::RawConfig;

impl RawConfig {
    /// Every key that has a value, in the order of the table, secrets redacted. Apart from those it is a
    /// configuration file again.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for key in KEYS {
            let Some(setting) = self.settings.get(key.name) else { continue };
            let value = key.shown(&setting.value);
            let (key_section, name) = key.name.split_once('.').unwrap_or(("", key.name));
            if let (ValueKind::Rows(keys), "", Value::Array(rows)) = (key.kind, key_section, &value) {
                // Behind a section's head a bare key would belong to that section; a table has its own head.
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
