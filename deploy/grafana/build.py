#!/usr/bin/env python3
"""Writes the four dashboards. `python3 build.py` after a change; a test compares the files with what this writes.

Every query is bound to the variables `job` and `instance`, every rate to $__rate_interval, and every panel to ${datasource}.
"""

import json
import pathlib

FOLDER = pathlib.Path(__file__).parent / "dashboards"
# The gateways that the reader has chosen.
OURS = '{job=~"$job", instance=~"$instance"}'
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, STAT_HEIGHT, PLOT_HEIGHT = 24, 4, 8


def rate(name, by="instance", labels=OURS):
    return f"sum by ({by}) (rate({name}{labels}[$__rate_interval]))"


def total(name, labels=OURS):
    return f"sum(rate({name}{labels}[$__rate_interval]))"


def gauge(name, by="instance"):
    return f"sum by ({by}) ({name}{OURS})"


def quantiles(name):
    buckets = f"sum by (le) (rate({name}_bucket{OURS}[$__rate_interval]))"
    return [(f"histogram_quantile({share}, {buckets})", f"p{round(share * 100)}") for share in (0.5, 0.95, 0.99)]


def plot(title, unit, queries, description="", stacked=False, width=8):
    """Lines over time. `queries` are (expression, legend)."""
    custom = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 20 if stacked else 5,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    options = {"legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}, "tooltip": {"mode": "multi", "sort": "desc"}}
    defaults = {"unit": unit, "min": 0, "custom": custom, "color": {"mode": "palette-classic"}}
    return panel("timeseries", title, description, queries, defaults, options, width, PLOT_HEIGHT)


def stat(title, unit, expression, description="", warn=None, bad=None, below=False, width=4):
    """One number. It turns yellow from `warn` and red from `bad` on, or with `below`, under them."""
    good, steps = "green", []
    if below:
        good, steps = "red", [{"color": "green", "value": bad}]
    else:
        steps = [{"color": color, "value": value} for color, value in (("yellow", warn), ("red", bad)) if value is not None]
    thresholds = {"mode": "absolute", "steps": [{"color": good, "value": None}, *steps]}
    defaults = {"unit": unit, "thresholds": thresholds, "color": {"mode": "thresholds"}}
    options = {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return panel("stat", title, description, [(expression, "")], defaults, options, width, STAT_HEIGHT)


def panel(kind, title, description, queries, defaults, options, width, height):
    targets = [
        {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": expression, "legendFormat": legend, "range": True, "instant": False}
        for index, (expression, legend) in enumerate(queries)
    ]
    shown = {"type": kind, "title": title, "description": description, "datasource": DATASOURCE, "targets": targets}
    return shown | {"fieldConfig": {"defaults": defaults, "overrides": []}, "options": options, "gridPos": {"x": 0, "y": 0, "w": width, "h": height}}


def variable(name, label, query):
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all", "selected": True},
    }


def dashboard(uid, title, description, panels):
    x = y = height = 0
    for number, shown in enumerate(panels, 1):
        shown["id"] = number
        place = shown["gridPos"]
        if x + place["w"] > WIDTH:
            x, y, height = 0, y + height, 0
        place["x"], place["y"] = x, y
        x, height = x + place["w"], max(height, place["h"])
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["tidegate"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1, "current": {"text": "default", "value": "default"}},
                variable("job", "Job", "label_values(tidegate_connections, job)"),
                variable("instance", "Instance", 'label_values(tidegate_connections{job=~"$job"}, instance)'),
            ]
        },
        "annotations": {"list": []},
        "links": [{"title": "Tidegate", "type": "dashboards", "tags": ["tidegate"], "asDropdown": True, "keepTime": True, "includeVars": True, "icon": "external link", "tooltip": "", "url": "", "targetBlank": False}],
        "panels": panels,
    }


SLOW_SHARE = (
    f'1 - sum(rate(tidegate_delivery_latency_seconds_bucket{{le="0.1", job=~"$job", instance=~"$instance"}}[$__rate_interval]))'
    f" / sum(rate(tidegate_delivery_latency_seconds_count{OURS}[$__rate_interval]))"
)
STATES = f"sum by (state) (tidegate_instance_state{OURS})"
UNEVEN = f"max(sum by (instance) (tidegate_connections{OURS})) / avg(sum by (instance) (tidegate_connections{OURS}))"
P99 = quantiles("tidegate_delivery_latency_seconds")[2][0]
REDIS_MEMORY = "redis_memory_used_bytes / (redis_memory_max_bytes > 0)"

DASHBOARDS = [
    dashboard(
        "websocket_overview",
        "Tidegate / WebSocket overview",
        "Whether the fleet is well: connections, deliveries, latency, Redis.",
        [
            stat("Connections", "short", f"sum(tidegate_connections{OURS})"),
            stat("Instances in service", "short", f'sum(tidegate_instance_state{{state="connected", job=~"$job", instance=~"$instance"}})', bad=2, below=True),
            stat("Deliveries per second", "ops", total("tidegate_deliveries_total")),
            stat("Latency p99", "s", P99, "From Redis' clock at publishing to the write to the socket.", warn=0.05, bad=0.1),
            stat("Gaps per second", "ops", total("tidegate_gaps_total"), "Messages that are missing for a client and could not be repaired.", warn=0.1, bad=1),
            stat("Redis memory", "percentunit", f"max({REDIS_MEMORY})", "At 100 % Redis refuses publishes.", warn=0.7, bad=0.8),
            plot("Connections", "short", [(gauge("tidegate_connections"), "{{instance}}")], stacked=True),
            plot("Clients that connect", "ops", [(total("tidegate_upgrades_total"), "WebSocket"), (total("tidegate_event_streams_total"), "event stream"), (total("tidegate_upgrades_refused_total"), "refused")]),
            plot("Instance states", "short", [(STATES, "{{state}}")], "How many instances are in each state.", stacked=True),
            plot("Deliveries", "ops", [(rate("tidegate_deliveries_total"), "{{instance}}")], stacked=True),
            plot("Latency from Redis to the socket", "s", quantiles("tidegate_delivery_latency_seconds")),
            plot("Bytes to clients", "Bps", [(rate("tidegate_sent_bytes_total"), "{{instance}}")], stacked=True),
            plot("Fullest instance, compared with the mean", "short", [(UNEVEN, "max / mean")], "1 is level. Above 1.2, full instances send clients to emptier ones."),
            plot("Loop lag", "s", [(f"max by (instance) (tidegate_loop_lag_seconds{OURS})", "{{instance}}")], "The longest delay of a thread in the last one to two minutes."),
            plot("Redis commands", "ops", [("sum by (instance) (rate(redis_commands_processed_total[$__rate_interval]))", "{{instance}}")]),
            plot("HAProxy: sessions of the gateways", "short", [('sum by (instance) (haproxy_backend_current_sessions{proxy="gateways"})', "{{instance}}")]),
            plot("HAProxy: gateways in service", "short", [('haproxy_backend_active_servers{proxy="gateways"}', "{{instance}}")]),
            plot("Redis memory", "bytes", [("redis_memory_used_bytes", "{{instance}} used"), ("redis_memory_max_bytes > 0", "{{instance}} maxmemory")]),
        ],
    ),
    dashboard(
        "connection_details",
        "Tidegate / Connection details",
        "Who connects, who is refused and why, how far away clients are, and who reads slowly.",
        [
            stat("Connections", "short", f"sum(tidegate_connections{OURS})"),
            stat("Subscriptions", "short", f"sum(tidegate_subscriptions{OURS})"),
            stat("Subscriptions per connection", "short", f"sum(tidegate_subscriptions{OURS}) / (sum(tidegate_connections{OURS}) > 0)"),
            stat("Round trip p95", "s", quantiles("tidegate_client_rtt_seconds")[1][0], "From a ping to the pong of the client.", warn=0.3, bad=1),
            stat("Slow clients", "short", f"sum(tidegate_slow_clients{OURS})", warn=10, bad=100),
            stat("Largest instance", "short", f"max(sum by (instance) (tidegate_connections{OURS}))", "HAProxy sends at most 1,000 connections to one instance.", warn=750, bad=900),
            plot("Connections by instance", "short", [(gauge("tidegate_connections"), "{{instance}}")]),
            plot("Connections by shard", "short", [(gauge("tidegate_connections", "instance, shard"), "{{instance}} / {{shard}}")]),
            plot("Subscriptions by instance", "short", [(gauge("tidegate_subscriptions"), "{{instance}}")]),
            plot("Sockets accepted", "ops", [(rate("tidegate_accepts_total"), "{{instance}}")]),
            plot("Clients that connect, by instance", "ops", [(rate("tidegate_upgrades_total"), "{{instance}} WebSocket"), (rate("tidegate_event_streams_total"), "{{instance}} event stream")]),
            plot(
                "Refused connections, by reason",
                "ops",
                [
                    (total("tidegate_upgrades_full_total"), "instance full"),
                    (total("tidegate_upgrades_throttled_total"), "too fast"),
                    (total("tidegate_upgrades_refused_total"), "error frame"),
                    (total("tidegate_http_refusals_total"), "HTTP status"),
                    (total("tidegate_http_timeouts_total"), "timeout"),
                    (total("tidegate_http_errors_total"), "broken HTTP"),
                    (total("tidegate_tls_errors_total"), "TLS"),
                ],
            ),
            plot("Connections that waited, or were sent on", "ops", [(total("tidegate_upgrades_queued_total"), "waited for connects_per_second"), (total("tidegate_upgrades_diverted_total"), "sent to an emptier instance")]),
            plot("Connections without a token yet", "short", [(gauge("tidegate_unauthenticated_connections"), "{{instance}}")]),
            plot("Unfinished messages of clients", "bytes", [(gauge("tidegate_inbound_bytes"), "{{instance}}")], "Bounded by limits.inbound_bytes_max."),
            plot("Moved clients", "ops", [(rate("tidegate_rebalanced_total"), "{{instance}}"), (total("tidegate_rebalance_pauses_total"), "pauses")], "Clients that full instances sent to emptier ones."),
            plot("Round trip to clients", "s", quantiles("tidegate_client_rtt_seconds"), "One measurement for each connection in limits.ping_interval_ms. Event streams answer no ping."),
            plot("Slow clients", "short", [(gauge("tidegate_slow_clients"), "{{instance}}")], "Clients that read too slowly for live delivery and have not caught up."),
            plot("Data that waits for slow clients", "bytes", [(gauge("tidegate_backlog_bytes"), "{{instance}}")], "Bounded by limits.backlog_bytes_max."),
            plot(
                "What happens to slow clients",
                "ops",
                [
                    (total("tidegate_slow_catch_ups_total"), "caught up"),
                    (total("tidegate_slow_evictions_total"), "evicted"),
                    (total("tidegate_superseded_total"), "superseded"),
                    (total("tidegate_slow_closes_total"), "closed"),
                ],
            ),
            plot("Members in scopes with presence", "short", [(gauge("tidegate_presence_members"), "{{instance}}"), (f"sum(tidegate_presence_scopes_watched{OURS})", "watched scopes")]),
            plot("Joins and leaves", "ops", [(total("tidegate_presence_joined_total"), "joined"), (total("tidegate_presence_left_total"), "left"), (total("tidegate_presence_lists_total"), "lists read")]),
            plot("HAProxy: queue", "short", [('haproxy_backend_current_queue{proxy="gateways"}', "{{instance}}")], "Clients that wait because every gateway has its 1,000 connections."),
        ],
    ),
    dashboard(
        "message_flow",
        "Tidegate / Message flow",
        "The way of messages: published, stored in Redis, received by instances, delivered to clients.",
        [
            stat("Published by clients", "ops", total("tidegate_publishes_total")),
            stat("Received from Redis", "ops", total("tidegate_messages_in_total"), "Summed over instances: a message that three instances have subscribers for counts three times."),
            stat("Delivered", "ops", total("tidegate_deliveries_total")),
            stat("Receivers per message", "short", f"{total('tidegate_deliveries_total')} / ({total('tidegate_messages_in_total')} > 0)", "Receivers on one instance of a message that it received."),
            stat("Deliveries above 100 ms", "percentunit", SLOW_SHARE, "The objective is less than 1 %.", warn=0.005, bad=0.01),
            stat("Scopes", "short", f"sum(tidegate_scopes{OURS})", "Subscriptions of all instances at Redis."),
            plot(
                "Publishes of clients, by outcome",
                "ops",
                [
                    (total("tidegate_publishes_total"), "acknowledged"),
                    (total("tidegate_publish_duplicates_total"), "of these duplicates"),
                    (total("tidegate_local_publishes_total"), "local, without Redis"),
                    (total("tidegate_publish_errors_total"), "failed"),
                    (total("tidegate_publish_unknown_total"), "of these unknown"),
                ],
            ),
            plot("Messages from Redis", "ops", [(rate("tidegate_messages_in_total"), "{{instance}}")]),
            plot("Deliveries", "ops", [(rate("tidegate_deliveries_total"), "{{instance}}")], stacked=True),
            plot("Latency from Redis to the socket", "s", quantiles("tidegate_delivery_latency_seconds"), "Between hosts only as exact as their clocks agree."),
            plot("Latency p99 by instance", "s", [(f"histogram_quantile(0.99, sum by (le, instance) (rate(tidegate_delivery_latency_seconds_bucket{OURS}[$__rate_interval])))", "{{instance}}")]),
            plot("Share of deliveries above 100 ms", "percentunit", [(SLOW_SHARE, "share")], "The objective is less than 1 %."),
            plot("Bytes to clients", "Bps", [(rate("tidegate_sent_bytes_total"), "{{instance}}")], stacked=True),
            plot("Deliveries per write", "short", [(f"{rate('tidegate_deliveries_total')} / ({rate('tidegate_writes_total')} > 0)", "{{instance}}")], "A busy instance puts many messages into one write."),
            plot("Frames from clients", "ops", [(rate("tidegate_frames_in_total"), "{{instance}}")]),
            plot("Reads of history, and repairs", "ops", [(total("tidegate_history_reads_total"), "reads"), (total("tidegate_repaired_total"), "messages repaired"), (total("tidegate_check_repaired_total"), "of these by comparison")]),
            plot("Comparisons with Redis", "ops", [(total("tidegate_checks_total"), "scopes compared"), (total("tidegate_check_holes_total"), "holes found")]),
            plot("Superseded messages", "ops", [(rate("tidegate_superseded_total"), "{{instance}}")], "Messages of families with on_slow = latest that a slow client did not need."),
            plot("Receipts", "ops", [(total("tidegate_receipts_total"), "accepted"), (total("tidegate_receipts_written_total"), "written"), (total("tidegate_receipts_dropped_total"), "dropped")]),
            plot("Receipts that wait", "short", [(gauge("tidegate_receipts_waiting"), "{{instance}}")]),
            plot("Redis: traffic", "Bps", [("sum by (instance) (rate(redis_net_input_bytes_total[$__rate_interval]))", "{{instance}} in"), ("sum by (instance) (rate(redis_net_output_bytes_total[$__rate_interval]))", "{{instance}} out")]),
        ],
    ),
    dashboard(
        "error_analysis",
        "Tidegate / Error analysis",
        "What goes wrong: gaps, failures by reason, Redis, leases, threads, HAProxy, and the budgets of the objectives.",
        [
            stat("Error frames per second", "ops", total("tidegate_errors_total"), warn=1, bad=10),
            stat("Gaps per second", "ops", total("tidegate_gaps_total"), warn=0.1, bad=1),
            stat("Failed messages", "percentunit", 'max(job:tidegate_message_failures:ratio_rate5m{job=~"$job"})', "Of all messages, in five minutes.", warn=0.005, bad=0.01),
            stat("Budget: availability", "short", 'max(job:tidegate_unavailability:ratio_rate1h{job=~"$job"}) / 0.001', "Burn rate of the last hour. 1 uses the month's budget up in a month.", warn=1, bad=6),
            stat("Budget: latency", "short", 'max(job:tidegate_slow_deliveries:ratio_rate1h{job=~"$job"}) / 0.01', "Burn rate of the last hour.", warn=1, bad=6),
            stat("Dead letters in an hour", "short", f"sum(increase(tidegate_dead_letters_total{OURS}[1h]))", warn=1, bad=100),
            plot("Error frames, by code", "ops", [(rate("tidegate_errors_total", "code"), "{{code}}")]),
            plot("Closed connections, by code", "ops", [(rate("tidegate_closes_total", "code"), "{{code}}")]),
            plot("Gaps", "ops", [(rate("tidegate_gaps_total"), "{{instance}}"), (total("tidegate_scope_gaps_total"), "holes in scopes")], "Holes in scopes are losses of Redis; the others are clients that were away for too long."),
            plot("Failed publishes", "ops", [(rate("tidegate_publish_errors_total"), "{{instance}}"), (total("tidegate_publish_unknown_total"), "unknown")]),
            plot("Messages that no gateway can deliver", "ops", [(rate("tidegate_messages_bad_total"), "{{instance}}")]),
            plot("Dead letters", "ops", [(total("tidegate_dead_letters_total"), "stored"), (total("tidegate_dead_letters_known_total"), "known before"), (total("tidegate_dead_letters_dropped_total"), "dropped")]),
            plot("Refused and broken connections", "ops", [(total("tidegate_upgrades_refused_total"), "refused"), (total("tidegate_http_refusals_total"), "HTTP status"), (total("tidegate_http_errors_total"), "broken HTTP"), (total("tidegate_http_timeouts_total"), "timeout"), (total("tidegate_tls_errors_total"), "TLS"), (total("tidegate_accept_errors_total"), "no descriptor")]),
            plot("Link to Redis", "short", [(f"min by (instance) (tidegate_broker_up{OURS})", "{{instance}}")], "1 while messages travel to Redis and back."),
            plot("Lost links and subscriptions", "ops", [(total("tidegate_broker_downs_total"), "links"), (total("tidegate_subscriptions_lost_total"), "subscriptions")]),
            plot("Breakers", "short", [(f"sum by (calls) (tidegate_breakers_open{OURS})", "{{calls}} open"), (f"sum by (calls) (rate(tidegate_breaker_refusals_total{OURS}[$__rate_interval]))", "{{calls}} refused per second")]),
            plot("Leases held", "short", [(f"sum by (instance) (tidegate_lease_held{OURS})", "{{instance}}")]),
            plot("Fences, opened breakers and resyncs of presence", "ops", [(total("tidegate_fences_total"), "fences"), (total("tidegate_breaker_opens_total"), "breakers"), (total("tidegate_presence_resyncs_total"), "resyncs")]),
            plot("Messages that did not end in time, or were evicted", "ops", [(total("tidegate_message_timeouts_total"), "timeout"), (total("tidegate_inbound_evictions_total"), "evicted"), (total("tidegate_unauthenticated_evictions_total"), "without a token")]),
            plot("Draining", "short", [(gauge("tidegate_draining"), "{{instance}}")]),
            plot("Loop lag by thread", "s", [(f"max by (loop) (tidegate_loop_lag_seconds{OURS})", "{{loop}}")]),
            plot("Burn rates", "short", [('job:tidegate_unavailability:ratio_rate1h{job=~"$job"} / 0.001', "availability"), ('job:tidegate_slow_deliveries:ratio_rate1h{job=~"$job"} / 0.01', "latency")]),
            plot("HAProxy: errors", "ops", [('sum(rate(haproxy_backend_connection_errors_total{proxy="gateways"}[$__rate_interval]))', "connections"), ('sum(rate(haproxy_backend_retry_warnings_total{proxy="gateways"}[$__rate_interval]))', "retries"), ('sum(rate(haproxy_backend_redispatch_warnings_total{proxy="gateways"}[$__rate_interval]))', "redispatches"), ('sum(rate(haproxy_backend_http_responses_total{proxy="gateways", code="5xx"}[$__rate_interval]))', "5xx")]),
            plot("Redis: trouble", "ops", [("sum(rate(redis_rejected_connections_total[$__rate_interval]))", "rejected connections"), ("sum(rate(redis_evicted_keys_total[$__rate_interval]))", "evicted keys")]),
        ],
    ),
]


def text(shown):
    return json.dumps(shown, indent=2) + "\n"


if __name__ == "__main__":
    for shown in DASHBOARDS:
        (FOLDER / f"{shown['uid']}.json").write_text(text(shown))
