//! The claims of a token, by name, and their types.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::error::TokenError;

/// The claims of a token whose signature is verified. No claim occurs twice.
#[derive(Debug)]
pub(super) struct Claims(Map<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    // Two programs that read the same token could read two users.
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim occurs twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

impl Claims {
    /// A text. `null` means: absent.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, TokenError> {
        self.read(name, "a string", Value::as_str)
    }

    /// A text, or a whole number as its digits.
    pub(super) fn text_or_number(&self, name: &str) -> Result<Option<String>, TokenError> {
        self.read(name, "a string or a whole number", |value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) if !number.is_f64() => Some(number.to_string()),
            _ => None,
        })
    }

    /// A NumericDate (RFC 7519 §2) in whole seconds. A time before 1970 is 0.
    pub(super) fn seconds(&self, name: &str) -> Result<Option<u64>, TokenError> {
        let seconds = |number: &Number| number.as_u64().or_else(|| number.as_f64().map(|seconds| seconds as u64));
        self.read(name, "a number of seconds", |value| Some(seconds(value.as_number()?).unwrap_or(0)))
    }

    /// A list of texts.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<&str>>, TokenError> {
        self.read(name, "an array of strings", |value| value.as_array()?.iter().map(Value::as_str).collect())
    }

    /// An object.
    pub(super) fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>, TokenError> {
        self.read(name, "an object", Value::as_object)
    }

    fn read<'c, T>(
        &'c self,
        name: &str,
        expected: &'static str,
        read: impl FnOnce(&'c Value) -> Option<T>,
    ) -> Result<Option<T>, TokenError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Some(value) => Ok(Some(value)),
                None => Err(TokenError::BadClaim(name.into(), expected)),
            },
        }
    }
}
