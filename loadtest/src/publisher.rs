//! A backend: publishes numbered ticks by `FCALL`, the way any language would.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use keyspace::{Keyspace, PublishCall, PublishItem};
use redis::{Cmd, Connection, Value};
use wire::{BATCH_MESSAGES_MAX, Channel};

use crate::cores::pin_this_thread;
use crate::failure::Failure;
use crate::send_times::SendTimes;
use crate::tick;
use crate::usage::this_thread_cpu;

/// A connection that publishes to its channels in turn; it numbers its messages from 0, over all of them.
pub(crate) struct Publisher {
    connection: Connection,
    addresses: Vec<Address>,
    next: u64,
    times: Arc<SendTimes>,
}

/// Where one channel's messages go.
struct Address {
    call: PublishCall,
    topic: String,
}

/// How fast to publish.
#[derive(Debug, Clone)]
pub(crate) enum Pace {
    /// A batch at every multiple of `interval`, however long the answers take.
    Even {
        /// Between two batches.
        interval: Duration,
        /// Gives up when this many messages are on their way. `u64::MAX`: never.
        outstanding_max: u64,
    },
    /// As soon as fewer than this many messages are on their way.
    Window(u64),
}

/// What the receivers tell the publisher while both run.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Messages that have reached their receivers; an average, to be compared with the number published.
    pub(crate) received: AtomicU64,
    /// Set by the publisher when it has published its last one.
    pub(crate) finished: AtomicBool,
}

/// What a publisher did in one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    /// Messages up to but not including this one have been published, by all runs together.
    pub(crate) end: u64,
    /// Whether the pace was kept to the end.
    pub(crate) kept_pace: bool,
    /// CPU of the publishing thread.
    pub(crate) cpu: Duration,
}

impl Publisher {
    /// Connects to the Redis at `url`.
    pub(crate) fn connect(url: &str, channels: &[Channel], times: Arc<SendTimes>) -> Result<Self, Failure> {
        let client = redis::Client::open(url).map_err(Failure::redis("the publisher's address"))?;
        let connection = client.get_connection().map_err(Failure::redis("the publisher's connection"))?;
        let keys = Keyspace::default();
        let address = |channel: &Channel| {
            let call = PublishCall::new(&keys, &channel.scope, false);
            Address { call, topic: channel.topic().to_owned() }
        };
        Ok(Self { connection, addresses: channels.iter().map(address).collect(), next: 0, times })
    }

    /// The number of the next message.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Publishes `count` messages that were due at `due`: in one call to the only channel, or in one pipeline of
    /// calls to so many channels.
    fn publish(&mut self, count: u64, due: Instant) -> Result<(), Failure> {
        let end = self.next + count;
        (self.next..end).for_each(|number| self.times.note(number, due));
        let mut pipeline = redis::pipe();
        match self.addresses.as_slice() {
            [only] => pipeline.add_command(only.call(self.next..end)),
            several => (self.next..end).fold(&mut pipeline, |pipeline, number| {
                let turn = number as usize % several.len();
                pipeline.add_command(several[turn].call(number..number + 1))
            }),
        };
        pipeline.query::<Value>(&mut self.connection).map_err(Failure::redis("publishing"))?;
        self.next = end;
        Ok(())
    }

    /// Publishes for `duration` in a thread on `cores`, `batch` messages per call, and comes back with what it did.
    pub(crate) fn run(
        mut self,
        cores: Vec<usize>,
        pace: Pace,
        batch: u64,
        duration: Duration,
        progress: Arc<Progress>,
    ) -> JoinHandle<Result<(Self, Published), Failure>> {
        assert!((1..=BATCH_MESSAGES_MAX as u64).contains(&batch), "a call carries 1 to {BATCH_MESSAGES_MAX} messages");
        thread::spawn(move || {
            let result = pin_this_thread(&cores).and_then(|()| self.publish_paced(&pace, batch, duration, &progress));
            progress.finished.store(true, Ordering::Release);
            result.map(|published| (self, published))
        })
    }

    fn publish_paced(
        &mut self,
        pace: &Pace,
        batch: u64,
        duration: Duration,
        progress: &Progress,
    ) -> Result<Published, Failure> {
        let start = Instant::now();
        let mut due = start;
        let mut kept_pace = true;
        while due < start + duration {
            let outstanding = self.next.saturating_sub(progress.received.load(Ordering::Relaxed));
            match *pace {
                Pace::Even { outstanding_max, .. } if outstanding > outstanding_max => {
                    kept_pace = false;
                    break;
                }
                Pace::Even { interval, .. } => {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    self.publish(batch, due)?;
                    due += interval;
                }
                Pace::Window(max) if outstanding + batch > max => {
                    // Lets the receivers have the core they share with this thread.
                    thread::sleep(Duration::from_micros(50));
                    due = Instant::now();
                }
                Pace::Window(_) => {
                    self.publish(batch, Instant::now())?;
                    due = Instant::now();
                }
            }
        }
        Ok(Published { end: self.next, kept_pace, cpu: this_thread_cpu() })
    }
}

impl Address {
    fn call(&self, numbers: Range<u64>) -> Cmd {
        let messages: Vec<_> = numbers.map(tick::message).collect();
        let items =
            messages.iter().map(|message| PublishItem { topic: &self.topic, message: message.as_ref(), id: None });
        let mut command = Cmd::new();
        self.call.write(items, |word| {
            command.arg(word);
        });
        command
    }
}
