"""Prometheus, Alertmanager and redis_exporter on free ports of loopback, with the shipped files, made fast for a test."""

import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import urllib.parse
import urllib.request

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMESPACE = "tidegate"
# Every window of a rule, and how long an alert waits, in a test.
WINDOW, FOR = "20s", "2s"


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def fast_rules(text):
    """The shipped rules with short windows, so that a fault shows within seconds and is forgotten within seconds."""
    rules = yaml.safe_load(text)
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        rule["expr"] = re.sub(r"\[\d+[mhd]\]", f"[{WINDOW}]", rule["expr"])
        if "for" in rule:
            rule["for"] = FOR
    return yaml.safe_dump(rules)


class Webhook:
    """Receives what Alertmanager sends: (name of the alert, instance, "firing" or "resolved")."""

    def __init__(self):
        self.received = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.received += [(it["labels"]["alertname"], it["labels"].get("instance"), it["status"]) for it in body["alerts"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fired(self, first):
        """The alerts that began to fire since the `first` message."""
        return {name for name, _, status in self.received[first:] if status == "firing"}

    def unresolved(self):
        last = {(name, instance): status for name, instance, status in self.received}
        return {name for (name, _), status in last.items() if status == "firing"}


class Servers:
    def __init__(self, fleet, folder):
        self.folder, self.processes, self.webhook = folder, [], Webhook()
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "rules").mkdir(parents=True)
        for file in (ROOT / "deploy/prometheus/rules").glob("*.yml"):
            (folder / "rules" / file.name).write_text(fast_rules(file.read_text()))
        exporter, alertmanager, self.prometheus = (f"127.0.0.1:{free_port()}" for _ in range(3))
        self.start("redis-exporter", "prometheus-redis-exporter", "--redis.addr", f"redis://{fleet['redis']}", "--web.listen-address", exporter, "--connection-timeout", "500ms")
        receiver = {"name": "hook", "webhook_configs": [{"url": f"http://127.0.0.1:{self.webhook.server.server_port}/", "send_resolved": True}]}
        route = {"receiver": "hook", "group_by": ["alertname", "instance"], "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
        (folder / "alertmanager.yml").write_text(yaml.safe_dump({"route": route, "receivers": [receiver]}))
        self.start("alertmanager", "prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/alertmanager", f"--web.listen-address={alertmanager}", "--cluster.listen-address=")
        config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alertmanager]
        # With the labels that a ServiceMonitor gives to the targets of a pod.
        pods = [{"targets": [it["admin"]], "labels": {"namespace": NAMESPACE, "pod": f"gateway{number}"}} for number, it in enumerate(fleet["gateways"], 1)]
        targets = {"tidegate": pods, "haproxy": [{"targets": [fleet["statistics"]]}], "redis": [{"targets": [exporter]}]}
        for job in config["scrape_configs"]:
            job["static_configs"] = targets.pop(job["job_name"])
        assert not targets, targets
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.start("prometheus", "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={self.prometheus}")

    def start(self, name, *command):
        with open(self.folder / f"{name}.log", "wb") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]}))

    def end(self):
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def ask(self, path, **parameters):
        url = f"http://{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def firing(self):
        try:
            return {it["labels"]["alertname"] for it in self.ask("alerts")["alerts"] if it["state"] == "firing"}
        except OSError:
            return set()
