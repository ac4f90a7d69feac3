//! The channel families: the router's built-in families, and the changes and additions of `[[families]]`.

use message_router::{Acknowledge, FamilyPolicy, OnIsolation, OnSlow, Policies};
use toml::{Table, Value};
use wire::FamilyShape;

use super::choices::{ACKNOWLEDGE, ON_ISOLATION, ON_SLOW};
use super::raw::{RawConfig, TableRow};

/// The limit of [`wire::Families`].
const FAMILIES_MAX: usize = 64;

/// Policy of an added family whose row sets only its name: messages are kept for one hour, its lane is the one
/// written last, and during isolation it is read-only, so that no message reaches only a part of its subscribers.
const FURTHER: FamilyPolicy = FamilyPolicy::kept_for(60 * 60 * 1_000, 3, OnIsolation::ReadOnly);

type Family = (FamilyShape, FamilyPolicy);

/// Returns all families: the built-in ones first, then the added ones in the order of their rows.
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
        if name == "user" && row.flag("presence") == Some(true) {
            let expected =
                "false: each scope of user belongs to one user, and others see that user in the scopes they share";
            raw.wrong_row(&row, "presence", expected);
        }
        match families.iter_mut().find(|(shape, _)| shape.name == name) {
            Some(family) => change(family, &row),
            None => {
                let mut family = (FamilyShape { name: name.to_owned(), keyed: true }, FURTHER);
                change(&mut family, &row);
                families.push(family);
            }
        }
        let keeps_history = row.number("history_entries_max") != Some(0);
        if !keeps_history && row.text("on_slow").and_then(on_slow) == Some(OnSlow::CatchUp) {
            raw.wrong_row(
                &row,
                "on_slow",
                "\"latest\" or \"close\": a family without history has nothing to catch up from",
            );
        }
    }
    if families.len() > FAMILIES_MAX {
        raw.wrong("families", format!("at most {FAMILIES_MAX} families, the built-in ones included"));
        families.truncate(FAMILIES_MAX);
    }
    raw.complete("families", Value::Array(families.iter().map(to_row).collect()));
    Policies::new(families)
}

fn change((shape, policy): &mut Family, row: &TableRow) {
    shape.keyed = row.flag("keyed").unwrap_or(shape.keyed);
    policy.ttl_ms = row.number("ttl_ms").unwrap_or(policy.ttl_ms);
    let entries = row.number("history_entries_max").and_then(|entries| u32::try_from(entries).ok());
    policy.history_entries_max = entries.unwrap_or(policy.history_entries_max);
    policy.lane = row.number("lane").and_then(|lane| u8::try_from(lane).ok()).unwrap_or(policy.lane);
    policy.binary = row.flag("binary").unwrap_or(policy.binary);
    if policy.history_entries_max == 0 && policy.on_slow == OnSlow::CatchUp {
        policy.on_slow = OnSlow::Close;
    }
    policy.on_slow = row.text("on_slow").and_then(on_slow).unwrap_or(policy.on_slow);
    policy.on_isolation = row.text("on_isolation").and_then(on_isolation).unwrap_or(policy.on_isolation);
    policy.acknowledge = row.text("acknowledge").and_then(acknowledge).unwrap_or(policy.acknowledge);
    policy.redact_dead_letters = row.flag("redact_dead_letters").unwrap_or(policy.redact_dead_letters);
    policy.receipts = row.flag("receipts").unwrap_or(policy.receipts);
    policy.presence = row.flag("presence").unwrap_or(policy.presence);
}

fn on_isolation(text: &str) -> Option<OnIsolation> {
    choose(text, ON_ISOLATION, [OnIsolation::Local, OnIsolation::ReadOnly])
}

fn on_slow(text: &str) -> Option<OnSlow> {
    choose(text, ON_SLOW, [OnSlow::CatchUp, OnSlow::Latest, OnSlow::Close])
}

fn acknowledge(text: &str) -> Option<Acknowledge> {
    choose(text, ACKNOWLEDGE, [Acknowledge::Stored, Acknowledge::Replicated])
}

fn choose<T, const N: usize>(text: &str, names: &[&str], values: [T; N]) -> Option<T> {
    names.iter().zip(values).find_map(|(name, value)| (*name == text).then_some(value))
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
        ("on_isolation".to_owned(), Value::from(ON_ISOLATION[policy.on_isolation as usize])),
        ("on_slow".to_owned(), Value::from(ON_SLOW[policy.on_slow as usize])),
        ("acknowledge".to_owned(), Value::from(ACKNOWLEDGE[policy.acknowledge as usize])),
        ("redact_dead_letters".to_owned(), Value::from(policy.redact_dead_letters)),
        ("receipts".to_owned(), Value::from(policy.receipts)),
        ("presence".to_owned(), Value::from(policy.presence)),
    ]))
}
