//! Retired house words may not come back as names.

use super::{Finding, Source};

/// House words for things that have a common name. They may not be a part of an identifier or of a file name.
const RETIRED: [&str; 37] = [
    "barrage",
    "bell",
    "bounced",
    "desk",
    "dice",
    "errand",
    "errands",
    "ghost",
    "ghosts",
    "haunted",
    "hearer",
    "hearers",
    "hearsay",
    "heart",
    "leaseless",
    "leash",
    "leashed",
    "ledger",
    "letterbox",
    "pulse",
    "rig",
    "rival",
    "rivals",
    "rung",
    "seat",
    "seated",
    "seats",
    "shed",
    "shelf",
    "slim",
    "swarm",
    "turnover",
    "unheard",
    "watchman",
    "wish",
    "wished",
    "wishes",
];

/// Retired words that comments may not contain either, because they have no ordinary meaning.
const RETIRED_IN_PROSE: [&str; 6] = ["bell", "desk", "errand", "letterbox", "shelf", "swarm"];

/// A test name with at least this many words is a sentence. Sentences may use any word.
const SENTENCE_WORDS_MIN: usize = 5;

pub(super) fn retired_names_stay_away(source: &Source) -> Vec<Finding> {
    if source.path.ends_with("xtask/src/tidy/words.rs") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let parts = source.path.split('/').map(|part| part.trim_end_matches(".rs"));
    for word in parts.flat_map(words_of).filter(|word| RETIRED.contains(&word.as_str())) {
        findings
            .push(source.error(0, format!("`{word}` is a retired name; ARCHITECTURE.md's glossary has the field's")));
    }
    for (view, retired) in [(&source.code, &RETIRED[..]), (&source.comments, &RETIRED_IN_PROSE)] {
        for (at, name) in identifiers(view) {
            let words = words_of(name);
            if words.len() >= SENTENCE_WORDS_MIN {
                continue;
            }
            for word in words.iter().filter(|word| retired.contains(&word.as_str())) {
                let what = format!("`{word}` in `{name}` is a retired name; use the field's word");
                findings.push(source.error(source.line_of(at), what));
            }
        }
    }
    findings
}

fn identifiers(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let names = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|name| !name.is_empty());
    names.map(|name| (name.as_ptr() as usize - text.as_ptr() as usize, name))
}

/// The words of an identifier in any case style of Rust.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if c == '_' || c == '-' || (c.is_ascii_uppercase() && was_lower) {
            words.push(String::new());
        }
        if c.is_ascii_alphanumeric() {
            words.last_mut().expect("there is one").push(c.to_ascii_lowercase());
        }
        was_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retired_word_is_found_in_every_case_of_a_name_and_in_a_file() {
        let found = |path: &str, text: &str| retired_names_stay_away(&Source::new(path, text)).len();
        for text in ["struct DeskLamp;", "let bell_rope = 1;", "const SEAT: u8 = 0;", "fn take_errands() {}"] {
            assert_eq!(found("a.rs", text), 1, "{text}");
        }
        assert_eq!(found("crates/x/src/letterbox.rs", ""), 1);
        assert_eq!(found("a.rs", "// An errand.\n"), 1);
        for text in [
            "let heartbeat = 1;",
            "let s = \"a bell\";",
            "// a seat\n",
            "fn who_takes_a_seat_is_seated() {}",
            "let shelved = 1;",
        ] {
            assert_eq!(found("a.rs", text), 0, "{text}");
        }
    }
}
