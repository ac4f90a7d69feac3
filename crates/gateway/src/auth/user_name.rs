//! PURE. Users whose identifiers are not names: `f:0b1c…:bob` of Keycloak, URNs, paths.
//!
//! The escape is `~` and two hexadecimal digits for each byte that names do not have, and for `~` itself. So two
//! identifiers never become the same name. A backend that publishes to `user:ID` writes the same escape.

use wire::{BadName, UserId};

/// The user of an identifier, which may have any characters.
///
/// # Errors
/// If the identifier is empty, or too long once it is escaped.
pub(crate) fn escape(identifier: &str) -> Result<UserId, BadName> {
    let mut name = String::with_capacity(identifier.len());
    for byte in identifier.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'@' | b'|' | b'=' | b'+' | b'-' => {
                name.push(char::from(byte));
            }
            _ => name.push_str(&format!("~{byte:02X}")),
        }
    }
    UserId::parse(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_identifier_has_a_name_of_its_own() {
        for (identifier, expected) in [
            ("alice", "alice"),
            ("auth0|5f7c", "auth0|5f7c"),
            ("f:0b1c:bob", "f~3A0b1c~3Abob"),
            ("urn:example:user/7?x=#1", "urn~3Aexample~3Auser~2F7~3Fx=~231"),
            ("a~3Ab", "a~7E3Ab"),
            ("José Ω", "Jos~C3~A9~20~CE~A9"),
            ("{a}*\0", "~7Ba~7D~2A~00"),
        ] {
            assert_eq!(escape(identifier).unwrap().as_str(), expected);
        }
        assert_eq!(escape(""), Err(BadName::Empty));
        assert_eq!(escape(&":".repeat(42)).unwrap().as_str().len(), 126);
        assert_eq!(escape(&":".repeat(43)), Err(BadName::TooLong));
    }
}
