//! A publishing call in the types of the Redis client.

use keyspace::{Placed, PublishCall, PublishItem, ReplyPart};
use redis::{Cmd, Value};

/// The command that makes a call for these messages.
#[must_use]
pub fn publish_command<'m>(call: &PublishCall, items: impl IntoIterator<Item = PublishItem<'m>>) -> Cmd {
    let mut command = Cmd::new();
    call.write(items, |word| {
        command.arg(word);
    });
    command
}

/// Position of each of `count` messages, from the answer to their call. Nothing if the answer has another form.
#[must_use]
pub fn read_placed(call: &PublishCall, count: usize, answer: &Value) -> Option<Vec<Placed>> {
    call.read(count, answer, part)
}

fn part(value: &Value) -> ReplyPart<'_, Value> {
    match value {
        Value::BulkString(bytes) => ReplyPart::Text(bytes),
        Value::SimpleString(text) => ReplyPart::Text(text.as_bytes()),
        Value::Int(number) => ReplyPart::Number(*number),
        Value::Array(parts) => ReplyPart::List(parts),
        _ => ReplyPart::Other,
    }
}
