"""The rules are valid, every alert fires and stays quiet where it should, and every alert has a runbook."""

import json
import pathlib
import re
import subprocess
import tempfile
import unittest

import yaml
from cases import CASES

ROOT = pathlib.Path(__file__).resolve().parents[3]
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
# Metrics of others that the rules may use: of Prometheus itself, redis_exporter 1.45 and HAProxy 2.6. The lane `observe`
# reads them from real ones.
OTHERS = {"up", "redis_up", "redis_memory_used_bytes", "redis_memory_max_bytes", "redis_evicted_keys_total", "haproxy_backend_active_servers", "haproxy_backend_current_queue"}


def groups():
    return [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]


def alerts():
    return {rule["alert"]: rule for group in groups() for rule in group["rules"] if "alert" in rule}


def unit_test(case, series, fires):
    expected = [{"exp_labels": case.labels | {"severity": alerts()[case.alert]["labels"]["severity"]}}] if fires else []
    return {
        "name": f"{case.alert} {'fires' if fires else 'is quiet'} at {json.dumps(series)}",
        "interval": case.step(),
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        # Annotations have values in them. That they can be rendered is what the comparison below shows.
        "alert_rule_test": [{"eval_time": case.at, "alertname": case.alert, "exp_alerts": expected}],
    }


def promtool(*args):
    return subprocess.run(["promtool", *args], capture_output=True, text=True)


def run(tests):
    """The complaints of promtool about these unit tests."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "tests.yml"
        complaints = ""
        for step in sorted({test["interval"] for test in tests}):
            chosen = [test for test in tests if test["interval"] == step]
            # Rules see what the interval shows: a window shorter than two steps would be empty.
            file.write_text(yaml.safe_dump({"rule_files": [str(rule) for rule in RULES], "evaluation_interval": step, "tests": chosen}))
            answer = promtool("test", "rules", str(file))
            complaints += "" if answer.returncode == 0 else answer.stdout + answer.stderr
        return complaints


def fires(case, series):
    """The labels of the alert, and its annotations, from promtool's complaint that nothing was expected."""
    complaint = run([unit_test(case, series, fires=False)])
    found = re.search(r"got:\[\s*0:\s*Labels:(\{.*\})\s*Annotations:(\{.*\})", complaint, re.S)
    return found and (found[1], found[2])


class Rules(unittest.TestCase):
    def test_promtool_accepts_them(self):
        answer = promtool("check", "rules", *map(str, RULES))
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)

    def test_every_alert_stays_quiet_where_it_should(self):
        tests = [unit_test(case, series, fires=False) for case in CASES for series in case.quiet]
        self.assertEqual(run(tests), "")

    def test_every_alert_fires_where_it_should_with_readable_annotations(self):
        for case in CASES:
            with self.subTest(case.alert, series=case.fires):
                found = fires(case, case.fires)
                self.assertTrue(found, "it does not fire")
                for label, value in case.labels.items():
                    self.assertIn(f'{label}="{value}"', found[0])
                self.assertNotRegex(found[1], r"<no value>|\{\{|<error|%!")

    def test_every_alert_has_cases_of_both_kinds(self):
        self.assertEqual({case.alert for case in CASES}, set(alerts()))
        self.assertEqual({case.alert for case in CASES if case.quiet}, set(alerts()))

    def test_every_alert_has_a_runbook(self):
        text = (ROOT / "docs/runbooks.md").read_text()
        sections = re.findall(r"^## (\w+)$", text, re.M)
        self.assertEqual(sections, list(alerts()), "docs/runbooks.md has the alerts in the order of the rules")
        for name, rule in alerts().items():
            self.assertTrue(rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks.md#{name}"))
            self.assertIn(rule["labels"]["severity"], ("critical", "warning"))
            section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
            for part in ("**Means**", "**Look at**", "**Do**"):
                self.assertIn(part, section, name)

    def test_every_metric_exists(self):
        ours = set(re.findall(r"^\| `(tidegate_\w+)` \| (?:counter|gauge)", (ROOT / "docs/metrics.md").read_text(), re.M))
        histograms = re.findall(r"^\| `(tidegate_\w+)` \| histogram", (ROOT / "docs/metrics.md").read_text(), re.M)
        ours |= {name + suffix for name in histograms for suffix in ("_bucket", "_sum", "_count")}
        self.assertGreater(len(ours), 50)
        for group in groups():
            for rule in group["rules"]:
                used = set(re.findall(r"(?<![:\w])((?:tidegate|redis|haproxy)_\w+|up)\b(?!:)", rule["expr"]))
                self.assertLessEqual(used, ours | OTHERS, rule)

    def test_compose_runs_what_prometheus_scrapes_and_mounts_what_exists(self):
        services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
        jobs = config["scrape_configs"] + config["alerting"]["alertmanagers"]
        hosts = [target.split(":")[0] for job in jobs for part in job["static_configs"] for target in part["targets"]]
        self.assertLessEqual(set(hosts), set(services))
        mounts = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", []) if volume.startswith(".")]
        self.assertEqual([mount for mount in mounts if not (ROOT / mount).exists()], [])
        source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/tidegate.yml").read_text())["datasources"][0]
        self.assertEqual(source["jsonData"]["timeInterval"], config["global"]["scrape_interval"])


if __name__ == "__main__":
    unittest.main()
