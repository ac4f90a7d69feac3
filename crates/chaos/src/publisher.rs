//! Publishers through a gateway's socket, and publishers that call Redis. Each logs the exact answers that it receives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use history_checker::{Event, Position, PublishAnswer, Retry};
use keyspace::{Keyspace, PublishCall, PublishItem};
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult};
use serde_json::{Value, json};
use test_support::Random;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use wire::{Families, TenantId};

use crate::entrance::{Approach, Entrance, Jar, Socket};
use crate::load;
use crate::recorder::Recorder;
use crate::redis_server::connect;
use crate::token;

/// The pause between two publishes of one publisher.
const PACE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(70));
/// The longest wait for an answer. It is longer than the gateway's own deadline, so that the gateway's answer arrives.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(2_500);
const CALL_TIME_MAX: Duration = Duration::from_millis(1_000);
/// A publish with an unknown outcome is repeated at most this many times, under the same id.
const ATTEMPTS_MAX: u32 = 6;
const RETRY_PAUSE: Duration = Duration::from_millis(150);
/// The pause before a reconnect, while gateways and Redis restart.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
const PADDING_BYTES: usize = 200;
/// The pause between two bulk publishes. At this pace, slow clients cannot follow.
const BULK_PACE: Duration = Duration::from_millis(100);
const BULK_MESSAGES: usize = 40;
const BULK_BYTES: usize = 100;

static VALUES: AtomicU64 = AtomicU64::new(0);

/// The state that publishers of a run share.
#[derive(Debug)]
pub(crate) struct SharedPublishers {
    pub(crate) recorder: Recorder,
    pub(crate) entrance: Entrance,
    /// The address of the primary, for publishers that call Redis.
    pub(crate) redis: SocketAddr,
    /// When this is true, publishers stop after their current message.
    pub(crate) is_stopped: watch::Receiver<bool>,
    /// Number of publishers that have not stopped yet.
    pub(crate) running: AtomicUsize,
}

/// One message that will be sent.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) value: String,
    pub(crate) channel: String,
    pub(crate) payload: Value,
}

impl Draft {
    pub(crate) fn new(channel: String) -> Self {
        Self::with_padding(channel, PADDING_BYTES)
    }

    fn with_padding(channel: String, bytes: usize) -> Self {
        let value = format!("v{}", VALUES.fetch_add(1, Ordering::Relaxed));
        let payload = json!({"v": value, "padding": "x".repeat(bytes)});
        Self { value, channel, payload }
    }

    pub(crate) fn sent(&self, recorder: &Recorder, via: Option<&str>, retry: Retry) {
        let (value, channel) = (self.value.clone(), self.channel.clone());
        recorder.record(Event::Publish { value, channel, via: via.map(str::to_owned), retry });
    }

    pub(crate) fn answered(&self, recorder: &Recorder, answer: PublishAnswer) {
        recorder.record(Event::Answered { value: self.value.clone(), answer });
    }

    /// The frame that a client sends to a gateway.
    pub(crate) fn frame(&self) -> String {
        let Self { value, channel, payload } = self;
        let frame = json!({"type": "publish", "channel": channel, "event": "note", "payload": payload,
            "id": value, "correlation_id": value});
        frame.to_string()
    }
}

/// Publishes through changing gateways until it is stopped.
pub(crate) async fn by_gateway(number: usize, publishers: Arc<SharedPublishers>, mut random: Random) {
    let (mut line, user) = (None::<(String, Socket)>, format!("publisher-{number}"));
    while !*publishers.is_stopped.borrow() {
        let draft = Draft::new(load::channel(&mut random));
        let mut retry = Retry::No;
        for _ in 0..ATTEMPTS_MAX {
            let (name, socket) = match &mut line {
                Some(line) => line,
                None => {
                    let (wanted, mut jar) = (random.below(publishers.entrance.len()), Jar::new());
                    let cookie = publishers.entrance.any_cookie(&mut random);
                    let token = token::sign(&user);
                    let approach = Approach { token: Some(&token), wanted, cookie, reads_slowly: false };
                    let connecting = publishers.entrance.connect(approach, &mut jar);
                    match timeout(ANSWER_TIME_MAX, connecting).await {
                        Ok(Some((index, socket))) => line.insert((publishers.entrance.name(index).to_owned(), socket)),
                        _ => {
                            sleep(RECONNECT_PAUSE).await;
                            continue;
                        }
                    }
                }
            };
            draft.sent(&publishers.recorder, Some(name), retry);
            retry = Retry::SameId;
            let answer = publish_by_frame(socket, &draft).await;
            let is_known = matches!(&answer, PublishAnswer::Frame(frame) if !is_unknown(frame));
            if !matches!(answer, PublishAnswer::Frame(_)) {
                line = None;
            }
            draft.answered(&publishers.recorder, answer);
            if is_known {
                break;
            }
            sleep(RETRY_PAUSE).await;
        }
        // The publisher changes to another instance now and then.
        if random.one_in(40) {
            line = None;
        }
        sleep(random.between(PACE.0, PACE.1)).await;
    }
    publishers.running.fetch_sub(1, Ordering::Relaxed);
}

async fn publish_by_frame(socket: &mut Socket, draft: &Draft) -> PublishAnswer {
    if let Err(error) = socket.send(Message::text(draft.frame())).await {
        return PublishAnswer::Nothing(error.to_string());
    }
    let receive = async {
        while let Some(message) = socket.next().await {
            match message {
                Ok(Message::Text(text)) if is_about(text.as_str(), &draft.value) => {
                    return PublishAnswer::Frame(text.as_str().to_owned());
                }
                Ok(Message::Close(frame)) => return PublishAnswer::Nothing(format!("closed: {frame:?}")),
                Ok(_) => {}
                Err(error) => return PublishAnswer::Nothing(error.to_string()),
            }
        }
        PublishAnswer::Nothing("the connection ended".into())
    };
    timeout(ANSWER_TIME_MAX, receive).await.unwrap_or_else(|_| PublishAnswer::Nothing("no answer in time".into()))
}

fn is_about(text: &str, value: &str) -> bool {
    let Ok(frame) = serde_json::from_str::<Value>(text) else { return false };
    frame["correlation_id"] == value && (frame["type"] == "ack" || frame["type"] == "error")
}

fn is_unknown(frame: &str) -> bool {
    serde_json::from_str::<Value>(frame).is_ok_and(|frame| frame["payload"]["code"] == "unknown")
}

/// Calls Redis until it is stopped. A message with an id is repeated, a message without an id is sent once.
pub(crate) async fn by_call(publishers: Arc<SharedPublishers>, mut random: Random) {
    let mut publisher = RedisPublisher::new(publishers.redis);
    while !*publishers.is_stopped.borrow() {
        let draft = Draft::new(load::channel(&mut random));
        let has_id = random.one_in(2);
        let mut retry = Retry::No;
        for _ in 0..ATTEMPTS_MAX {
            draft.sent(&publishers.recorder, None, retry);
            retry = Retry::SameId;
            let answer = publisher.publish(&draft, has_id).await;
            let is_known = !matches!(answer, PublishAnswer::Nothing(_));
            draft.answered(&publishers.recorder, answer);
            if is_known || !has_id {
                break;
            }
            sleep(RETRY_PAUSE).await;
        }
        sleep(random.between(PACE.0, PACE.1)).await;
    }
    publishers.running.fetch_sub(1, Ordering::Relaxed);
}

/// Calls Redis with more messages than slow clients can follow, many messages of a scope in one call.
pub(crate) async fn in_bulk(publishers: Arc<SharedPublishers>, mut random: Random) {
    let (mut publisher, mut due) = (RedisPublisher::new(publishers.redis), Instant::now());
    for scope in load::SLOW_SCOPES.into_iter().cycle() {
        if *publishers.is_stopped.borrow() {
            break;
        }
        let channels = (0..BULK_MESSAGES).map(|_| load::topic_of(scope, &mut random));
        let drafts: Vec<Draft> = channels.map(|channel| Draft::with_padding(channel, BULK_BYTES)).collect();
        drafts.iter().for_each(|draft| draft.sent(&publishers.recorder, None, Retry::No));
        let answers = publisher.publish_all(&drafts).await;
        drafts.iter().zip(answers).for_each(|(draft, answer)| draft.answered(&publishers.recorder, answer));
        due = (due + BULK_PACE).max(Instant::now());
        sleep_until(due).await;
    }
    publishers.running.fetch_sub(1, Ordering::Relaxed);
}

/// Publishes until one message is acknowledged. Returns false if none is acknowledged in time.
pub(crate) async fn sentinel(recorder: &Recorder, redis: SocketAddr, channel: String, deadline: Duration) -> bool {
    let mut publisher = RedisPublisher::new(redis);
    let attempts = async {
        loop {
            let mut draft = Draft::new(channel.clone());
            draft.payload["sentinel"] = Value::Bool(true);
            draft.sent(recorder, None, Retry::No);
            let answer = publisher.publish(&draft, false).await;
            let is_stored = matches!(answer, PublishAnswer::Reply(_));
            draft.answered(recorder, answer);
            if is_stored {
                return;
            }
            sleep(RETRY_PAUSE).await;
        }
    };
    timeout(deadline, attempts).await.is_ok()
}

/// Publishes by calls of the functions in Redis, as a backend in any language does.
pub(crate) struct RedisPublisher {
    redis: SocketAddr,
    keyspace: Keyspace,
    families: Families,
    tenant: TenantId,
    connection: Option<MultiplexedConnection>,
}

impl RedisPublisher {
    pub(crate) fn new(redis: SocketAddr) -> Self {
        let tenant = TenantId::parse("default").expect("it is a name");
        Self { redis, keyspace: Keyspace::default(), families: load::families(), tenant, connection: None }
    }

    pub(crate) async fn publish(&mut self, draft: &Draft, has_id: bool) -> PublishAnswer {
        match self.call(std::slice::from_ref(draft), has_id).await {
            Ok(position) => PublishAnswer::Reply(position),
            Err(error) => self.failed(&error).await,
        }
    }

    /// Publishes messages of one scope, without ids, in one call: all or none. Returns an answer for each.
    pub(crate) async fn publish_all(&mut self, drafts: &[Draft]) -> Vec<PublishAnswer> {
        let answer = match self.call(drafts, false).await {
            Ok(position) => match position.parse::<Position>() {
                Ok(last) => return replies(last, drafts.len()),
                Err(()) => PublishAnswer::Reply(position),
            },
            Err(error) => self.failed(&error).await,
        };
        vec![answer; drafts.len()]
    }

    async fn failed(&mut self, error: &RedisError) -> PublishAnswer {
        if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) {
            return PublishAnswer::Error(error.to_string());
        }
        self.connection = None;
        sleep(RECONNECT_PAUSE).await;
        PublishAnswer::Nothing(error.to_string())
    }

    /// Returns the position of the last message as Redis wrote it. The checker reads what the publisher was told.
    async fn call(&mut self, drafts: &[Draft], has_id: bool) -> RedisResult<String> {
        if self.connection.is_none() {
            self.connection = Some(connect(self.redis, CALL_TIME_MAX).await?);
        }
        let channel = |draft: &Draft| {
            self.families.parse_channel(&self.tenant, &draft.channel).expect("channels of a run are channels")
        };
        let scope = channel(&drafts[0]).scope;
        let call = PublishCall::new(&self.keyspace, &scope, has_id);
        let mut command = redis::Cmd::new();
        let channels: Vec<_> = drafts.iter().map(channel).collect();
        let message = |draft: &Draft| json!({"type": "note", "payload": draft.payload}).to_string();
        let messages: Vec<_> = drafts.iter().map(message).collect();
        let items = drafts.iter().zip(&channels).zip(&messages).map(|((draft, channel), message)| PublishItem {
            topic: channel.topic(),
            message: message.as_bytes(),
            id: Some(&draft.value),
        });
        call.write(items, |word| {
            command.arg(word);
        });
        let connection = self.connection.as_mut().expect("set above");
        match has_id {
            true => command.query_async::<(String, u64)>(connection).await.map(|(position, _)| position),
            false => command.query_async(connection).await,
        }
    }
}

/// The reply names the position of the last message. The others are directly before it.
fn replies(last: Position, count: usize) -> Vec<PublishAnswer> {
    let before = (0..count as u64).rev();
    before.map(|back| PublishAnswer::Reply(Position { offset: last.offset - back, ..last }.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_one_call_stand_side_by_side() {
        let expected = ["7-9", "7-10", "7-11"].map(|position| PublishAnswer::Reply(position.into()));
        assert_eq!(replies(Position { generation: 7, offset: 11 }, 3), expected);
    }
}
