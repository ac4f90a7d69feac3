"""Observes a live cluster (fleet.json of `cargo xtask observe`): every panel has data, nothing fires while all is well, and
each fault fires its alerts, up to Alertmanager's webhook, which resolve afterwards."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import autoscalers
import panels
import yaml
from load import Load, publish, redis
from servers import ROOT, Servers

WITHIN_S = 60
# registry.reap_ms, after which the others have removed a silent instance.
LEASE_S = 9
PAUSE_S = 3.5

# Alerts that no fault of this run fires, and why. promtool fires them on series.
NOT_FIRED = {
    "silent_starvation": "it needs a Redis that drops a message and keeps the connection; `cargo xtask chaos` has it",
    "receipts_dropped": "it needs receipts of 65,536 users",
    "dead_letters_dropped": "it needs 4 MiB of dead letters while Redis is away",
    "redis_evicts": "gateways refuse to work with a Redis that evicts",
    "haproxy_queue": "it needs 3,000 connections",
}


def eventually(what, holds, within_s=WITHIN_S):
    deadline = time.monotonic() + within_s
    while True:
        missing = holds()
        if not missing:
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {within_s} s until {what}: {missing}")
        time.sleep(0.5)


class Faults:
    def __init__(self, fleet, load):
        self.fleet, self.load = fleet, load

    @contextlib.contextmanager
    def stopped(self, *names):
        until = time.monotonic() + LEASE_S
        for name in names:
            os.kill(self.fleet["pids"][name], signal.SIGSTOP)
        try:
            yield
            # Longer than a lease, so that an instance must begin again.
            time.sleep(max(0, until - time.monotonic()))
        finally:
            for name in names:
                os.kill(self.fleet["pids"][name], signal.SIGCONT)

    @contextlib.contextmanager
    def paused(self):
        """Every gateway stops for less than its lease, and delivers late what came meanwhile."""
        pids = [self.fleet["pids"][name] for name in ("gateway1", "gateway2", "gateway3")]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        until = time.monotonic() + PAUSE_S
        while time.monotonic() < until:
            publish(self.fleet["redis"], "news", json.dumps({"type": "note", "payload": {}}))
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        yield

    @contextlib.contextmanager
    def full_redis(self):
        """What Redis uses goes up and down; maxmemory follows it, so that Redis stays nine tenths full."""
        done = threading.Event()

        def follow():
            while not done.wait(0.2):
                used = next(int(line.split(":")[1]) for line in self.info().split("\n") if line.startswith("used_memory:"))
                redis(self.fleet["redis"], "CONFIG", "SET", "maxmemory", int(used / 0.9))

        follower = threading.Thread(target=follow)
        follower.start()
        yield
        done.set()
        follower.join()
        redis(self.fleet["redis"], "CONFIG", "SET", "maxmemory", "512mb")

    def info(self):
        host, port = self.fleet["redis"].rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=5) as it:
            it.sendall(b"INFO memory\r\n")
            return it.recv(65536).decode().replace("\r", "")

    @contextlib.contextmanager
    def poison(self):
        for _ in range(400):
            # tidegate_publish would refuse it.
            publish(self.fleet["redis"], "news", "{not JSON", function="tidegate_relay")
        yield

    @contextlib.contextmanager
    def cut_links(self):
        for _ in range(6):
            redis(self.fleet["redis"], "CLIENT", "KILL", "TYPE", "pubsub")
            time.sleep(1.5)  # A link is cut again after it has come back.
        yield

    @contextlib.contextmanager
    def crowd(self):
        self.load.gather(self.fleet["gateways"][0]["clients"], 1_050)
        yield
        self.load.leave()

    @contextlib.contextmanager
    def no_descriptors(self):
        pid = self.fleet["pids"]["gateway1"]
        limit = subprocess.run(["prlimit", f"--pid={pid}", "--nofile", "--raw", "--noheadings", "--output=SOFT,HARD"], capture_output=True, text=True, check=True)
        subprocess.run(["prlimit", f"--pid={pid}", "--nofile=10:"], check=True)
        with contextlib.suppress(OSError):
            self.load.token("nobody", self.fleet["gateways"][0]["clients"])
        subprocess.run(["prlimit", f"--pid={pid}", f"--nofile={':'.join(limit.stdout.split())}"], check=True)
        yield

    @contextlib.contextmanager
    def idle_clients(self):
        self.load.stop_reading(self.fleet["gateways"][1]["clients"], 8)
        message = json.dumps({"type": "flood", "payload": "x" * 500_000})
        for _ in range(60):
            publish(self.fleet["redis"], "flood", message)
        yield
        self.load.leave()

    @contextlib.contextmanager
    def erased(self):
        redis(self.fleet["redis"], "FLUSHALL")
        yield

    @contextlib.contextmanager
    def drained(self):
        """The drain waits for clients that do not answer its close frames."""
        self.load.stop_reading(self.fleet["gateways"][1]["clients"], 3)
        os.kill(self.fleet["pids"]["gateway2"], signal.SIGTERM)
        yield


def faults(it):
    """Each fault with the alerts that it must fire."""
    yield "gateway3 is frozen", it.stopped("gateway3"), {"instance_unhealthy"}
    yield "gateway3 has been frozen", contextlib.nullcontext(), {"instance_fenced", "loop_lag_high"}
    yield "two gateways are frozen", it.stopped("gateway2", "gateway3"), {"haproxy_few_servers"}
    yield "every gateway pauses", it.paused(), {"latency_budget_burns_fast", "latency_budget_burns_slowly"}
    yield "Redis is frozen", it.stopped("redis"), {"redis_down", "redis_breaker_open", "availability_budget_burns_fast", "availability_budget_burns_slowly"}
    yield "Redis is nearly full", it.full_redis(), {"redis_memory_high"}
    yield "a publisher writes no JSON", it.poison(), {"dead_letters", "message_delivery_failure"}
    yield "links to Redis are cut", it.cut_links(), {"redis_link_unstable"}
    yield "a crowd comes to gateway1", it.crowd(), {"high_connection_count", "uneven_instances", "connections_refused"}
    yield "gateway1 has no descriptors", it.no_descriptors(), {"accept_errors"}
    yield "clients do not read", it.idle_clients(), {"slow_clients"}
    yield "Redis is erased", it.erased(), {"messages_lost", "gap_rate_high"}
    yield "gateway2 drains", it.drained(), {"drain_stuck"}


# What the test command tries: about a minute. `cargo xtask observe` tries all.
SHORT = {"gateway3 is frozen", "gateway3 has been frozen", "a publisher writes no JSON", "gateway2 drains"}


def shipped_alerts():
    files = (ROOT / "deploy/prometheus/rules").glob("*.yml")
    groups = (group for file in files for group in yaml.safe_load(file.read_text())["groups"])
    return {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}


def observe(fleet, servers, load, is_short):
    eventually("Prometheus has every target", lambda: [it["labels"] for it in targets(servers) if it["health"] != "up"] or len(targets(servers)) != 5)
    redis(fleet["redis"], "CONFIG", "SET", "maxmemory", "512mb")
    eventually("the variables of the dashboards have values", lambda: not panels.variables_have_values(servers))
    eventually("every panel has data", lambda: panels.without_data(servers))
    print(f"ok: all {len(list(panels.queries()))} queries of the dashboards have data", flush=True)
    eventually("both autoscalers see every connection", lambda: not autoscalers.agree(servers))
    print("ok: the queries of prometheus-adapter and KEDA see every connection", flush=True)
    quiet_until = time.monotonic() + 10
    while time.monotonic() < quiet_until:
        if servers.firing():
            raise SystemExit(f"all is well, and there is an alert: {servers.firing()}")
        time.sleep(0.5)
    print("ok: no alert while all is well", flush=True)
    planned = list(faults(Faults(fleet, load)))
    if missing := shipped_alerts() - NOT_FIRED.keys() - {alert for _, _, expected in planned for alert in expected}:
        raise SystemExit(f"no fault is meant to fire {missing}")
    for name, fault, expected in planned:
        if is_short and name not in SHORT:
            continue
        # What an earlier fault has fired proves nothing about this one.
        eventually(f"alerts of earlier faults resolve before: {name}", lambda: expected & servers.webhook.unresolved())
        before, started = len(servers.webhook.received), time.monotonic()
        with fault:
            eventually(f"alerts fire: {name}", lambda: expected - servers.webhook.fired(before))
        print(f"ok: {name}: {', '.join(sorted(expected))} after {time.monotonic() - started:.1f} s", flush=True)
    # gateway2 has ended, so its alert stays.
    eventually("alerts resolve", lambda: servers.webhook.unresolved() - {"instance_unhealthy"}, within_s=120)
    print("ok: every alert has been resolved, but the one of the gateway that ended", flush=True)
    if not is_short:
        for name, why in NOT_FIRED.items():
            print(f"not fired here: {name}: {why}")


def targets(servers):
    try:
        return servers.ask("targets", state="active")["activeTargets"]
    except OSError:
        return []


def main():
    description = pathlib.Path(sys.argv[1])
    fleet = json.loads(description.read_text())
    servers, load = Servers(fleet, description.parent / "servers"), Load(fleet)
    try:
        load.start()
        observe(fleet, servers, load, "--short" in sys.argv)
    finally:
        load.end()
        servers.end()


if __name__ == "__main__":
    main()
