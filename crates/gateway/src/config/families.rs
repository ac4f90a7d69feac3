//! The channel families: the router's default ones, changed or added to by `[[families]]`.

use message_router::{FamilyPolicy, HISTORY_ENTRIES_DEFAULT, Policies};
use toml::{Table, Value};
use wire::FamilyShape;

use super::raw::{RawConfig, Row};

/// [`wire::Families`] takes no more.
const FAMILIES_MAX: usize = 64;

/// What holds for a family that a row only names: kept like a collection, written last.
const FURTHER: FamilyPolicy =
    FamilyPolicy { ttl_ms: 60 * 60 * 1_000, history_entries_max: HISTORY_ENTRIES_DEFAULT, lane: 3, binary: false };

type Family = (FamilyShape, FamilyPolicy);

/// All families: the built-in ones, then further ones in the order of their rows.
pub(super) fn check_families(raw: &mut RawConfig) -> Policies {
    let built_in = Policies::default();
    let family = |(index, shape): (_, &FamilyShape)| (shape.clone(), *built_in.policy(index));
    let mut families: Vec<Family> = built_in.families().iter().map(family).collect();
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
        if name == "user" && row.flag("keyed") == Some(false) {
            raw.wrong_row(&row, "keyed", "true: user:ID belongs to that user");
        }
        match families.iter_mut().find(|(shape, _)| shape.name == name) {
            Some(family) => change(family, &row),
            None => {
                let mut family = (FamilyShape { name: name.to_owned(), keyed: true }, FURTHER);
                change(&mut family, &row);
                families.push(family);
            }
        }
    }
    if families.len() > FAMILIES_MAX {
        raw.wrong("families", format!("at most {FAMILIES_MAX} families, the built-in ones included"));
        families.truncate(FAMILIES_MAX);
    }
    raw.complete("families", Value::Array(families.iter().map(to_row).collect()));
    Policies::new(families)
}

fn change((shape, policy): &mut Family, row: &Row) {
    shape.keyed = row.flag("keyed").unwrap_or(shape.keyed);
    policy.ttl_ms = row.number("ttl_ms").unwrap_or(policy.ttl_ms);
    let entries = row.number("history_entries_max").and_then(|entries| u32::try_from(entries).ok());
    policy.history_entries_max = entries.unwrap_or(policy.history_entries_max);
    policy.lane = row.number("lane").and_then(|lane| u8::try_from(lane).ok()).unwrap_or(policy.lane);
    policy.binary = row.flag("binary").unwrap_or(policy.binary);
}

fn to_row((shape, policy): &Family) -> Value {
    let number = |number: u64| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
    Value::Table(Table::from_iter([
        ("name".to_owned(), Value::from(shape.name.as_str())),
        ("keyed".to_owned(), Value::from(shape.keyed)),
        ("ttl_ms".to_owned(), number(policy.ttl_ms)),
        ("history_entries_max".to_owned(), number(policy.history_entries_max.into())),
        ("lane".to_owned(), number(policy.lane.into())),
        ("binary".to_owned(), Value::from(policy.binary)),
    ]))
}
