//! Many receivers of one gateway, and one publisher. Rows 1 to 3, 8 and 10 share them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wire::{Channel, Families, TenantId};

use super::Setting;
use crate::clients::{Clients, ConnectPlan, Transport, storm};
use crate::delivery_tally::DeliveryTally;
use crate::failure::Failure;
use crate::harness::{BenchHarness, sign_token};
use crate::latencies::Latencies;
use crate::publisher::{Pace, Progress, Published, Publisher};
use crate::send_times::SendTimes;
use crate::tick::{TickReader, kind_of};
use crate::window::{Spent, Window};

/// The channel that all receivers share. If they share several channels, a digit follows.
pub(super) const SHARED: &str = "collection:bench";
/// Number of channels of each receiver in [`Layout::Scopes`], each in its own scope.
pub(super) const SCOPES: u64 = 10;
/// The text before the number in the personal channels, and the number of digits.
const PERSONAL_STEM: &str = "user:u";
pub(super) const PERSONAL_DIGITS: usize = 5;
/// One delivery in this many has its latency recorded, spread evenly over receivers and messages.
const LATENCY_EVERY: u64 = 16;
/// How long the receivers wait for deliveries that do not arrive.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The assignment of channels to receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// All receivers share one channel. A message is one delivery to each of them.
    Shared,
    /// All receivers share the same [`SCOPES`] channels. Messages go to them in turn, and each is one delivery per
    /// receiver.
    Scopes,
    /// Each receiver has the channel of its own user. Messages go to them in turn, and each is one delivery.
    Personal,
}

/// The receivers, their delivery tally and their publisher.
pub(super) struct Audience {
    pub(super) harness: BenchHarness,
    layout: Layout,
    clients: Clients,
    delivery_tally: DeliveryTally,
    reader: TickReader,
    /// `None` while a run uses the publisher in its thread.
    publisher: Option<Publisher>,
    times: Arc<SendTimes>,
    /// The first frame of the latest run, as received.
    pub(super) frame: Vec<u8>,
}

/// The result of one run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) published: Published,
    pub(super) deliveries: u64,
    /// CPU and time from the first message to the last delivery.
    pub(super) spent: Spent,
    pub(super) latencies: Latencies,
}

impl Run {
    /// CPU time of the server per delivery in microseconds.
    pub(super) fn cpu_us_per_delivery(&self) -> f64 {
        self.spent.server_us_per(self.deliveries)
    }

    pub(super) fn deliveries_per_s(&self) -> f64 {
        self.deliveries as f64 / self.spent.wall.as_secs_f64()
    }

    /// Deliveries per second that one core of the server could make at this cost.
    pub(super) fn deliveries_per_core_s(&self) -> f64 {
        self.deliveries as f64 / self.spent.server_cpu.as_secs_f64()
    }
}

impl Audience {
    /// Starts Redis and a gateway, and connects the receivers.
    pub(super) fn gather(setting: &Setting, layout: Layout, receivers: usize) -> Result<Self, Failure> {
        let harness = BenchHarness::start(&setting.cores, &setting.gateway, "")?;
        Self::gather_at(harness, Transport::WebSocket, layout, receivers)
    }

    /// Connects the receivers to servers that already run.
    pub(super) fn gather_at(
        harness: BenchHarness,
        transport: Transport,
        layout: Layout,
        receivers: usize,
    ) -> Result<Self, Failure> {
        let shared = layout.shared_channels();
        let grants: Vec<_> = shared.iter().map(String::as_str).collect();
        let mut visits = Vec::with_capacity(receivers);
        for number in 0..receivers {
            let (user, own) = layout.place(number);
            let channels = own.map_or_else(|| shared.clone(), |own| vec![own]);
            visits.push(ConnectPlan { token: sign_token(&user, &grants), channels });
        }
        let mut clients = Clients::new(transport)?;
        storm(&mut clients, harness.addr, visits.into_iter())?;
        let times = Arc::new(SendTimes::new());
        let personal = (0..receivers).filter_map(|number| layout.place(number).1);
        let channels: Vec<_> = shared.into_iter().chain(personal).map(|name| channel(&name)).collect();
        let publisher = Some(Publisher::connect(&harness.redis_url, &channels, times.clone())?);
        let reader = match layout {
            Layout::Shared => TickReader::new(SHARED, 0),
            Layout::Scopes => TickReader::new(SHARED, 1),
            Layout::Personal => TickReader::new(PERSONAL_STEM, PERSONAL_DIGITS),
        };
        let delivery_tally = DeliveryTally::new(receivers * layout.streams_per_receiver(), 0);
        Ok(Self { harness, layout, clients, delivery_tally, reader, publisher, times, frame: Vec::new() })
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Publishes for `duration`, and receives until every receiver has every message. Fails if one does not.
    pub(super) fn run(
        &mut self,
        setting: &Setting,
        pace: Pace,
        batch: u64,
        duration: Duration,
    ) -> Result<Run, Failure> {
        let publisher = self.publisher.take().expect("every run gives it back");
        let first = publisher.next();
        let before = self.delivery_tally.delivered();
        let progress = Arc::new(Progress::default());
        progress.received.store(first, Ordering::Relaxed);
        self.frame.clear();
        let mut latencies = Latencies::new();
        let window = Window::open(self.harness.gateway.pid(), Some(self.harness.redis.pid()))?;
        let task = publisher.run(setting.cores.clients.clone(), pace, batch, duration, progress.clone());
        while !progress.finished.load(Ordering::Acquire) {
            self.receive(&mut latencies)?;
            let messages = self.delivery_tally.delivered() / self.layout.deliveries_per_message(self.len());
            progress.received.store(messages, Ordering::Relaxed);
        }
        let (publisher, published) = task.join().expect("the publisher does not panic")?;
        self.publisher = Some(publisher);
        self.receive_until(published.end, &mut latencies)?;
        let deliveries = self.delivery_tally.delivered() - before;
        Ok(Run { published, deliveries, spent: window.close(published.cpu)?, latencies })
    }

    /// Receives until all expected deliveries should have arrived, and checks that they have.
    fn receive_until(&mut self, end: u64, latencies: &mut Latencies) -> Result<(), Failure> {
        let (layout, receivers) = (self.layout, self.len());
        let expected = end * layout.deliveries_per_message(receivers);
        let counts =
            |delivery_tally: &DeliveryTally| delivery_tally.counts(|stream| layout.pending(stream, receivers, end));
        let mut last_progress = Instant::now();
        while last_progress.elapsed() < SILENCE_MAX {
            // A duplicate delivery can hide a missing one in the sum, so the number alone proves nothing.
            if self.delivery_tally.delivered() >= expected && counts(&self.delivery_tally).is_clean() {
                return Ok(());
            }
            let before = self.delivery_tally.delivered();
            self.receive(latencies)?;
            if self.delivery_tally.delivered() > before {
                last_progress = Instant::now();
            }
        }
        Err(Failure::Deliveries(counts(&self.delivery_tally).to_string()))
    }

    fn receive(&mut self, latencies: &mut Latencies) -> Result<(), Failure> {
        let Self { layout, clients, delivery_tally, reader, times, frame: first, .. } = self;
        let (mut read_at, receivers) = ((usize::MAX, Instant::now()), clients.len() as u64);
        clients.poll(Duration::from_millis(5), |receiver, frame| {
            let Some(number) = reader.read(&frame.payload) else { return check_control(receiver, &frame.payload) };
            match layout {
                Layout::Shared => delivery_tally.record_delivery(receiver, number),
                // Order is kept within a scope, so each scope of a receiver is a separate stream.
                Layout::Scopes => {
                    let stream = receiver * SCOPES as usize + (number % SCOPES) as usize;
                    delivery_tally.record_delivery(stream, number / SCOPES);
                }
                Layout::Personal if number % receivers == receiver as u64 => {
                    delivery_tally.record_delivery(receiver, number / receivers)
                }
                Layout::Personal => delivery_tally.record_misrouted(),
            }
            if (number + receiver as u64).is_multiple_of(LATENCY_EVERY) {
                // The clock is read once per socket read, because a round over many busy sockets takes milliseconds.
                if read_at.0 != receiver {
                    read_at = (receiver, Instant::now());
                }
                latencies.record(times.age(number, read_at.1));
            }
            if first.is_empty() {
                first.extend_from_slice(frame.bytes);
            }
            Ok(())
        })
    }
}

impl Layout {
    /// The channels that all receivers share.
    fn shared_channels(self) -> Vec<String> {
        match self {
            Self::Shared => vec![SHARED.into()],
            Self::Scopes => (0..SCOPES).map(|digit| format!("{SHARED}{digit}")).collect(),
            Self::Personal => Vec::new(),
        }
    }

    /// The user of receiver `number`, and its personal channel, if it has one.
    fn place(self, number: usize) -> (String, Option<String>) {
        match self {
            Self::Shared | Self::Scopes => (format!("u{number}"), None),
            Self::Personal => {
                (format!("u{number:0PERSONAL_DIGITS$}"), Some(format!("{PERSONAL_STEM}{number:0PERSONAL_DIGITS$}")))
            }
        }
    }

    /// Number of message streams that the tally separates for one receiver.
    fn streams_per_receiver(self) -> usize {
        match self {
            Self::Shared | Self::Personal => 1,
            Self::Scopes => SCOPES as usize,
        }
    }

    fn deliveries_per_message(self, receivers: usize) -> u64 {
        match self {
            Self::Shared | Self::Scopes => receivers as u64,
            Self::Personal => 1,
        }
    }

    /// Number of messages expected in `stream` after `end` messages have been published.
    fn pending(self, stream: usize, receivers: usize, end: u64) -> u64 {
        let in_turns = |number: u64, count: u64| end / count + u64::from(number < end % count);
        match self {
            Self::Shared => end,
            Self::Scopes => in_turns(stream as u64 % SCOPES, SCOPES),
            Self::Personal => in_turns(stream as u64, receivers as u64),
        }
    }
}

/// A channel of the default tenant.
pub(super) fn channel(name: &str) -> Channel {
    Families::default().parse_channel(&TenantId::default(), name).expect("a channel of a default family")
}

/// Checks a frame that is not a tick. Some are harmless. All others mean that the run does not measure what it should.
fn check_control(receiver: usize, payload: &[u8]) -> Result<(), Failure> {
    match kind_of(payload).as_deref() {
        Some("position" | "welcome") => Ok(()),
        _ => Err(Failure::Receiver { receiver, what: format!("got {}", String::from_utf8_lossy(payload)) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn personal_messages_are_owed_in_turns() {
        let pending = |end| (0..3).map(|receiver| Layout::Personal.pending(receiver, 3, end)).collect::<Vec<_>>();
        assert_eq!(pending(0), [0, 0, 0]);
        assert_eq!(pending(4), [2, 1, 1]);
        assert_eq!(pending(6), [2, 2, 2]);
        assert_eq!(Layout::Shared.pending(2, 3, 4), 4);
    }

    #[test]
    fn messages_of_several_scopes_are_expected_in_turns_by_every_receiver() {
        let pending = |receiver: u64, scope| Layout::Scopes.pending((receiver * SCOPES + scope) as usize, 3, 13);
        for receiver in 0..3 {
            let expected: Vec<u64> = (0..SCOPES).map(|scope| if scope < 3 { 2 } else { 1 }).collect();
            assert_eq!((0..SCOPES).map(|scope| pending(receiver, scope)).collect::<Vec<_>>(), expected);
        }
    }
}
