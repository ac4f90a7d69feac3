"""Every query of every dashboard, against a real Prometheus."""

import json
import math
import time

from servers import ROOT

VARIABLES = {"$job": "tidegate", "$instance": ".*", "$__rate_interval": "5s"}


def queries():
    for file in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{file.stem} / {panel['title']} / {target['refId']}", target["expr"]


def without_data(servers):
    """The names of the queries for which Prometheus has no number in the last half minute."""
    now, empty = time.time(), []
    for name, expression in queries():
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        answer = servers.ask("query_range", query=expression, start=now - 30, end=now, step=1)
        numbers = [float(value) for series in answer["result"] for _, value in series["values"]]
        if not any(math.isfinite(number) for number in numbers):
            empty.append(f"{name}: {expression}")
    return empty


def variables_have_values(servers):
    """What the drop-down lists of the dashboards ask for."""
    jobs = servers.ask("label/job/values", **{"match[]": "tidegate_connections"})
    instances = servers.ask("label/instance/values", **{"match[]": 'tidegate_connections{job=~"tidegate"}'})
    return jobs == ["tidegate"] and len(instances) == 3
