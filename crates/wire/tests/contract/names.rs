//! Channels and patterns: every case of `channels.json`.

use wire::{ChannelError, Families, Filter, Message, Name, Pattern, TenantId};

use crate::vectors::{Case, Vectors};

fn tenant(case: &Case<'_>) -> TenantId {
    TenantId::parse(case.find_text("tenant").unwrap_or("acme")).unwrap()
}

fn parse(text: &str) -> Pattern {
    let acme = TenantId::parse("acme").unwrap();
    Families::default().parse(&acme, text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn valid_names_are_read_and_written_back() {
    let families = Families::default();
    for case in Vectors::load("channels.json").cases("valid") {
        let text = case.text("text");
        let pattern = families.parse(&tenant(&case), text).unwrap_or_else(|e| panic!("{}: {text}: {e}", case.at));
        let filter = match (case.find_text("topic"), case.find_text("below")) {
            (Some(topic), None) => Filter::Exact(topic.into()),
            (None, Some(head)) => Filter::Below(head.into()),
            _ => panic!("{}: either a topic or below", case.at),
        };
        assert_eq!((pattern.scope.as_str(), &pattern.filter), (case.text("scope"), &filter), "{}: {text}", case.at);
        assert_eq!(pattern.to_string(), text, "{}", case.at);
        let scope = families.parse_scope(pattern.scope.as_str());
        assert_eq!(scope.as_ref(), Some(&pattern.scope), "{}: a scope is read back from its text", case.at);
        match families.parse_channel(&tenant(&case), text) {
            Ok(channel) => assert_eq!((channel.topic(), channel.to_string()), (case.text("topic"), text.to_owned())),
            Err(error) => {
                assert!(case.get("below").is_some(), "{}: {text}: {error}", case.at);
                assert_eq!(error, ChannelError::PatternNotChannel, "{}: {text}", case.at);
            }
        }
    }
}

#[test]
fn invalid_names_are_refused_for_the_rule_they_break() {
    for case in Vectors::load("channels.json").cases("invalid") {
        let text = case.text("text");
        let error = match Families::default().parse(&tenant(&case), text) {
            Ok(pattern) => panic!("{}: {text:?} was taken for {pattern:?}", case.at),
            Err(ChannelError::TooLong) => "too_long",
            Err(ChannelError::UnknownFamily(..)) => "unknown_family",
            Err(ChannelError::MissingId(_)) => "missing_id",
            Err(ChannelError::Name(_)) => "name",
            Err(ChannelError::Wildcard(_)) => "wildcard",
            Err(ChannelError::PatternNotChannel) => "pattern",
        };
        assert_eq!(error, case.text("error"), "{}: {text:?}", case.at);
    }
}

#[test]
fn patterns_match_what_is_below_them_and_nothing_else() {
    for case in Vectors::load("channels.json").cases("matching") {
        let wanted = parse(case.text("pattern"));
        for (list, expected) in [("hears", true), ("does_not_hear", false)] {
            for text in case.texts(list) {
                let channel = Families::default().parse_channel(&TenantId::parse("acme").unwrap(), text).unwrap();
                let matches = channel.scope == wanted.scope && wanted.filter.matches(channel.topic());
                assert_eq!(matches, expected, "{}: {wanted} and {text}", case.at);
                assert_eq!(matches_by_text(case.text("pattern"), text), expected, "{}: by text alone", case.at);
            }
        }
    }
}

/// Tries every character alone: a character that is accepted by mistake may have a meaning for Redis or the grammar.
#[test]
fn the_alphabets_are_those_of_the_document() {
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    for c in '\0'..='\u{250}' {
        let text = c.to_string();
        assert_eq!(Name::parse(&text).is_ok(), alphanumeric(c) || "_.@|=+~-".contains(c), "{c:?} in a name");
        let stored = serde_json::json!({"type": text}).to_string();
        let is_type = Message::parse(stored.as_bytes()).is_ok();
        assert_eq!(is_type, alphanumeric(c) || "_.:-".contains(c), "{c:?} in a message's type");
    }
}

/// The comparison that `docs/protocol.md` describes for clients, which do not know scopes.
pub(crate) fn matches_by_text(pattern: &str, channel: &str) -> bool {
    match pattern.strip_suffix('*') {
        None => pattern == channel,
        Some(head) => channel.len() > head.len() && channel.starts_with(head),
    }
}
