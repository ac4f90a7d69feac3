//! A backend that publishes numbered ticks by `FCALL`, as a backend in any language would.

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

/// A connection that publishes to its channels in turn. It numbers its messages from 0, over all channels.
pub(crate) struct Publisher {
    connection: Connection,
    addresses: Vec<Address>,
    next: u64,
    times: Arc<SendTimes>,
}

/// The publish call and the topic of one channel.
struct Address {
    call: PublishCall,
    topic: String,
}

/// The rate of publishing.
#[derive(Debug, Clone)]
pub(crate) enum Pace {
    /// One batch at every multiple of `interval`, however long the answers take.
    Even {
        /// The time between two batches.
        interval: Duration,
        /// Stops when this many messages are outstanding. `u64::MAX` means never.
        outstanding_max: u64,
    },
    /// Publishes whenever fewer than this many messages are outstanding.
    Window(u64),
}

/// State that the receivers and the publisher share while both run.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Number of messages that have reached their receivers. It is an average, compared with the number published.
    pub(crate) received: AtomicU64,
    /// Set by the publisher after its last message.
    pub(crate) finished: AtomicBool,
}

/// The result of one run of a publisher.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    /// All messages before this number have been published, by all runs together.
    pub(crate) end: u64,
    /// Whether the publisher kept its pace to the end.
    pub(crate) kept_pace: bool,
    /// The CPU time of the publishing thread.
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

    /// Publishes `count` messages that were due at `due`: in one call if there is only one channel, otherwise in one
    /// pipeline of calls, one per channel.
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

    /// Publishes for `duration` in a thread on `cores`, with `batch` messages per call. Returns the publisher and its
    /// result.
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
                    // The sleep lets the receivers use the core that they share with this thread.
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
