//! The output of a scrape, and a check that `docs/metrics.md` lists every metric.

use std::time::{Duration, Instant};

use records::DeadLetterQueueConfig;
use redis_topology::Target;

use super::*;
use crate::health::watchdog::{FROZEN_AFTER, Watchdog};

fn exposition() -> Exposition {
    let shards = vec![Arc::default(), Arc::default()];
    let health = Arc::new(Health::new(Watchdog::new(2, FROZEN_AFTER, Instant::now())));
    let dead_letter_queue = Arc::new(DeadLetterQueue::new(DeadLetterQueueConfig { message_bytes_max: 0 }));
    let pools = Pools::new(Target::parse("redis://127.0.0.1").unwrap(), 1, Duration::from_secs(1));
    Exposition::new(Sources {
        pools: vec![("registry", pools)],
        shards,
        pump: Arc::default(),
        edge: Arc::default(),
        presence: Arc::default(),
        dead_letter_queue,
        receipt_buffer: Arc::default(),
        health,
    })
}

#[test]
fn every_metric_is_scraped_with_type_and_help() {
    let text = exposition().render();
    for metric in METRICS {
        let kind = kind(metric);
        assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}:\n{text}", metric.name);
        assert!(text.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{}:\n{text}", metric.name);
        assert_eq!(metric.name.ends_with("_total"), kind == "counter", "{}", metric.name);
    }
}

#[test]
fn values_are_absolute_and_by_shard() {
    let exposition = exposition();
    exposition.sources.shards[1].connections.set(7);
    exposition.sources.shards[1].deliveries.add(1000);
    exposition.sources.edge.accepts.add(3);
    for shard in &exposition.sources.shards {
        shard.errors.count(&ErrorCode::ALL, ErrorCode::Forbidden);
        shard.closes.count(&Close::ALL, Close::Kicked);
    }
    for _ in 0..2 {
        let text = exposition.render();
        for line in [
            "tidegate_connections{shard=\"0\"} 0",
            "tidegate_connections{shard=\"1\"} 7",
            "tidegate_deliveries_total{shard=\"1\"} 1000",
            "tidegate_accepts_total 3",
            "tidegate_errors_total{code=\"forbidden\"} 2",
            "tidegate_errors_total{code=\"internal\"} 0",
            "tidegate_closes_total{code=\"4505\"} 2",
            "tidegate_closes_total{code=\"1000\"} 0",
            "tidegate_breakers_open{calls=\"registry\"} 0",
            "tidegate_instance_state{state=\"starting\"} 1",
            "tidegate_instance_state{state=\"isolated\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
    exposition.sources.shards[1].connections.set(6);
    assert!(exposition.render().contains("tidegate_connections{shard=\"1\"} 6\n"), "gauges fall too");
}

#[test]
fn one_state_is_true_at_a_time() {
    let exposition = exposition();
    exposition.sources.health.advance(crate::health::instance_state::Phase::Running);
    let text = exposition.render();
    let of =
        |value: &str| text.lines().filter(|l| l.starts_with("tidegate_instance_state{") && l.ends_with(value)).count();
    assert_eq!((of(" 1"), of(" 0")), (1, InstanceState::ALL.len() - 1), "{text}");
    assert!(text.contains("tidegate_instance_state{state=\"connecting\"} 1\n"), "{text}");
}

#[test]
fn buckets_are_cumulative_over_all_shards() {
    let exposition = exposition();
    exposition.sources.shards[0].latency.record(100, 2);
    exposition.sources.shards[1].latency.record(900, 3);
    exposition.sources.shards[1].latency.record(9_000_000, 1);
    let text = exposition.render();
    let name = "tidegate_delivery_latency_seconds";
    for line in [
        "_bucket{le=\"0.0001\"} 2",
        "_bucket{le=\"0.0005\"} 2",
        "_bucket{le=\"0.001\"} 5",
        "_bucket{le=\"5\"} 5",
        "_bucket{le=\"+Inf\"} 6",
        "_sum 9.0029",
        "_count 6",
    ] {
        assert!(text.contains(&format!("{name}{line}\n")), "{line} in\n{text}");
    }
}

#[test]
fn the_documents_list_every_metric() {
    let mut expected = String::from("| name | type | unit | meaning |\n| --- | --- | --- | --- |\n");
    for metric in METRICS {
        let unit = metric.unit.as_str();
        expected += &format!("| `{}` | {} | {unit} | {} |\n", metric.name, kind(metric), metric.help);
    }
    let document = include_str!("../../../../docs/metrics.md");
    assert!(document.contains(&expected), "docs/metrics.md must contain this table:\n\n{expected}");
}

fn kind(metric: &Metric) -> &'static str {
    match metric.value {
        Value::ErrorCounter
        | Value::CloseCounter
        | Value::ShardCounter(_)
        | Value::PumpCounter(_)
        | Value::EdgeCounter(_)
        | Value::PresenceCounter(_)
        | Value::DeadLetterCounter(_)
        | Value::ReceiptCounter(_)
        | Value::BreakerCounter(_)
        | Value::HealthCounter(_) => "counter",
        Value::ShardGauge(_)
        | Value::PumpGauge(_)
        | Value::PresenceGauge(_)
        | Value::ReceiptGauge(_)
        | Value::BreakerGauge(_)
        | Value::HealthGauge(_)
        | Value::LagGauge
        | Value::InstanceStateGauge => "gauge",
        Value::ShardHistogram(_) => "histogram",
    }
}
