//! `tidegate publish`: what a worker does, from the shell.

use std::borrow::Cow;
use std::io::Read;
use std::time::Duration;

use keyspace::{Function, Keyspace};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult};
use serde_json::value::RawValue;
use tidegate_gateway::config::{PublishConfig, RawConfig};
use wire::{Channel, Message, MessageDraft};

use super::{Exit, PublishArgs, flag_setting};

/// Getting to Redis, name resolution included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Why the message may not have been stored.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("Redis does not answer; the message is not stored: {0}")]
    Unreachable(RedisError),
    #[error("Redis refused; the message is not stored: {0}")]
    Refused(RedisError),
    #[error("no answer from Redis; the message may have been stored: {0}")]
    Unknown(RedisError),
}

pub(crate) fn publish(args: PublishArgs) -> Exit {
    let PublishArgs { channel, payload, kind, tenant, correlation_id, redis_url, config } = args;
    let mut raw = RawConfig::gather(config.sources([flag_setting("--redis-url", "redis.url", redis_url)]));
    let config = match PublishConfig::check(&mut raw) {
        Ok(config) => config,
        Err(problems) => return Exit::Usage.because(problems),
    };
    let channel = match config.policies.families().parse_channel(&tenant, &channel) {
        Ok(channel) => channel,
        Err(error) => return Exit::Data.because(format_args!("the channel {channel:?}: {error}")),
    };
    let message = match read_message(&payload, &kind, correlation_id.as_deref(), config.message_bytes_max) {
        Ok(message) => message,
        Err(reason) => return Exit::Data.because(reason),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::Failure.because(error),
    };
    match runtime.block_on(store(&config, &channel, &message)) {
        Ok(position) => {
            println!("{position}");
            Exit::Ok
        }
        Err(error @ (PublishError::Unreachable(_) | PublishError::Refused(_))) => Exit::Unavailable.because(error),
        Err(error @ PublishError::Unknown(_)) => Exit::Unknown.because(error),
    }
}

/// The message as Redis keeps it, or a sentence about what is wrong with it.
fn read_message(payload: &str, kind: &str, id: Option<&str>, bytes_max: usize) -> Result<Vec<u8>, String> {
    let payload = match payload {
        "-" => {
            let mut text = String::new();
            let mut input = std::io::stdin().lock().take(bytes_max as u64 + 1);
            input.read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
            Cow::Owned(text)
        }
        text => Cow::Borrowed(text),
    };
    if payload.len() > bytes_max {
        return Err(format!("the payload has more than {bytes_max} bytes (limits.message_bytes_max)"));
    }
    if id.is_some_and(|id| id.is_empty() || id.len() > wire::CORRELATION_ID_BYTES_MAX) {
        return Err(format!("a correlation id has 1 to {} bytes", wire::CORRELATION_ID_BYTES_MAX));
    }
    let payload: &RawValue =
        serde_json::from_str(&payload).map_err(|error| format!("the payload is not JSON: {error}"))?;
    let draft = MessageDraft {
        kind: kind.into(),
        payload: Some(payload),
        binary: None,
        timestamp: None,
        correlation_id: id.map(Cow::from),
    };
    let message = draft.to_bytes();
    Message::parse(&message).map_err(|error| error.to_string())?;
    if message.len() > bytes_max {
        return Err(format!("the message has more than {bytes_max} bytes (limits.message_bytes_max)"));
    }
    Ok(message)
}

async fn store(config: &PublishConfig, channel: &Channel, message: &[u8]) -> Result<String, PublishError> {
    let client = Client::open(config.redis.url.as_str()).map_err(PublishError::Unreachable)?;
    let options = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_DEADLINE))
        .set_response_timeout(Some(config.redis.reply_deadline));
    let connected = client.get_multiplexed_async_connection_with_config(&options).await;
    let mut redis = connected.map_err(PublishError::Unreachable)?;
    let keys = Keyspace::new(config.redis.prefix.clone());
    let mut call = redis::cmd(Function::PUBLISH.command());
    call.arg(Function::PUBLISH.name).arg(Function::PUBLISH.keys);
    call.arg(keys.stream(&channel.scope)).arg(keys.meta(&channel.scope)).arg(channel.topic()).arg(message);
    let mut answer: RedisResult<String> = call.query_async(&mut redis).await;
    if answer.as_ref().is_err_and(is_function_missing) {
        load_library(&mut redis, config).await.map_err(|error| match error.is_io_error() {
            true => PublishError::Unreachable(error),
            false => PublishError::Refused(error),
        })?;
        answer = call.query_async(&mut redis).await;
    }
    answer.map_err(|error| match error.kind() {
        redis::ErrorKind::Server(_) | redis::ErrorKind::Extension => PublishError::Refused(error),
        _ => PublishError::Unknown(error),
    })
}

/// Only fills a gap: a library that is there is the gateways', who know better which families there are.
async fn load_library(redis: &mut MultiplexedConnection, config: &PublishConfig) -> RedisResult<()> {
    let loaded =
        redis::cmd("FUNCTION").arg("LOAD").arg(config.policies.library().source()).query_async::<String>(redis).await;
    match loaded {
        Err(error) if error.detail().is_some_and(|detail| detail.contains("already exists")) => Ok(()),
        other => other.map(drop),
    }
}

fn is_function_missing(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("Function not found"))
}
