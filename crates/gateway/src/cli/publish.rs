//! `tidegate publish`: stores and publishes messages.

mod lines;
mod publisher;

use std::borrow::Cow;
use std::io::{Read, Write};

use keyspace::Placed;
use serde_json::value::RawValue;
use tidegate_gateway::config::{PublishConfig, RawConfig};
use wire::{Channel, Message, MessageDraft};

use self::lines::Lines;
use self::publisher::{Item, PublishError, Publisher};
use super::{Exit, PublishArgs, flag_setting};

/// Longest `--id`, in bytes. With `--lines` the line number is appended; Redis accepts ids of 300 bytes.
const ID_BYTES_MAX: usize = 200;

pub(crate) fn publish(args: PublishArgs) -> Exit {
    let mut raw = RawConfig::gather(args.config.clone().sources([flag_setting(
        "--redis-url",
        "redis.url",
        args.redis_url.clone(),
    )]));
    let config = match PublishConfig::check(&mut raw) {
        Ok(config) => config,
        Err(problems) => return Exit::Usage.because(problems),
    };
    let channel = match config.policies.families().parse_channel(&args.tenant, &args.channel) {
        Ok(channel) => channel,
        Err(error) => return Exit::Data.because(format_args!("the channel {:?}: {error}", args.channel)),
    };
    if let Err(reason) = check_ids(&args) {
        return Exit::Data.because(reason);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::Failure.because(error),
    };
    match args.lines {
        false => runtime.block_on(publish_one(&args, &config, &channel)),
        true => runtime.block_on(publish_lines(&args, &config, &channel)),
    }
}

async fn publish_one(args: &PublishArgs, config: &PublishConfig, channel: &Channel) -> Exit {
    let bytes_max = config.message_bytes_max;
    let message = match read_payload(&args.payload, bytes_max).and_then(|text| to_message(&text, args, bytes_max)) {
        Ok(message) => message,
        Err(reason) => return Exit::Data.because(reason),
    };
    let item = Item { message, id: args.id.clone() };
    match Publisher::new(config, channel).store(&[item]).await {
        Ok(placed) => {
            print(&placed);
            Exit::Ok
        }
        Err(error) => exit(&error).because(error),
    }
}

/// Publishes one payload per line, in batches of the lines that have arrived. Ends at the first line that cannot be
/// stored.
async fn publish_lines(args: &PublishArgs, config: &PublishConfig, channel: &Channel) -> Exit {
    let bytes_max = config.message_bytes_max;
    let mut publisher = Publisher::new(config, channel);
    let mut lines = Lines::new(std::io::stdin().lock(), bytes_max);
    loop {
        let batch = lines.next();
        let (mut wrong, mut items) = (batch.wrong, Vec::with_capacity(batch.lines.len()));
        let first = batch.lines.first().map_or(0, |(number, _)| *number);
        let mut last = first;
        for (number, text) in batch.lines {
            match to_message(&text, args, bytes_max) {
                Ok(message) => {
                    items.push(Item { message, id: args.id.as_ref().map(|id| format!("{id}:{number}")) });
                    last = number;
                }
                Err(reason) => {
                    wrong = Some((number, reason));
                    break;
                }
            }
        }
        let is_end = items.is_empty();
        if !is_end {
            match publisher.store(&items).await {
                Ok(placed) => print(&placed),
                Err(error) => {
                    let what = format!("lines {first} to {last}: {error}; the lines before them are stored");
                    return exit(&error).because(what);
                }
            }
        }
        if let Some((number, reason)) = wrong {
            return Exit::Data.because(format_args!("line {number}: {reason}; the lines before it are stored"));
        }
        if is_end {
            return Exit::Ok;
        }
    }
}

fn exit(error: &PublishError) -> Exit {
    match error {
        PublishError::Unreachable(_) | PublishError::Refused(_) => Exit::Unavailable,
        PublishError::NoAnswer | PublishError::Malformed(_) | PublishError::HalfWay(_) => Exit::Unknown,
    }
}

/// Prints one line per message. A closed pipe does not stop the command.
fn print(placed: &[Placed]) {
    let mut out = std::io::stdout().lock();
    for (position, known) in placed {
        let _ = writeln!(out, "{position}{}", if *known { " duplicate" } else { "" });
    }
    let _ = out.flush();
}

fn check_ids(args: &PublishArgs) -> Result<(), String> {
    let is_bad = |id: &Option<String>, max| id.as_ref().is_some_and(|id| id.is_empty() || id.len() > max);
    if is_bad(&args.correlation_id, wire::CORRELATION_ID_BYTES_MAX) {
        return Err(format!("a correlation id has 1 to {} bytes", wire::CORRELATION_ID_BYTES_MAX));
    }
    if is_bad(&args.id, ID_BYTES_MAX) {
        return Err(format!("an id has 1 to {ID_BYTES_MAX} bytes"));
    }
    if args.id.as_ref().is_some_and(|id| id.contains('/')) {
        return Err("an id must not contain a slash, because ids of gateway clients do".into());
    }
    Ok(())
}

/// Returns the payload: standard input for `-`, or the argument itself.
fn read_payload(payload: &str, bytes_max: usize) -> Result<Cow<'_, str>, String> {
    if payload != "-" {
        return Ok(Cow::Borrowed(payload));
    }
    let mut bytes = Vec::new();
    let mut input = std::io::stdin().lock().take(bytes_max as u64 + 1);
    input.read_to_end(&mut bytes).map_err(|error| format!("standard input: {error}"))?;
    check_size(bytes.len(), bytes_max)?; // First, because a truncated input may end inside a character.
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| "standard input is not UTF-8".to_owned())
}

fn check_size(bytes: usize, bytes_max: usize) -> Result<(), String> {
    match bytes > bytes_max {
        true => Err(format!("the payload has more than {bytes_max} bytes (limits.message_bytes_max)")),
        false => Ok(()),
    }
}

/// Returns the message as Redis stores it, or a sentence that says what is wrong with it.
fn to_message(payload: &str, args: &PublishArgs, bytes_max: usize) -> Result<Vec<u8>, String> {
    check_size(payload.len(), bytes_max)?;
    let payload: &RawValue =
        serde_json::from_str(payload).map_err(|error| format!("the payload is not JSON: {error}"))?;
    let draft = MessageDraft {
        kind: args.kind.as_str().into(),
        payload: Some(payload),
        binary: None,
        timestamp: None,
        correlation_id: args.correlation_id.as_deref().map(Cow::from),
    };
    let message = draft.to_bytes();
    Message::parse(&message).map_err(|error| error.to_string())?;
    if message.len() > bytes_max {
        return Err(format!("the message has more than {bytes_max} bytes (limits.message_bytes_max)"));
    }
    Ok(message)
}
