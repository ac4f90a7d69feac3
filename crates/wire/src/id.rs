//! The types of identifiers. A value of one of these types has been checked.

use std::fmt;
use std::sync::Arc;

use crate::limits::NAME_BYTES_MAX;

/// The reason why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// There is nothing between two separators.
    #[error("a name is empty")]
    Empty,
    /// The name is longer than [`NAME_BYTES_MAX`].
    #[error("a name is longer than {NAME_BYTES_MAX} bytes")]
    TooLong,
    /// A character is outside the grammar.
    #[error("{0:?} is not allowed in a name; letters, digits and _ . @ | = + ~ - are")]
    Character(char),
}

/// A checked name: a tenant, user or instance, or the text between two colons of a channel.
///
/// The alphabet is `A-Z a-z 0-9 _ . @
/// = + ~ -`. It is enough for e-mail addresses and for the subjects of the usual identity providers (`auth0|5f7c…`). It
/// has none of `{ } * ? [ ] \ / :`, blanks and control characters, which have a meaning in Redis or in the channel
/// grammar.
///
/// ```
/// use wire::Name;
/// assert_eq!(Name::parse("auth0|5f7c").unwrap().as_str(), "auth0|5f7c");
/// assert!(Name::parse("a}{b").is_err());
/// assert!(Name::parse("").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks `text` against the grammar.
    ///
    /// # Errors
    /// Returns the rule of the grammar that the text breaks.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        check_name(text)?;
        Ok(Self(Arc::from(text)))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks one name without keeping it.
pub(crate) fn check_name(text: &str) -> Result<(), BadName> {
    if text.is_empty() {
        return Err(BadName::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(BadName::TooLong);
    }
    match text.chars().find(|c| !is_name_char(*c)) {
        Some(c) => Err(BadName::Character(c)),
        None => Ok(()),
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '@' | '|' | '=' | '+' | '~' | '-')
}

macro_rules! name_role {
    ($(#[$doc:meta])* $role:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $role(Name);

        impl $role {
            /// Checks `text` against the grammar of [`Name`].
            ///
            /// # Errors
            /// Returns the rule of the grammar that the text breaks.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                Name::parse(text).map(Self)
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Debug for $role {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $role {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

name_role! {
    /// A customer. Every scope in Redis begins with its tenant, so user 42 of one tenant is never user 42 of another.
    ///
    /// ```
    /// # use wire::TenantId;
    /// assert_eq!(TenantId::default().as_str(), "default");
    /// assert!(TenantId::parse("a/b").is_err());
    /// ```
    TenantId
}

name_role! {
    /// The user of a connection: the claim `sub` of its token.
    ///
    /// ```
    /// # use wire::UserId;
    /// assert!(UserId::parse("alice@example.com").is_ok());
    /// assert!(UserId::parse("alice:bob").is_err());
    /// ```
    UserId
}

name_role! {
    /// One gateway process, as operators name it. Together with an incarnation the name is unique in time as well.
    ///
    /// ```
    /// # use wire::InstanceId;
    /// assert!(InstanceId::parse("gw-1").is_ok());
    /// assert!(InstanceId::parse("gw 1").is_err());
    /// ```
    InstanceId
}

impl Default for TenantId {
    /// The tenant of a token without a `tenant` claim.
    fn default() -> Self {
        Self(Name(Arc::from("default")))
    }
}

/// A session: 128 bits, printed as 32 hexadecimal digits. Each connection has its own.
///
/// The gateway binds some of the bits to the user; this type does not know which.
///
/// ```
/// use wire::SessionId;
/// let id = SessionId::from_random(7);
/// assert_eq!(id.to_string(), "00000000000000000000000000000007");
/// assert_eq!(SessionId::parse(&id.to_string()), Some(id));
/// assert_eq!(SessionId::parse("7"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
// Bytes and not a `u128`, which would align every table row with a session to 16 bytes.
pub struct SessionId([u8; 16]);

impl SessionId {
    /// Takes 128 bits that the caller drew from a secure source.
    #[must_use]
    pub fn from_random(bits: u128) -> Self {
        Self(bits.to_be_bytes())
    }

    /// The session as a number of 128 bits.
    #[must_use]
    pub fn bits(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// Reads the printed form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| u128::from_str_radix(text, 16).ok().map(Self::from_random)).flatten()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.bits())
    }
}
