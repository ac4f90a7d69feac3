//! The metrics: name, type, unit, meaning, and source of each value. `docs/metrics.md` has the same table.
//!
//! Counters and gauges are published to a `metrics` recorder at scrape time, as absolute values. Histograms are not:
//! the recorder takes single samples, queues each with its own `Instant`, sorts them into buckets when it renders,
//! and does not accept finished buckets. The gateway counts its own buckets ([`crate::metrics::counters`]) and
//! appends their text to the recorder's output, with the formatting functions of the exporter.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ::metrics::{Label, Unit};
use metrics_exporter_prometheus::formatting::{write_help_line, write_type_line};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use records::{DeadLetterCounts, DeadLetterQueue, ReceiptBuffer, ReceiptCounts};
use redis_topology::{BreakerCounts, Pools};
use wire::{Close, ErrorCode};

use crate::health::Health;
use crate::health::instance_state::InstanceState;
use crate::metrics::counters::EdgeCounters;
use crate::metrics::counters::{Counter, Histogram, LATENCY_BOUNDS_US, PresenceCounters, PumpCounters, ShardCounters};

/// One row of the table.
struct Metric {
    /// The scraped name. It ends in its unit; the name of a counter ends in `_total`.
    name: &'static str,
    unit: Unit,
    help: &'static str,
    value: Value,
}

/// The type of a metric, and the function that reads its value.
enum Value {
    ShardCounter(fn(&ShardCounters) -> &Counter),
    /// Summed over all shards, because codes times shards would be many lines.
    ErrorCounter,
    /// The same for close codes.
    CloseCounter,
    ShardGauge(fn(&ShardCounters) -> &Counter),
    /// Summed over all shards, because buckets times shards would be many lines.
    ShardHistogram(fn(&ShardCounters) -> &Histogram),
    PumpCounter(fn(&PumpCounters) -> &Counter),
    PumpGauge(fn(&PumpCounters) -> &Counter),
    DeadLetterCounter(fn(&DeadLetterCounts) -> &AtomicU64),
    ReceiptCounter(fn(&ReceiptCounts) -> &AtomicU64),
    ReceiptGauge(fn(&ReceiptCounts) -> &AtomicU64),
    EdgeCounter(fn(&EdgeCounters) -> &Counter),
    PresenceCounter(fn(&PresenceCounters) -> &Counter),
    PresenceGauge(fn(&PresenceCounters) -> &Counter),
    /// One value per entry of [`Sources::pools`], with the label `calls`.
    BreakerCounter(fn(BreakerCounts) -> u64),
    BreakerGauge(fn(BreakerCounts) -> u64),
    HealthGauge(fn(&Health) -> f64),
    HealthCounter(fn(&Health) -> u64),
    /// One gauge per [`InstanceState`], 1 for the current state.
    InstanceStateGauge,
    /// One gauge per event loop of the watchdog.
    LagGauge,
}

pub(crate) mod counters;
pub(crate) mod refusal_log;
mod table;

use table::METRICS;

/// The sources of all values.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The counters of each shard, by index.
    pub(crate) shards: Vec<Arc<ShardCounters>>,
    pub(crate) pump: Arc<PumpCounters>,
    pub(crate) edge: Arc<EdgeCounters>,
    pub(crate) presence: Arc<PresenceCounters>,
    pub(crate) dead_letter_queue: Arc<DeadLetterQueue>,
    pub(crate) receipt_buffer: Arc<ReceiptBuffer>,
    pub(crate) health: Arc<Health>,
    /// Connection pools to Redis besides the broker's, and the names of their users.
    pub(crate) pools: Vec<(&'static str, Pools)>,
}

/// Renders [`METRICS`] in the Prometheus text format.
pub(crate) struct Exposition {
    sources: Sources,
    /// Not installed globally, because several instances may run in one process in tests.
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

// === impl Exposition ===

impl Exposition {
    pub(crate) fn new(sources: Sources) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || METRICS.iter().for_each(Metric::describe));
        Self { sources, recorder, handle }
    }

    /// Returns the text of one scrape.
    pub(crate) fn render(&self) -> String {
        ::metrics::with_local_recorder(&self.recorder, || {
            METRICS.iter().for_each(|metric| metric.publish(&self.sources));
        });
        // The renderer sees descriptions only after upkeep. Without histograms upkeep costs nothing.
        self.handle.run_upkeep();
        let mut text = self.handle.render();
        for metric in METRICS {
            if let Value::ShardHistogram(read) = metric.value {
                write_help_line(&mut text, metric.name, None, None, metric.help);
                write_type_line(&mut text, metric.name, None, None, "histogram");
                write_histogram(&mut text, metric.name, self.sources.shards.iter().map(|shard| read(shard)));
            }
        }
        text
    }
}

// === impl Metric ===

impl Metric {
    fn describe(&self) {
        match self.value {
            Value::ShardCounter(_)
            | Value::ErrorCounter
            | Value::CloseCounter
            | Value::PumpCounter(_)
            | Value::DeadLetterCounter(_)
            | Value::ReceiptCounter(_)
            | Value::EdgeCounter(_)
            | Value::PresenceCounter(_)
            | Value::BreakerCounter(_)
            | Value::HealthCounter(_) => {
                ::metrics::describe_counter!(self.name, self.unit, self.help);
            }
            Value::ShardGauge(_)
            | Value::PumpGauge(_)
            | Value::PresenceGauge(_)
            | Value::ReceiptGauge(_)
            | Value::BreakerGauge(_)
            | Value::HealthGauge(_)
            | Value::LagGauge
            | Value::InstanceStateGauge => {
                ::metrics::describe_gauge!(self.name, self.unit, self.help);
            }
            Value::ShardHistogram(_) => {} // Not published to the recorder; see above.
        }
    }

    fn publish(&self, sources: &Sources) {
        match self.value {
            Value::ShardCounter(read) => {
                for (shard, label) in sources.labelled() {
                    ::metrics::counter!(self.name, vec![label]).absolute(read(shard).get());
                }
            }
            Value::ErrorCounter => {
                let codes = ErrorCode::ALL.map(|code| code.as_str().to_owned());
                publish_by_code(self.name, codes, sources, |shard| shard.errors.get());
            }
            Value::CloseCounter => {
                let codes = Close::ALL.map(|close| close.code().to_string());
                publish_by_code(self.name, codes, sources, |shard| shard.closes.get());
            }
            Value::ShardGauge(read) => {
                for (shard, label) in sources.labelled() {
                    ::metrics::gauge!(self.name, vec![label]).set(read(shard).get() as f64);
                }
            }
            Value::PumpCounter(read) => ::metrics::counter!(self.name).absolute(read(&sources.pump).get()),
            Value::ReceiptCounter(read) => {
                let count = read(sources.receipt_buffer.counts()).load(Ordering::Relaxed);
                ::metrics::counter!(self.name).absolute(count);
            }
            Value::ReceiptGauge(read) => {
                let count = read(sources.receipt_buffer.counts()).load(Ordering::Relaxed);
                ::metrics::gauge!(self.name).set(count as f64);
            }
            Value::DeadLetterCounter(read) => {
                let count = read(sources.dead_letter_queue.counts()).load(Ordering::Relaxed);
                ::metrics::counter!(self.name).absolute(count);
            }
            Value::PumpGauge(read) => ::metrics::gauge!(self.name).set(read(&sources.pump).get() as f64),
            Value::PresenceCounter(read) => ::metrics::counter!(self.name).absolute(read(&sources.presence).get()),
            Value::PresenceGauge(read) => ::metrics::gauge!(self.name).set(read(&sources.presence).get() as f64),
            Value::EdgeCounter(read) => ::metrics::counter!(self.name).absolute(read(&sources.edge).get()),
            Value::BreakerCounter(read) => {
                for (calls, pools) in &sources.pools {
                    ::metrics::counter!(self.name, "calls" => *calls).absolute(read(pools.counts()));
                }
            }
            Value::BreakerGauge(read) => {
                for (calls, pools) in &sources.pools {
                    ::metrics::gauge!(self.name, "calls" => *calls).set(read(pools.counts()) as f64);
                }
            }
            Value::HealthGauge(read) => ::metrics::gauge!(self.name).set(read(&sources.health)),
            Value::HealthCounter(read) => ::metrics::counter!(self.name).absolute(read(&sources.health)),
            Value::InstanceStateGauge => {
                let present = sources.health.instance_state(Instant::now());
                for instance_state in InstanceState::ALL {
                    let label = Label::new("state", instance_state.as_str());
                    ::metrics::gauge!(self.name, vec![label]).set(f64::from(u8::from(instance_state == present)));
                }
            }
            Value::LagGauge => {
                let (watchdog, now) = (sources.health.watchdog(), Instant::now());
                for which in watchdog.loops() {
                    let label = Label::new("loop", which.to_string());
                    ::metrics::gauge!(self.name, vec![label]).set(watchdog.worst_lag(which, now).as_secs_f64());
                }
            }
            Value::ShardHistogram(_) => {} // Appended by `render`.
        }
    }
}

fn publish_by_code<const N: usize>(
    name: &'static str,
    codes: [String; N],
    sources: &Sources,
    read: impl Fn(&ShardCounters) -> [u64; N],
) {
    let counts: Vec<[u64; N]> = sources.shards.iter().map(|shard| read(shard)).collect();
    for (at, code) in codes.into_iter().enumerate() {
        let total = counts.iter().map(|counts| counts[at]).sum();
        ::metrics::counter!(name, vec![Label::new("code", code)]).absolute(total);
    }
}

impl Sources {
    fn labelled(&self) -> impl Iterator<Item = (&ShardCounters, Label)> {
        self.shards.iter().enumerate().map(|(index, shard)| (&**shard, Label::new("shard", index.to_string())))
    }
}

/// Writes cumulative buckets in seconds. `_count` is the last bucket: if it were read separately, a sample between
/// two reads could make a bucket larger than the count.
fn write_histogram<'c>(text: &mut String, name: &str, histograms: impl Iterator<Item = &'c Histogram>) {
    let (mut buckets, mut sum_us) = ([0u64; LATENCY_BOUNDS_US.len() + 1], 0u64);
    for histogram in histograms {
        for (total, bucket) in buckets.iter_mut().zip(&histogram.buckets) {
            *total += bucket.get();
        }
        sum_us += histogram.sum_us.get();
    }
    let mut count = 0;
    let bounds = LATENCY_BOUNDS_US.iter().map(|us| seconds(*us).to_string()).chain(["+Inf".into()]);
    for (bound, bucket) in bounds.zip(buckets) {
        count += bucket;
        writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}").expect("writing to a String cannot fail");
    }
    writeln!(text, "{name}_sum {}\n{name}_count {count}\n", seconds(sum_us)).expect("writing to a String cannot fail");
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests;
