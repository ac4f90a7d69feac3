//! Channel names, as far as the checker needs them.

/// The scope of a channel or pattern, which is one sequence of messages: `family`, or `family:id`.
pub(crate) fn scope_of<'c>(channel: &'c str, keyless: &[String]) -> &'c str {
    let family_end = channel.find(':').unwrap_or(channel.len());
    let family = &channel[..family_end];
    if keyless.iter().any(|name| name == family) {
        return family;
    }
    let rest = channel.get(family_end + 1..).unwrap_or_default();
    let id_length = rest.find(':').unwrap_or(rest.len());
    &channel[..(family_end + 1 + id_length).min(channel.len())]
}

/// The first segment of a channel.
pub(crate) fn family_of(channel: &str) -> &str {
    channel.split(':').next().unwrap_or_default()
}

/// Whether a subscription to `pattern` receives messages of `channel`.
pub(crate) fn matches(pattern: &str, channel: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(stem) => channel.len() > stem.len() && channel.starts_with(stem),
        None => pattern == channel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_and_patterns_are_recognised() {
        let keyless = [String::from("system")];
        assert_eq!(scope_of("collection:42:ops:cursor", &keyless), "collection:42");
        assert_eq!(scope_of("collection:42", &keyless), "collection:42");
        assert_eq!(scope_of("collection:42:*", &keyless), "collection:42");
        assert_eq!(scope_of("system:news", &keyless), "system");
        assert_eq!(scope_of("system", &keyless), "system");
        assert!(matches("collection:42:*", "collection:42:ops"));
        assert!(!matches("collection:42:*", "collection:42"));
        assert!(!matches("collection:42:*", "collection:421:ops"));
        assert!(matches("system", "system"));
        assert!(!matches("system", "system:news"));
    }
}
