"""The queries that scale the fleet, against a real Prometheus: the rule of prometheus-adapter, and the trigger of KEDA."""

import yaml

from servers import NAMESPACE, ROOT


def adapter(servers):
    """The connections of each pod, by the adapter's rule."""
    rule = yaml.safe_load((ROOT / "deploy/k8s/prometheus-adapter.yaml").read_text())["rules"]["custom"][0]
    # What prometheus-adapter puts into its templates.
    labels = f'namespace="{NAMESPACE}",pod=~"gateway1|gateway2|gateway3"'
    values = {"<<.Series>>": rule["seriesQuery"].split("{")[0], "<<.LabelMatchers>>": labels, "<<.GroupBy>>": "pod"}
    query = rule["metricsQuery"]
    for name, value in values.items():
        query = query.replace(name, value)
    if not servers.ask("query", query=rule["seriesQuery"])["result"]:
        return {}
    return {it["metric"]["pod"]: float(it["value"][1]) for it in servers.ask("query", query=query)["result"]}


def keda(servers):
    """The values of KEDA's query, which must be one."""
    spec = yaml.safe_load((ROOT / "deploy/k8s/overlays/keda/scaledobject.yaml").read_text())["spec"]
    query = next(trigger["metadata"]["query"] for trigger in spec["triggers"] if trigger["type"] == "prometheus")
    return [float(it["value"][1]) for it in servers.ask("query", query=query)["result"]]


def agree(servers):
    """Whether both see three pods, and all connections that the gateways count."""
    everything = servers.ask("query", query="sum(tidegate_connections)")["result"]
    pods, all_ = adapter(servers), keda(servers)
    return len(pods) == 3 and len(all_) == 1 and sum(pods.values()) == all_[0] == float(everything[0]["value"][1]) > 0
