//! Backends that publish into one scope as fast as Redis answers, and a listener that receives the messages.
//!
//! Every answer is read and every message is counted: the acknowledged messages must be those that Redis counted and
//! that the listener received, without a hole.

use std::thread;
use std::time::{Duration, Instant};

use keyspace::{Keyspace, PublishCall, PublishItem, ReplyPart};
use redis::{Cmd, Connection, Value};
use wire::{Envelope, Scope};

use crate::cores::pin_this_thread;
use crate::failure::Failure;
use crate::usage::this_thread_cpu;

/// The number of backends and the parameters of their calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublishLoad {
    pub(crate) connections: usize,
    /// Number of outstanding calls of one connection.
    pub(crate) depth: usize,
    /// Number of messages in one call.
    pub(crate) batch: usize,
    /// Whether each message has an id.
    pub(crate) ids: bool,
}

/// Number of acknowledged messages, and the CPU that the backends used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AcknowledgedLoad {
    pub(crate) messages: u64,
    pub(crate) cpu: Duration,
}

/// Publishes for `duration` on `cores`. `round` distinguishes the ids of this call from those of other calls.
pub(crate) fn publish_for_load(
    url: &str,
    cores: &[usize],
    scope: &Scope,
    load: PublishLoad,
    round: usize,
    duration: Duration,
) -> Result<AcknowledgedLoad, Failure> {
    let run = |connection: usize| {
        let mut backend = Backend::connect(url, scope, load, format!("{round:04x}-{connection:03}"))?;
        pin_this_thread(cores)?;
        backend.publish_for(duration)
    };
    thread::scope(|threads| {
        let running: Vec<_> = (0..load.connections).map(|connection| threads.spawn(move || run(connection))).collect();
        running.into_iter().try_fold(AcknowledgedLoad::default(), |sum, thread| {
            let one = thread.join().expect("a backend does not panic")?;
            Ok(AcknowledgedLoad { messages: sum.messages + one.messages, cpu: sum.cpu + one.cpu })
        })
    })
}

/// One connection that publishes.
struct Backend {
    connection: Connection,
    call: PublishCall,
    load: PublishLoad,
    name: String,
    messages: u64,
    /// The offset in the last answer.
    offset: u64,
}

/// A message of about the size that an application sends: 100 bytes.
const MESSAGE: &str = concat!(
    r#"{"type":"op.applied","payload":{"op":"insert","at":1723,"#,
    r#""text":"abcdefghijklmnopqrstuvwxyz01234"}}"#
);

impl Backend {
    fn connect(url: &str, scope: &Scope, load: PublishLoad, name: String) -> Result<Self, Failure> {
        let call = PublishCall::new(&Keyspace::default(), scope, load.ids);
        Ok(Self { connection: connect(url)?, call, load, name, messages: 0, offset: 0 })
    }

    fn publish_for(&mut self, duration: Duration) -> Result<AcknowledgedLoad, Failure> {
        let PublishLoad { depth, batch, ids, .. } = self.load;
        let end = Instant::now() + duration;
        while Instant::now() < end {
            let mut pipeline = redis::pipe();
            for _ in 0..depth {
                let numbers = self.messages..self.messages + batch as u64;
                // The id is as long as a UUID.
                let id = |number| ids.then(|| format!("{:<10}-4f89-41d3-{number:016x}", self.name));
                let names: Vec<_> = numbers.map(id).collect();
                let items =
                    names.iter().map(|id| PublishItem { topic: "ops", message: MESSAGE.as_bytes(), id: id.as_deref() });
                let mut command = Cmd::new();
                self.call.write(items, |word| {
                    command.arg(word);
                });
                pipeline.add_command(command);
                self.messages += batch as u64;
            }
            let answers: Vec<Value> = pipeline.query(&mut self.connection).map_err(Failure::redis("publishing"))?;
            answers.iter().try_for_each(|answer| self.check(answer))?;
        }
        Ok(AcknowledgedLoad { messages: self.messages, cpu: this_thread_cpu() })
    }

    /// The messages of one backend have increasing positions. Messages of other backends may be between them.
    fn check(&mut self, answer: &Value) -> Result<(), Failure> {
        let wrong = || Failure::Deliveries(format!("a publish was answered by {answer:?}"));
        let placed = self.call.read(self.load.batch, answer, part).ok_or_else(wrong)?;
        if placed.iter().any(|(_, known)| *known) {
            return Err(wrong());
        }
        let (batch, offset) = (placed.len() as u64, placed.last().ok_or_else(wrong)?.0.offset);
        if offset < self.offset + batch {
            return Err(wrong());
        }
        self.offset = offset;
        Ok(())
    }
}

/// Receives the messages of a scope up to message number `last`, and fails if there is a hole.
pub(crate) struct Listener(thread::JoinHandle<Result<Duration, Failure>>, std::sync::mpsc::Sender<u64>);

/// How long the listener waits for expected messages.
const RECEIVE_TIME_MAX: Duration = Duration::from_secs(20);

impl Listener {
    /// Subscribes, and returns when the subscription is active.
    pub(crate) fn start(url: &str, cores: Vec<usize>, scope: &Scope, received: u64) -> Result<Self, Failure> {
        let mut connection = connect(url)?;
        let channel = Keyspace::default().channel(scope);
        let (end_sender, end_receiver) = std::sync::mpsc::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            pin_this_thread(&cores)?;
            let mut received = received;
            let mut subscription = connection.as_pubsub();
            let failed = |what: &str| Failure::redis(format!("the listener's {what}"));
            subscription.subscribe(channel).map_err(failed("subscription"))?;
            let _ = ready.send(());
            subscription.set_read_timeout(Some(Duration::from_millis(20))).map_err(failed("timeout"))?;
            let (mut last, mut deadline) = (None, None);
            while last != Some(received) {
                match subscription.get_message() {
                    Ok(message) => received = follow(received, message.get_payload_bytes())?,
                    Err(error) if error.is_timeout() => {}
                    Err(error) => return Err(failed("connection")(error)),
                }
                last = last.or_else(|| end_receiver.try_recv().ok());
                if last.is_some() {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + RECEIVE_TIME_MAX);
                    if Instant::now() > deadline {
                        return Err(Failure::Deliveries(format!("{received} messages heard of {last:?}")));
                    }
                }
            }
            Ok(this_thread_cpu())
        });
        // `finish` reports a failure of the thread.
        let _ = is_ready.recv();
        Ok(Self(thread, end_sender))
    }

    /// Waits until everything up to this offset has been received. Returns the CPU time of the listener.
    pub(crate) fn finish(self, last: u64) -> Result<Duration, Failure> {
        let _ = self.1.send(last);
        self.0.join().expect("the listener does not panic")
    }
}

/// Checks that this envelope directly follows offset `received`. Returns its last offset.
fn follow(received: u64, envelope: &[u8]) -> Result<u64, Failure> {
    let wrong = |what: String| Failure::Deliveries(format!("heard behind offset {received}: {what}"));
    let envelope = Envelope::parse(envelope).map_err(|error| wrong(error.to_string()))?;
    if envelope.first.offset != received + 1 {
        return Err(wrong(format!("{}", envelope.first)));
    }
    envelope
        .items()
        .try_fold(received, |_, item| item.map(|(at, ..)| at.offset))
        .map_err(|error| wrong(error.to_string()))
}

fn connect(url: &str) -> Result<Connection, Failure> {
    let client = redis::Client::open(url).map_err(Failure::redis("Redis' address"))?;
    client.get_connection().map_err(Failure::redis("a connection to Redis"))
}

/// One part of an answer, for [`PublishCall::read`].
fn part(value: &Value) -> ReplyPart<'_, Value> {
    match value {
        Value::BulkString(text) => ReplyPart::Text(text),
        Value::Int(number) => ReplyPart::Number(*number),
        Value::Array(parts) => ReplyPart::List(parts),
        _ => ReplyPart::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{Position, Timestamp};

    #[test]
    fn a_message_that_was_not_heard_is_noticed() {
        let envelope =
            |offset| Envelope::write(Position::new(7, offset), Timestamp(0), [("", &b"{}"[..]); 3].into_iter());
        assert_eq!(follow(0, &envelope(1)).unwrap(), 3);
        assert_eq!(follow(3, &envelope(4)).unwrap(), 6);
        assert!(follow(3, &envelope(5)).is_err(), "one is missing");
        assert!(follow(3, &envelope(3)).is_err(), "one came twice");
    }
}
