//! The channel families: the three of the mission, changed or added to by `[[families]]`.

use std::time::Duration;

use toml::{Table, Value};
use wire::{Families, FamilyShape};

use super::raw::{RawConfig, Row};

/// One family's grammar and policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyConfig {
    /// The first segment of its channels.
    pub name: String,
    /// Whether an id follows: `collection:{id}:…`, but `system:…`.
    pub keyed: bool,
    /// How long a message is kept for those who come back.
    pub ttl: Duration,
    /// How many messages a scope keeps at most.
    pub history_entries_max: usize,
    /// Which lane its messages take to the socket: 1 is written first, 3 last.
    pub lane: u8,
    /// Whether binary messages are taken.
    pub binary: bool,
}

/// `wire::Families` takes no more.
const FAMILIES_MAX: usize = 64;

/// Lifetimes are the owner's: a user's messages 24 h, a collection's 1 h, the system's 5 min.
fn built_in() -> Vec<FamilyConfig> {
    let further = FamilyConfig::further;
    vec![
        FamilyConfig { ttl: Duration::from_secs(24 * 60 * 60), lane: 2, ..further("user") },
        further("collection"),
        FamilyConfig { keyed: false, ttl: Duration::from_secs(5 * 60), lane: 1, ..further("system") },
    ]
}

impl FamilyConfig {
    /// What holds for a family that a row only names.
    fn further(name: &str) -> Self {
        let ttl = Duration::from_secs(60 * 60);
        Self { name: name.into(), keyed: true, ttl, history_entries_max: 1_000, lane: 3, binary: false }
    }

    /// All families: the built-in ones, then further ones in the order of their rows.
    pub(super) fn check(raw: &mut RawConfig) -> Vec<Self> {
        let mut families = built_in();
        let mut seen: Vec<String> = Vec::new();
        for row in raw.rows("families") {
            let Some(name) = row.text("name") else {
                if !row.has("name") {
                    raw.wrong_row(&row, "name", "the first segment of the family's channels");
                }
                continue;
            };
            if seen.iter().any(|other| other == name) {
                raw.wrong_row(&row, "name", "a name that no other row has");
            }
            seen.push(name.to_owned());
            match families.iter_mut().find(|family| family.name == name) {
                Some(family) => family.change(&row),
                None => {
                    let mut family = Self::further(name);
                    family.change(&row);
                    families.push(family);
                }
            }
            if name == "user" && row.flag("keyed") == Some(false) {
                raw.wrong_row(&row, "keyed", "true: user:ID belongs to that user");
            }
        }
        if families.len() > FAMILIES_MAX {
            raw.wrong("families", format!("at most {FAMILIES_MAX} families, the built-in ones included"));
        }
        raw.complete("families", Value::Array(families.iter().map(Self::to_row).collect()));
        families
    }

    fn change(&mut self, row: &Row) {
        self.keyed = row.flag("keyed").unwrap_or(self.keyed);
        self.ttl = row.number("ttl_ms").map_or(self.ttl, Duration::from_millis);
        let entries = row.number("history_entries_max").and_then(|entries| usize::try_from(entries).ok());
        self.history_entries_max = entries.unwrap_or(self.history_entries_max);
        self.lane = row.number("lane").and_then(|lane| u8::try_from(lane).ok()).unwrap_or(self.lane);
        self.binary = row.flag("binary").unwrap_or(self.binary);
    }

    fn to_row(&self) -> Value {
        let number = |number: u128| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
        Value::Table(Table::from_iter([
            ("name".to_owned(), Value::from(self.name.as_str())),
            ("keyed".to_owned(), Value::from(self.keyed)),
            ("ttl_ms".to_owned(), number(self.ttl.as_millis())),
            ("history_entries_max".to_owned(), number(self.history_entries_max as u128)),
            ("lane".to_owned(), number(self.lane.into())),
            ("binary".to_owned(), Value::from(self.binary)),
        ]))
    }
}

/// The channel grammar of these families.
pub(super) fn grammar(families: &[FamilyConfig]) -> Families {
    let shape = |family: &FamilyConfig| FamilyShape { name: family.name.clone(), keyed: family.keyed };
    // More than the table takes have been complained about.
    Families::new(families.iter().take(FAMILIES_MAX).map(shape).collect())
}
