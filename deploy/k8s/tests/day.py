"""A day of the fleet, replayed against the model of the autoscaler: a storm at nine, an instance lost at half past ten, a
rolling update at noon, a lunch break, a network that is away for four minutes at three, and an evening.

`python day.py` writes the plots of docs/scaling.md.
"""

import math
import pathlib
import random
import sys
from dataclasses import dataclass

import plot
from hpa import Autoscaler, Metric
from manifests import ROOT, build
from rules import drain_grace_s, pre_stop_s, scaled, scaling
from manifests import one, pod

SECOND, MINUTE, HOUR = 1, 60, 3600
SYNC_S = 15
# A scrape is up to 15 s old, and the adapter keeps what it has read for some seconds.
METRIC_AGE_S = 25
# From the decision to a pod that takes clients: the image is on the node, a gateway is ready after 0.3 s, the kubelet asks
# every second, and HAProxy finds the address within 5 s.
START_S = 10
# Sockets of one gateway in haproxy.cfg.
POD_MAX = 1000
# rebalance.per_second, tolerance_percent and surplus_min.
MOVED_PER_S, TOLERANCE, SURPLUS = 100, 0.2, 50
# Memory of a gateway: its start, and what a connection of this fleet needs with its messages.
POD_BYTES, CONNECTION_BYTES, REQUEST_BYTES = 60e6, 40e3, 4 * 2**30


@dataclass
class Pod:
    name: int
    ready_at: float
    clients: float = 0
    # When its drain began, or None.
    leaving_at: float | None = None

    def serves(self, now):
        return now >= self.ready_at and self.leaving_at is None


def clients_of_a_day(now):
    """How many clients want to be connected."""
    points = [(0, 600), (6, 700), (8.9, 1_400), (9, 1_450), (9 + 4 / 60, 6_500), (10, 7_400), (12.4, 7_200)]
    points += [(12.8, 5_000), (13.3, 5_100), (13.7, 7_300)]
    points += [(15, 7_200), (15 + 1 / 120, 3_600), (15 + 4 / 60, 3_600), (15 + 5 / 60, 7_100), (16.5, 7_000), (18.5, 3_000), (20, 1_600), (24, 700)]
    hour = now / HOUR
    for (start, low), (end, high) in zip(points, points[1:]):
        if start <= hour <= end:
            return low + (high - low) * (hour - start) / (end - start)
    return points[-1][1]


class Fleet:
    """Gateways behind HAProxy. Numbers of clients are real numbers: it is the load that counts, not the single client."""

    def __init__(self, autoscaler, target, memory, drain_s, settle_s, seed=1):
        self.autoscaler, self.target, self.memory = autoscaler, target, memory
        self.drain_s, self.settle_s, self.random = drain_s, settle_s, random.Random(seed)
        self.pods, self.names, self.wanted = [], 0, autoscaler.least
        self.seen, self.update_at, self.outdated = [], None, set()
        self.rows, self.changes = [], []
        for _ in range(self.wanted):
            self.add(-START_S)
        self.waiting = 0.0

    def add(self, now):
        self.names += 1
        self.pods.append(Pod(self.names, now + START_S))

    def run(self, until, clients, lost_at=(), update_at=()):
        for now in range(int(until)):
            if now in lost_at:
                victim = max((it for it in self.pods if it.serves(now)), key=lambda it: it.clients)
                self.pods.remove(victim)
            if now in update_at:
                self.outdated, self.update_at = {it.name for it in self.pods}, now
            self.step(now, clients(now) * self.random.gauss(1, 0.002))
        return self

    def step(self, now, clients):
        self.leave(now)
        self.keep_count(now)
        self.connect(now, clients)
        self.rebalance(now)
        self.seen.append({it.name: it.clients for it in self.pods if it.leaving_at is None and now >= it.ready_at})
        if now % SYNC_S == 0:
            self.scale(now)
        serving = [it.clients for it in self.pods if it.serves(now)]
        self.rows.append((now, clients, len(serving), max(serving, default=0), self.waiting))

    def leave(self, now):
        """A draining pod gives up its clients evenly, and is gone at the end."""
        for it in self.pods:
            if it.leaving_at is not None:
                it.clients *= max(0, 1 - 1 / max(1, it.leaving_at + self.drain_s - now))
        self.pods = [it for it in self.pods if it.leaving_at is None or now < it.leaving_at + self.drain_s]

    def keep_count(self, now):
        """What the Deployment does: a pod is added at once and removed one after the other during an update."""
        staying = [it for it in self.pods if it.leaving_at is None]
        old = [it for it in staying if it.name in self.outdated]
        surge = 1 if old else 0
        for _ in range(self.wanted + surge - len(staying)):
            self.add(now)
        available = [it for it in staying if now >= it.ready_at + self.settle_s]
        if old and len(available) > self.wanted:
            old[0].leaving_at = now
        elif not old:
            # ReplicaSets remove the youngest pod first.
            for it in sorted(staying, key=lambda it: -it.ready_at)[: max(0, len(staying) - self.wanted)]:
                it.leaving_at = now

    def connect(self, now, clients):
        """Clients that came go to the emptiest pod; clients that went leave all pods alike."""
        serving = [it for it in self.pods if it.serves(now)]
        held = sum(it.clients for it in self.pods)
        if clients < held:
            for it in self.pods:
                it.clients *= clients / held
        new = max(0.0, clients - held)
        while new > 1e-9 and serving:
            emptiest = min(serving, key=lambda it: it.clients)
            room = POD_MAX - emptiest.clients
            if room <= 1e-9:
                break
            share = min(new, room, max(1.0, new / len(serving)))
            emptiest.clients += share
            new -= share
        self.waiting = new

    def rebalance(self, now):
        serving = [it for it in self.pods if it.serves(now)]
        if not serving or any(it.leaving_at is not None for it in self.pods):
            return
        mean = sum(it.clients for it in serving) / len(serving)
        for it in serving:
            if it.clients > mean * (1 + TOLERANCE) and it.clients > mean + SURPLUS:
                moved = min(MOVED_PER_S, it.clients - mean * (1 + TOLERANCE / 2))
                it.clients -= moved
                below = [other for other in serving if other.clients < mean]
                for other in below:
                    other.clients += moved / len(below)

    def scale(self, now):
        staying = [it for it in self.pods if it.leaving_at is None]
        names = {it.name for it in staying}
        old = self.seen[max(0, len(self.seen) - METRIC_AGE_S)]
        values = {name: value for name, value in old.items() if name in names}
        pending = {it.name for it in staying if now < it.ready_at}
        missing = names - values.keys() - pending
        memory = {name: (POD_BYTES + CONNECTION_BYTES * value) / REQUEST_BYTES * 100 for name, value in values.items()}
        metrics = [Metric(self.target, values, pending, missing), Metric(self.memory, memory, pending, missing)]
        before, self.wanted = self.wanted, self.autoscaler.sync(now, self.wanted, metrics)
        if self.wanted != before:
            self.changes.append((now, before, self.wanted))


def shipped(**changes):
    """A fleet with the shipped settings, and changes of the autoscaler's behaviour."""
    items = build("base")
    (item, target), = scaled(items)
    least, most, connections, memory, behavior = scaling(item)
    for key, value in changes.items():
        behavior[key] = behavior[key] | value
    deployment = one(items, "Deployment", target)
    # A drain gives up all clients within drain.window_ms; preStop keeps them for its time.
    drain_s = pre_stop_s(pod(deployment)["containers"][0]) + drain_grace_s(items)
    autoscaler = Autoscaler(least, most, behavior)
    return Fleet(autoscaler, connections, memory, drain_s, deployment["spec"]["minReadySeconds"])


def replay(fleet):
    return fleet.run(24 * HOUR, clients_of_a_day, lost_at={int(10.5 * HOUR)}, update_at={12 * HOUR})


def storm(fleet, per_second, clients=6_000):
    """`clients` more within one storm, on the fleet's least number of pods, each at its target."""
    first = 10 * MINUTE
    base = fleet.autoscaler.least * fleet.target * 0.9
    return fleet.run(40 * MINUTE, lambda now: base + min(clients, max(0, now - first) * per_second))


def reversals(fleet, within_s=math.inf):
    """How often the fleet turned from growing to shrinking or back, within this time of the change before."""
    pairs = zip(fleet.changes, fleet.changes[1:])
    return sum((a[2] > a[1]) != (b[2] > b[1]) and b[0] - a[0] < within_s for a, b in pairs)


def full_s(fleet):
    """For how many seconds some client found every pod full."""
    return sum(row[4] > 1 for row in fleet.rows)


def main():
    fleet = replay(shipped())
    folder = ROOT / "docs/scaling"
    folder.mkdir(exist_ok=True)
    (folder / "day.svg").write_text(plot.day(fleet.rows, fleet.changes))
    for now, before, after in fleet.changes:
        print(f"{now // HOUR:02}:{now % HOUR // 60:02}:{now % 60:02}  {before} -> {after}")


if __name__ == "__main__":
    main()
