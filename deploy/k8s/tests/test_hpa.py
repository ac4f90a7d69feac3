"""The model of the autoscaler reaches what a real one reached, and the shipped settings carry the fleet through a day."""

import functools
import unittest

import day
import plot
from hpa import Autoscaler, Metric
from manifests import ROOT

# What a HorizontalPodAutoscaler of Kubernetes 1.37.2 saw and did with real gateways: target 20, 3 to 6 pods, at most 2 more
# within 10 s, at most 1 less within 15 s, down after 10 s; it looks every 2 s. Rows of (second, connections of a pod on
# average, pods from then on); `None` is "<unknown>".
RECORD_BEHAVIOR = {
    "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 10}]},
    "scaleDown": {"stabilizationWindowSeconds": 10, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]},
}
SYNC_S = 2
# The clients came, and most of them left after 38 s.
LOAD = [(0, 10, 3), (2, 14.7, 3), (4, 36.7, 5), *((second, 22, 5) for second in range(6, 38, 2))]
LOAD += [*((second, 8, 5) for second in range(38, 48, 2)), (48, 8, 4), *((second, 10, 4) for second in range(50, 64, 2)), (64, 10, 3)]
LOAD += [(second, 13.3, 3) for second in range(66, 80, 2)]
# A rolling restart: all pods are new, and for three seconds none has a value.
RESTART = [(0, 19.3, 3), (2, 19.3, 3), (4, None, 3), (6, None, 3), (8, 19.3, 3), (10, 19.3, 3)]
# The adapter stops while most clients leave, and answers again after 27 s.
OUTAGE = [(0, 21.7, 6), *((second, None, 6) for second in range(2, 30, 2)), (30, 3.3, 5)]


def replayed(record, pods):
    """The record with the pods of the model: (second, seen, recorded, model)."""
    autoscaler, rows = Autoscaler(3, 6, RECORD_BEHAVIOR), []
    # The controller has looked at the pods before the record begins.
    autoscaler.recommendations.append((-SYNC_S, pods))
    for second, seen, recorded in record:
        values = None if seen is None else {pod: seen for pod in range(pods)}
        pods = autoscaler.sync(second, pods, [Metric(20, values)])
        rows.append((second, seen or 0, recorded, pods))
    return rows


def turns(rows, column):
    """(second, pods) of each change."""
    pairs = zip(rows, rows[1:])
    return [(after[0], after[column]) for before, after in pairs if before[column] != after[column]]


@functools.cache
def shipped_day():
    return day.replay(day.shipped())


class Record(unittest.TestCase):
    def test_the_model_does_what_the_recorded_autoscaler_did(self):
        for record, pods, changes in ((LOAD, 3, 3), (RESTART, 3, 0), (OUTAGE, 6, 1)):
            rows = replayed(record, pods)
            recorded, model = turns(rows, 2), turns(rows, 3)
            self.assertEqual(len(recorded), changes)
            self.assertEqual([count for _, count in model], [count for _, count in recorded])
            for (at, _), (wanted, _) in zip(model, recorded):
                self.assertLessEqual(abs(at - wanted), SYNC_S)

    def test_a_new_deployment_gets_the_least_number(self):
        self.assertEqual(Autoscaler(3, 6, RECORD_BEHAVIOR).sync(0, 1, [Metric(20, None)]), 3)

    def test_the_plots_of_the_document_are_these(self):
        folder, fleet = ROOT / "docs/scaling", shipped_day()
        fleet = day.replay(day.shipped())
        self.assertEqual((folder / "day.svg").read_text(), plot.day(fleet.rows, fleet.changes), "run deploy/k8s/tests/day.py")
        rows = replayed(LOAD, 3)
        self.assertEqual((folder / "record.svg").read_text(), plot.record(rows, rows[-1][0]), "run deploy/k8s/tests/test_hpa.py --write")


class Model(unittest.TestCase):
    """Cases that the record does not have, by the source of the controller."""

    def replicas(self, values, current, pending=(), missing=()):
        return Metric(100, values, set(pending), set(missing)).replicas(current)

    def test_the_tolerance_is_a_tenth_to_both_sides(self):
        self.assertEqual(self.replicas({1: 110, 2: 110}, 2), 2)
        self.assertEqual(self.replicas({1: 111, 2: 111}, 2), 3)
        self.assertEqual(self.replicas({1: 90, 2: 90}, 2), 2)
        self.assertEqual(self.replicas({1: 40, 2: 40}, 2), 1)

    def test_a_pod_without_a_value_counts_against_the_direction(self):
        self.assertEqual(self.replicas({1: 40, 2: 40}, 3, missing={3}), 2)
        self.assertEqual(self.replicas({1: 150, 2: 150}, 3, missing={3}), 3)
        self.assertEqual(self.replicas({1: 200, 2: 200}, 3, missing={3}), 4)

    def test_a_pod_that_starts_does_not_hide_the_load_and_counts_as_empty(self):
        self.assertEqual(self.replicas({1: 200, 2: 200}, 4, pending={3, 4}), 4)
        self.assertEqual(self.replicas({1: 300, 2: 300}, 4, pending={3, 4}), 6)
        self.assertEqual(self.replicas({1: 20, 2: 20}, 3, pending={3}), 1)

    def test_one_metric_that_cannot_say_forbids_to_scale_down_and_not_up(self):
        def pods(value):
            values = {pod: value for pod in range(4)}
            return Autoscaler(1, 10, RECORD_BEHAVIOR).sync(99, 4, [Metric(100, values), Metric(70, None)])

        self.assertEqual(pods(20), 4)
        self.assertEqual(pods(130), 6)

    def test_the_larger_answer_counts(self):
        autoscaler = Autoscaler(1, 10, RECORD_BEHAVIOR)
        few, much = ({pod: value for pod in range(4)} for value in (10, 84))
        self.assertEqual(autoscaler.sync(0, 4, [Metric(100, few), Metric(70, much)]), 5)


class Day(unittest.TestCase):
    def test_the_shipped_settings_grow_before_it_hurts_and_shrink_without_flapping(self):
        fleet = shipped_day()
        self.assertEqual(day.full_s(fleet), 0)
        self.assertLess(max(row[3] for row in fleet.rows), 0.9 * day.POD_MAX)
        # Morning, lunch, afternoon and evening.
        self.assertEqual(day.reversals(fleet), 3)
        self.assertEqual(day.reversals(fleet, within_s=600), 0)
        self.assertEqual(fleet.wanted, fleet.autoscaler.least)

    def test_a_window_before_scaling_up_leaves_clients_outside(self):
        self.assertGreater(day.full_s(day.replay(day.shipped(scaleUp={"stabilizationWindowSeconds": 120}))), 60)

    def test_one_pod_a_minute_is_too_slow_for_a_storm(self):
        slow = day.shipped(scaleUp={"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]})
        self.assertGreater(day.full_s(day.replay(slow)), 10)

    def test_without_a_window_before_scaling_down_the_fleet_flaps(self):
        fleet = day.replay(day.shipped(scaleDown={"stabilizationWindowSeconds": 0}))
        self.assertGreater(day.reversals(fleet, within_s=600), 0)

    def test_the_document_names_the_fastest_storm_that_hurts_nobody(self):
        self.assertEqual(day.full_s(day.storm(day.shipped(), per_second=25)), 0)
        self.assertGreater(day.full_s(day.storm(day.shipped(), per_second=50)), 0)


if __name__ == "__main__":
    import sys

    if "--write" in sys.argv:
        written = replayed(LOAD, 3)
        (ROOT / "docs/scaling/record.svg").write_text(plot.record(written, written[-1][0]))
    else:
        unittest.main()
