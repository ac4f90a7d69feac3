"""For every alert: series on which it fires, and series on which it stays quiet although they are close.

Series are in promtool's notation, a value every 15 s: `0+3x40` grows by 3 forty times, `7x40` stays. Cases of many hours have
a value every four minutes, so that they take seconds.
"""

from dataclasses import dataclass, field

A = 'job="tidegate",instance="gw-1:9090"'
B = 'job="tidegate",instance="gw-2:9090"'
C = 'job="tidegate",instance="gw-3:9090"'
ONE = {"job": "tidegate", "instance": "gw-1:9090"}
LONG = "26h"
JOB = {"job": "tidegate"}
REDIS = {"job": "redis", "instance": "redis-1:9121"}
HAPROXY = {"job": "haproxy", "instance": "lb-1:8404", "proxy": "gateways"}


@dataclass
class Case:
    alert: str
    # Labels of the alert that fires, beside its name and severity.
    labels: dict
    fires: dict
    quiet: list = field(default_factory=list)
    at: str = "10m"

    def step(self):
        return "4m" if self.at == LONG else "15s"


def connections(*counts, shards=1):
    """tidegate_connections of up to three instances."""
    return {
        f'tidegate_connections{{{instance},shard="{shard}"}}': f"{count // shards}x200"
        for instance, count in zip((A, B, C), counts)
        for shard in range(shards)
    }


def counter(name, values, instance=A):
    return {f"{name}{{{instance}}}": values}


def per_shard(name, values):
    return {f'{name}{{{A},shard="0"}}': values}


def state(values, name="isolated", instance=A):
    return {f'tidegate_instance_state{{{instance},state="{name}"}}': values}


def traffic(published, failed=0, received=0):
    """Counters of one instance, each by this much in 15 s."""
    rates = {"publishes": published, "publish_errors": failed, "messages_in": received, "messages_bad": 0}
    return {f"tidegate_{name}_total{{{A}}}": f"0+{rate}x200" for name, rate in rates.items()}


def values(hours):
    return hours * 15 if hours > 1 else 240


def clients(served, full=0, throttled=0, failed=0, hours=1):
    """Counters of what clients ask for, each by this much in 15 s, over this time."""
    count = values(hours)
    rates = {"upgrades": served, "event_streams": 0, "upgrades_full": full, "upgrades_throttled": throttled}
    rates |= {"http_timeouts": 0, "publishes": 0, "publish_errors": failed}
    return {f"tidegate_{name}_total{{{A}}}": f"0+{rate}x{count}" for name, rate in rates.items()}


def latency(fast, all_, hours=1):
    name, count = "tidegate_delivery_latency_seconds", values(hours)
    return {f'{name}_bucket{{{A},le="0.1"}}': f"0+{fast}x{count}", f"{name}_count{{{A}}}": f"0+{all_}x{count}"}


CASES = [
    Case("instance_unhealthy", ONE, {f"up{{{A}}}": "1x8 0x60"}, [{f"up{{{A}}}": "1x8 0x2 1x60"}, {'up{job="other",instance="x"}': "0x60"}]),
    Case("instance_unhealthy", ONE, state("1x60"), [state("0x20 1x2 0x40"), state("1x60", "draining"), state("1x60", "connected")]),
    Case("instance_unhealthy", ONE, state("1x60", "lease_lost"), [state("1x60", "starting")]),
    Case("instance_unhealthy", ONE, state("1x60", "connecting"), [state("1x60", "terminating")]),
    Case("instance_unhealthy", ONE, state("1x60", "frozen") | {f"up{{{A}}}": "1x60"}),
    # Three shards together are above the limit, none of them alone.
    Case("high_connection_count", ONE, connections(903, shards=3), [connections(900, 900, 900), {f'tidegate_connections{{{A},shard="0"}}': "100x34 950x3 100x60"}]),
    Case("connections_refused", ONE, counter("tidegate_upgrades_full_total", "0+20x60") | counter("tidegate_upgrades_throttled_total", "0x60"),
         [counter("tidegate_upgrades_full_total", "0+10x60") | counter("tidegate_upgrades_throttled_total", "0+4x60")]),
    Case("connections_refused", ONE, counter("tidegate_upgrades_full_total", "0x60") | counter("tidegate_upgrades_throttled_total", "0+40x60")),
    Case("accept_errors", ONE, counter("tidegate_accept_errors_total", "0x36 1x60"), [counter("tidegate_accept_errors_total", "7x60")]),
    Case("loop_lag_high", ONE, {f'tidegate_loop_lag_seconds{{{A},loop="shard 0"}}': "0.01x60", f'tidegate_loop_lag_seconds{{{A},loop="pump"}}': "0.3x60"},
         [{f'tidegate_loop_lag_seconds{{{A},loop="pump"}}': "0.2x60"}, {f'tidegate_loop_lag_seconds{{{A},loop="pump"}}': "0.01x30 0.9x8 0.01x60"}]),
    Case("drain_stuck", ONE, counter("tidegate_draining", "0x8 1x60"), [counter("tidegate_draining", "0x34 1x6"), counter("tidegate_draining", "0x60")]),
    Case("instance_fenced", ONE, counter("tidegate_fences_total", "0x20 1x60"), [counter("tidegate_fences_total", "2x60")]),
    Case("uneven_instances", JOB, connections(900, 100, 100), [connections(500, 400, 300), connections(90, 10, 10)], at="30m"),
    Case("message_delivery_failure", JOB, traffic(100, failed=2), [traffic(100, failed=1, received=100), traffic(0), traffic(100)]),
    Case("message_delivery_failure", JOB, traffic(0, received=100) | counter("tidegate_messages_bad_total", "0+5x200"), [traffic(0, received=100)]),
    Case("messages_lost", ONE, counter("tidegate_scope_gaps_total", "0x20 1x60"), [counter("tidegate_scope_gaps_total", "3x60")]),
    Case("gap_rate_high", JOB, clients(100) | per_shard("tidegate_gaps_total", "0+6x240"), [clients(100) | per_shard("tidegate_gaps_total", "0+4x240")], at="30m"),
    Case("silent_starvation", ONE, counter("tidegate_check_repaired_total", "0x30 2x60"), [counter("tidegate_check_repaired_total", "2x60")]),
    Case("dead_letters", ONE, counter("tidegate_dead_letters_total", "0x30 1x60"), [counter("tidegate_dead_letters_total", "9x60"), counter("tidegate_dead_letters_known_total", "0+1x60")]),
    Case("dead_letters_dropped", ONE, counter("tidegate_dead_letters_dropped_total", "0x30 1x60"), [counter("tidegate_dead_letters_dropped_total", "4x60")]),
    Case("receipts_dropped", ONE, counter("tidegate_receipts_dropped_total", "0x30 1x60"), [counter("tidegate_receipts_dropped_total", "4x60")]),
    Case("slow_clients", JOB, connections(300, 300) | per_shard("tidegate_slow_clients", "60x200"), [connections(300, 300) | per_shard("tidegate_slow_clients", "20x200")], at="15m"),
    Case("redis_down", REDIS, {'redis_up{job="redis",instance="redis-1:9121"}': "1x30 0x60"}, [{'redis_up{job="redis",instance="redis-1:9121"}': "1x37 0x1 1x60"}]),
    Case("redis_down", REDIS, {'up{job="redis",instance="redis-1:9121"}': "1x30 0x60"}, [{'up{job="haproxy",instance="x"}': "0x60"}]),
    Case("redis_memory_high", REDIS,
         {'redis_memory_used_bytes{job="redis",instance="redis-1:9121"}': "850x60", 'redis_memory_max_bytes{job="redis",instance="redis-1:9121"}': "1000x60"},
         [{'redis_memory_used_bytes{job="redis",instance="redis-1:9121"}': "790x60", 'redis_memory_max_bytes{job="redis",instance="redis-1:9121"}': "1000x60"},
          # No limit is set.
          {'redis_memory_used_bytes{job="redis",instance="redis-1:9121"}': "850x60", 'redis_memory_max_bytes{job="redis",instance="redis-1:9121"}': "0x60"}]),
    Case("redis_evicts", REDIS, {'redis_evicted_keys_total{job="redis",instance="redis-1:9121"}': "0x30 5x60"}, [{'redis_evicted_keys_total{job="redis",instance="redis-1:9121"}': "5x60"}]),
    Case("redis_link_unstable", ONE, counter("tidegate_broker_downs_total", "0x8 1x8 2x8 3x8 5x60"), [counter("tidegate_broker_downs_total", "0x20 1x60")]),
    Case("redis_breaker_open", ONE, {f'tidegate_breakers_open{{{A},calls="registry"}}': "0x60", f'tidegate_breakers_open{{{A},calls="wakeup"}}': "1x60"},
         [{f'tidegate_breakers_open{{{A},calls="registry"}}': "0x30 1x2 0x60"}]),
    Case("haproxy_few_servers", HAPROXY, {'haproxy_backend_active_servers{job="haproxy",instance="lb-1:8404",proxy="gateways"}': "3x8 1x60"},
         [{'haproxy_backend_active_servers{job="haproxy",instance="lb-1:8404",proxy="gateways"}': "2x60"}, {'haproxy_backend_active_servers{job="haproxy",instance="x",proxy="other"}': "1x60"}]),
    Case("haproxy_queue", HAPROXY, {'haproxy_backend_current_queue{job="haproxy",instance="lb-1:8404",proxy="gateways"}': "0x8 3 0 5 0x2 1x60"},
         [{'haproxy_backend_current_queue{job="haproxy",instance="lb-1:8404",proxy="gateways"}': "0x34 4 0x60"}]),
    # 2 % are refused: twenty times the budget.
    Case("availability_budget_burns_fast", JOB, clients(100, full=1, throttled=1), [clients(1000, full=1)], at="1h"),
    # A short outage that is over: the long window remembers it, the short one does not.
    Case("availability_budget_burns_fast", JOB, clients(100, failed=2), [clients(100) | {f"tidegate_publish_errors_total{{{A}}}": "0+40x100 4000x140"}], at="1h"),
    Case("availability_budget_burns_slowly", JOB, clients(1000, full=4, hours=26), [clients(10_000, full=5, hours=26)], at=LONG),
    Case("latency_budget_burns_fast", JOB, latency(80, 100), [latency(97, 100), latency(0, 0)], at="1h"),
    Case("latency_budget_burns_slowly", JOB, latency(96, 100, hours=26), [latency(995, 1000, hours=26)], at=LONG),
]
