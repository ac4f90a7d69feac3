//! The call that stores and publishes messages of one scope: its words, and what its answer means.
//!
//! ```text
//!   PublishItem … ─▶ PublishCall::write ─▶ FCALL tidegate_relay[_once] KEYS… TOPIC MESSAGE [ID] …
//!   Placed …      ◀─ PublishCall::read  ◀─ "7-42", or ["7-42", 0, "7-40", 1, …]
//! ```
//!
//! Clients of Redis have their own types for commands and answers. A caller gives [`PublishCall::write`] a closure that
//! takes each word, and [`PublishCall::read`] a function that shows one part of an answer as a [`ReplyPart`].

use wire::{Position, Scope};

use crate::{Function, Keyspace};

/// One message of a publishing call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishItem<'m> {
    /// The channel's part behind the scope; may be empty.
    pub topic: &'m str,
    /// The bytes as [`wire::MessageDraft::to_bytes`] gives them.
    pub message: &'m [u8],
    /// The publisher's own name for the message, written only by calls with ids. None is sent as an empty text.
    pub id: Option<&'m str>,
}

/// Position of a message, and whether its id was known: then the message had that position before, and nothing was stored.
pub type Placed = (Position, bool);

/// One part of an answer of Redis, in whatever type a client keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyPart<'v, V> {
    /// A simple or a bulk string.
    Text(&'v [u8]),
    /// An integer.
    Number(i64),
    /// An array.
    List(&'v [V]),
    /// Any other type; no answer of a publishing call has one.
    Other,
}

/// Calls of one scope, with or without ids. It can be kept and used for further calls.
///
/// ```
/// use keyspace::{Keyspace, PublishCall, PublishItem};
/// use wire::Families;
/// let scope = Families::default().parse_scope("acme/user:7").unwrap();
/// let call = PublishCall::new(&Keyspace::default(), &scope, false);
/// let mut words = Vec::new();
/// let item = PublishItem { topic: "inbox", message: br#"{"type":"t"}"#, id: None };
/// call.write([item], |word| words.push(String::from_utf8_lossy(word).into_owned()));
/// let expected = "FCALL tidegate_relay 2 tidegate:{acme/user:7}:stream tidegate:{acme/user:7}:meta inbox {\"type\":\"t\"}";
/// assert_eq!(words.join(" "), expected);
/// ```
#[derive(Debug, Clone)]
pub struct PublishCall {
    function: Function,
    /// As many as the function takes; the others are empty.
    keys: [String; 4],
}

impl PublishCall {
    /// Calls for messages of this scope. Without ids the cheaper function is called, and ids of items are left out.
    #[must_use]
    pub fn new(keyspace: &Keyspace, scope: &Scope, has_ids: bool) -> Self {
        let [even, odd] = if has_ids { keyspace.ids(scope) } else { Default::default() };
        let function = if has_ids { Function::RELAY_ONCE } else { Function::RELAY };
        Self { function, keys: [keyspace.stream(scope), keyspace.meta(scope), even, odd] }
    }

    /// The same, for messages that nobody has checked: Redis refuses those that no gateway would deliver.
    #[must_use]
    pub fn checked(self) -> Self {
        let function = if self.has_ids() { Function::PUBLISH_ONCE } else { Function::PUBLISH };
        Self { function, ..self }
    }

    /// Gives every word of one call to `word`, the command's name first.
    pub fn write<'m>(&self, items: impl IntoIterator<Item = PublishItem<'m>>, mut word: impl FnMut(&[u8])) {
        let Function { name, keys, .. } = self.function;
        word(self.function.command().as_bytes());
        word(name.as_bytes());
        word(&[b'0' + keys]);
        self.keys[..usize::from(keys)].iter().for_each(|key| word(key.as_bytes()));
        for PublishItem { topic, message, id } in items {
            word(topic.as_bytes());
            word(message);
            if self.has_ids() {
                word(id.unwrap_or_default().as_bytes());
            }
        }
    }

    /// Reads the answer to a call of `count` messages: one [`Placed`] for each, in their order. Nothing if the answer has
    /// another form.
    #[must_use]
    pub fn read<V>(
        &self,
        count: usize,
        answer: &V,
        part: impl for<'v> Fn(&'v V) -> ReplyPart<'v, V>,
    ) -> Option<Vec<Placed>> {
        let position = |value: &V| match part(value) {
            ReplyPart::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        };
        if !self.has_ids() {
            // The answer is the last position; those of one call are consecutive, and offsets count from 1.
            let Position { generation, offset: last } = position(answer)?;
            let before = last.checked_sub(u64::try_from(count).ok()?)?;
            return Some((before + 1..=last).map(|offset| (Position::new(generation, offset), false)).collect());
        }
        let ReplyPart::List(parts) = part(answer) else { return None };
        let (pairs, rest) = parts.as_chunks::<2>();
        if pairs.len() != count || !rest.is_empty() {
            return None;
        }
        let placed = |[at, known]: &[V; 2]| match part(known) {
            ReplyPart::Number(known) => Some((position(at)?, known == 1)),
            _ => None,
        };
        pairs.iter().map(placed).collect()
    }

    fn has_ids(&self) -> bool {
        matches!(self.function, Function::PUBLISH_ONCE | Function::RELAY_ONCE)
    }
}

#[cfg(test)]
mod tests {
    use wire::Families;

    use super::*;

    #[derive(Debug)]
    enum Value {
        Text(&'static str),
        Number(i64),
        List(Vec<Value>),
        Nil,
    }
    use Value::{List, Nil, Number, Text};

    fn part(value: &Value) -> ReplyPart<'_, Value> {
        match value {
            Text(text) => ReplyPart::Text(text.as_bytes()),
            Number(number) => ReplyPart::Number(*number),
            List(list) => ReplyPart::List(list),
            Nil => ReplyPart::Other,
        }
    }

    fn call(has_ids: bool) -> PublishCall {
        let scope = Families::default().parse_scope("acme/user:7").unwrap();
        PublishCall::new(&Keyspace::default(), &scope, has_ids)
    }

    #[test]
    fn a_call_with_ids_has_four_keys_and_an_id_for_each_message() {
        let items = [("a", Some("id-1")), ("", None)].map(|(topic, id)| PublishItem { topic, message: b"{}", id });
        let mut words = Vec::new();
        call(true).write(items, |word| words.push(String::from_utf8(word.to_vec()).unwrap()));
        let scope = "tidegate:{acme/user:7}";
        let keys = ["stream", "meta", "ids:0", "ids:1"].map(|kind| format!("{scope}:{kind}"));
        let head = ["FCALL", "tidegate_relay_once", "4"].map(String::from);
        let args = ["a", "{}", "id-1", "", "{}", ""].map(String::from);
        assert_eq!(words, [&head[..], &keys, &args].concat());
    }

    #[test]
    fn answers_are_read_and_other_shapes_are_not() {
        let at = |offset| Position::new(7, offset);
        let read = |has_ids, count, answer| call(has_ids).read(count, &answer, part);
        assert_eq!(read(false, 3, Text("7-42")), Some(vec![(at(40), false), (at(41), false), (at(42), false)]));
        assert_eq!(read(false, 3, Text("7-2")), None, "three messages do not end at 2");
        let pair = |at, known| [Text(at), Number(known)];
        let both = || List([pair("7-42", 0), pair("7-40", 1)].into_iter().flatten().collect());
        assert_eq!(read(true, 2, both()), Some(vec![(at(42), false), (at(40), true)]));
        assert_eq!(read(true, 1, both()), None);
        for answer in [Nil, Number(1), Text("7"), Text(""), both(), List(vec![])] {
            let text = format!("{answer:?}");
            assert_eq!(read(false, 1, answer), None, "{text}");
        }
        let wrong =
            [Nil, Text("7-42"), List(vec![Text("7-42")]), List(vec![Text("7-42"), Nil]), List(vec![Nil, Number(0)])];
        for answer in wrong {
            let text = format!("{answer:?}");
            assert_eq!(read(true, 1, answer), None, "{text}");
        }
    }
}
