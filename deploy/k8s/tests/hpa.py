"""A model of the HorizontalPodAutoscaler: its controller's decision, from what it sees at one moment.

It follows Kubernetes 1.37 (pkg/controller/podautoscaler: replica_calculator.go, horizontal.go) for `Pods` metrics,
`Resource` metrics and `behavior`.
"""

import math
from dataclasses import dataclass, field

TOLERANCE = 0.1


@dataclass
class Metric:
    """What the controller knows of one metric: a value for each pod that has one, beside the pods that it counts."""

    target: float
    # None: the metrics API gave an error, or no pod has a value.
    values: dict | None
    # Pods that are not being deleted. A pending pod has not started; a missing one runs and has no value.
    pending: set = field(default_factory=set)
    missing: set = field(default_factory=set)

    def replicas(self, current):
        """How many pods this metric asks for, or None if it cannot say."""
        values = {pod: value for pod, value in (self.values or {}).items() if pod not in self.pending}
        if not values:
            return None
        ratio = sum(values.values()) / len(values) / self.target
        scales_up_pending = bool(self.pending) and ratio > 1
        if not scales_up_pending and not self.missing:
            return current if within(ratio) else math.ceil(ratio * len(values))
        # Pods without a value count against the direction: at the target when scaling down, at 0 when scaling up.
        values |= {pod: self.target if ratio < 1 else 0 for pod in self.missing}
        if scales_up_pending:
            values |= {pod: 0 for pod in self.pending}
        after = sum(values.values()) / len(values) / self.target
        if within(after) or (ratio < 1) != (after < 1):
            return current
        wanted = math.ceil(after * len(values))
        return current if (after < 1) == (wanted > current) else wanted


def within(ratio):
    return 1 - TOLERANCE <= ratio <= 1 + TOLERANCE


class Autoscaler:
    """The state that the controller keeps between two syncs."""

    def __init__(self, least, most, behavior):
        self.least, self.most, self.behavior = least, most, behavior
        self.recommendations, self.events = [], []

    def sync(self, now, current, metrics):
        """The number of pods from `now` on."""
        wanted = self.decide(now, current, metrics)
        if wanted != current:
            self.events.append((now, wanted - current))
        return wanted

    def decide(self, now, current, metrics):
        if current < self.least or current > self.most:
            return min(max(current, self.least), self.most)
        answers = [metric.replicas(current) for metric in metrics]
        known = [answer for answer in answers if answer is not None]
        # A metric that cannot say forbids to scale down.
        if not known or (len(known) < len(answers) and max(known) < current):
            return current
        return self.limited(now, current, self.stabilized(now, current, max(known)))

    def stabilized(self, now, current, wanted):
        if not self.recommendations:
            self.recommendations.append((now, current))
        up, down = (self.behavior[key].get("stabilizationWindowSeconds", default) for key, default in (("scaleUp", 0), ("scaleDown", 300)))
        lowest = min([wanted, *(value for time, value in self.recommendations if time > now - up)])
        highest = max([wanted, *(value for time, value in self.recommendations if time > now - down)])
        self.recommendations = [entry for entry in self.recommendations if entry[0] > now - max(up, down)] + [(now, wanted)]
        if current < lowest:
            return lowest
        return min(current, highest)

    def limited(self, now, current, wanted):
        if wanted == current:
            return current
        grows = wanted > current
        rules = self.behavior["scaleUp" if grows else "scaleDown"]
        bounds = [self.bound(now, current, policy, 1 if grows else -1) for policy in rules["policies"]]
        # "Max" allows the largest change, in either direction.
        is_max = rules.get("selectPolicy", "Max") == "Max"
        if grows:
            limit = max(bounds) if is_max else min(bounds)
            return min(wanted, max(limit, current), self.most)
        limit = min(bounds) if is_max else max(bounds)
        return max(wanted, min(limit, current), self.least)

    def bound(self, now, current, policy, sign):
        """The number of pods that one policy allows: a change of the number at the start of its period."""
        start = current - sum(change for time, change in self.events if time > now - policy["periodSeconds"])
        if policy["type"] == "Pods":
            return start + sign * policy["value"]
        share = start * (1 + sign * policy["value"] / 100)
        return math.ceil(share) if sign > 0 else int(share)
