"""What a schema does not see: numbers and names that must fit together. Each rule returns sentences about faults."""

import re
import tomllib
from itertools import product

import manifests
from manifests import environment, labels, name, of_kind, one, pod, ports, selects, workloads

GATEWAY = "tidegate"
HAPROXY = "tidegate-haproxy"
# Secrets that the operator creates; README.md says how.
SECRETS = {"tidegate-keys", "tidegate-redis", "tidegate-tls"}
# Time in which a gateway writes its records and releases its lease after its drain.
END_S = 5
# Pods that may be draining while the fleet is complete, one after the other.
DRAINING = 2


def drain_grace_s(items):
    """drain.delay_ms and drain.grace_ms of the gateways together: their own, or the defaults of the shipped example."""
    container = pod(one(items, "Deployment", GATEWAY))["containers"][0]
    example = tomllib.loads((manifests.ROOT / "deploy/gateway.example.toml").read_text())
    own = environment(items, container)
    return sum(int(own.get(f"TIDEGATE_DRAIN_{key.upper()}", example["drain"][key])) for key in ("delay_ms", "grace_ms")) / 1000


def pre_stop_s(container):
    return container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)


def scaled(items):
    """The autoscalers, each with the name of its Deployment."""
    return [(item, item["spec"]["scaleTargetRef"]["name"]) for item in of_kind(items, "HorizontalPodAutoscaler", "ScaledObject")]


def one_autoscaler_owns_replicas(items):
    owners = [target for _, target in scaled(items)]
    found = [] if owners == [GATEWAY] else [f"autoscalers of {owners}, not one of {GATEWAY}"]
    found += [f"{target}: `replicas` beside an autoscaler" for target in owners if "replicas" in one(items, "Deployment", target)["spec"]]
    return found


def scaling(item):
    """Bounds, target of connections and of memory, and behaviour of an autoscaler of either kind."""
    spec = item["spec"]
    if item["kind"] == "ScaledObject":
        triggers = {trigger["type"]: trigger for trigger in spec["triggers"]}
        behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        wanted = triggers["prometheus"]["metadata"]["threshold"], triggers["memory"]["metadata"]["value"]
        return spec["minReplicaCount"], spec["maxReplicaCount"], float(wanted[0]), float(wanted[1]), behaviour
    metrics = {metric["type"]: metric for metric in spec["metrics"]}
    wanted = metrics["Pods"]["pods"]["target"]["averageValue"], metrics["Resource"]["resource"]["target"]["averageUtilization"]
    return spec["minReplicas"], spec["maxReplicas"], quantity(wanted[0]), float(wanted[1]), spec["behavior"]


def quantity(text):
    """A number, or a number of thousandths. Anything else is refused by an API server, and passes a schema."""
    match = re.fullmatch(r"(\d+)(m?)", str(text))
    if not match:
        raise ValueError(f"{text!r} is no quantity of connections")
    return int(match[1]) / (1000 if match[2] else 1)


def autoscaler_is_the_owners(items):
    found = []
    for item, target in scaled(items):
        try:
            least, most, connections, memory, behaviour = scaling(item)
        except ValueError as error:
            found.append(f"{name(item)}: {error}")
            continue
        if (least, most, connections, memory) != (3, 20, 500, 70):
            found.append(f"{name(item)}: {least} to {most} pods for {connections} connections and {memory} %, not 3 to 20 for 500 and 70 %")
        drain_s = pre_stop_s(pod(one(items, "Deployment", target))["containers"][0]) + drain_grace_s(items)
        down = behaviour["scaleDown"]
        if behaviour["scaleUp"].get("stabilizationWindowSeconds", 0) != 0:
            found.append(f"{name(item)}: a window before scaling up leaves clients on full pods")
        if down.get("stabilizationWindowSeconds", 300) < 300:
            found.append(f"{name(item)}: scales down after less than 300 s")
        for policy in down["policies"]:
            if policy["type"] != "Pods" or policy["value"] != 1 or policy["periodSeconds"] < drain_s:
                found.append(f"{name(item)}: scales down by {policy}, faster than a drain of {drain_s} s")
    return found


def keda_does_not_read_silence_as_zero(items):
    found = []
    for item in of_kind(items, "ScaledObject"):
        for trigger in (trigger for trigger in item["spec"]["triggers"] if trigger["type"] == "prometheus"):
            if trigger["metadata"].get("ignoreNullValues") != "false":
                found.append(f"{name(item)}: an empty answer would scale to the minimum")
            if trigger.get("metricType", "AverageValue") != "AverageValue":
                found.append(f"{name(item)}: {trigger['metricType']} counts draining pods")
            namespace = item["metadata"]["namespace"]
            if f'namespace="{namespace}"' not in trigger["metadata"]["query"]:
                found.append(f"{name(item)}: the query is not about the namespace {namespace}")
        if item["spec"].get("fallback", {}).get("behavior") != "currentReplicasIfHigher":
            found.append(f"{name(item)}: without Prometheus the fleet could shrink")
    return found


def drain_fits(items):
    deployment = one(items, "Deployment", GATEWAY)
    container = pod(deployment)["containers"][0]
    pre_stop, drain = pre_stop_s(container), drain_grace_s(items)
    grace = pod(deployment).get("terminationGracePeriodSeconds", 30)
    found = []
    if grace < pre_stop + drain + END_S:
        found.append(f"killed after {grace} s, and preStop and drain take {pre_stop + drain + END_S} s")
    told = environment(items, container).get("TIDEGATE_DRAIN_KILL_AFTER_MS")
    if told != str((grace - pre_stop) * 1000):
        found.append(f"drain.kill_after_ms is {told}, and {grace - pre_stop} s remain after preStop")
    if deployment["spec"].get("minReadySeconds", 0) < pre_stop + drain:
        found.append(f"an update goes on after {deployment['spec'].get('minReadySeconds', 0)} s, while the pod before still drains")
    rolling = deployment["spec"].get("strategy", {}).get("rollingUpdate", {})
    if (rolling.get("maxUnavailable"), rolling.get("maxSurge")) != (0, 1):
        found.append(f"an update may take away {rolling.get('maxUnavailable')} pods and add {rolling.get('maxSurge')}")
    return found


def pre_stop_needs_no_shell(items):
    every = ((workload, container) for workload in workloads(items) for container in pod(workload)["containers"])
    return [
        f"{name(workload)}: preStop by {list(hook)}, which fails silently in an image without a shell"
        for workload, container in every
        if (hook := container.get("lifecycle", {}).get("preStop", {"sleep": {}})) and list(hook) != ["sleep"]
    ]


def probes_are_apart_from_clients(items):
    container = pod(one(items, "Deployment", GATEWAY))["containers"][0]
    found = []
    for kind, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz"), ("startupProbe", "/livez")):
        probe = container.get(kind, {})
        asked = probe.get("httpGet", {})
        if (asked.get("path"), asked.get("port")) != (path, "admin"):
            found.append(f"{kind} asks {asked}")
        if probe.get("timeoutSeconds", 1) < 2:
            found.append(f"{kind} waits {probe.get('timeoutSeconds', 1)} s")
    if container.get("livenessProbe", {}).get("failureThreshold", 3) < 3:
        found.append("a single slow answer restarts a gateway")
    return found


def ports_have_names(items):
    """Every port that is named exists where it is looked for."""
    found = []
    for workload in workloads(items):
        for container in pod(workload)["containers"]:
            own = {port["name"] for port in container.get("ports", [])}
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                probe = container.get(kind, {})
                port = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
                if isinstance(port, str) and port not in own:
                    found.append(f"{name(workload)}: {kind} asks port {port}, which container {container['name']} does not have")
    for service in of_kind(items, "Service"):
        behind = [workload for workload in workloads(items) if selects(service["spec"]["selector"], labels(workload))]
        if not behind:
            found.append(f"{name(service)} selects no pod")
        for port, workload in product(service["spec"]["ports"], behind):
            if port["targetPort"] not in ports(workload):
                found.append(f"{name(service)}: port {port['targetPort']} is not in {name(workload)}")
    for monitor in of_kind(items, "ServiceMonitor"):
        behind = [service for service in of_kind(items, "Service") if selects(monitor["spec"]["selector"], service["metadata"].get("labels", {}))]
        offered = {port["name"] for service in behind for port in service["spec"]["ports"]}
        found += [f"{name(monitor)}: no Service has the port {end['port']}" for end in monitor["spec"]["endpoints"] if end["port"] not in offered]
    return found


def selectors_select(items):
    found = []
    for item in of_kind(items, "PodDisruptionBudget"):
        if not any(selects(item["spec"]["selector"], labels(workload)) for workload in workloads(items)):
            found.append(f"{name(item)} selects no pod")
    for workload in workloads(items):
        for spread in pod(workload).get("topologySpreadConstraints", []):
            if not selects(spread["labelSelector"], labels(workload)):
                found.append(f"{name(workload)} spreads other pods")
    protected = [item["spec"]["selector"] for item in of_kind(items, "PodDisruptionBudget")]
    protected_by_policy = [item["spec"]["podSelector"] for item in of_kind(items, "NetworkPolicy")]
    for what, selectors in (("PodDisruptionBudget", protected), ("NetworkPolicy", protected_by_policy)):
        for workload in workloads(items):
            if not any(selects(selector, labels(workload)) for selector in selectors):
                found.append(f"{name(workload)} has no {what}")
    return found


def references_exist(items):
    """ConfigMaps are in the overlay, and Secrets are those that the operator is told to create."""
    config_maps = {item["metadata"]["name"] for item in of_kind(items, "ConfigMap")}
    found = []

    def walk(workload, value):
        if isinstance(value, list):
            for entry in value:
                walk(workload, entry)
        elif isinstance(value, dict):
            for key, entry in value.items():
                if key in ("configMapRef", "configMapKeyRef", "configMap") and entry["name"] not in config_maps:
                    found.append(f"{name(workload)}: no ConfigMap {entry['name']}")
                if key in ("secretKeyRef", "secretRef") and entry["name"] not in SECRETS:
                    found.append(f"{name(workload)}: no Secret {entry['name']}")
                if key == "secret" and entry["secretName"] not in SECRETS:
                    found.append(f"{name(workload)}: no Secret {entry['secretName']}")
                walk(workload, entry)

    for workload in workloads(items):
        walk(workload, pod(workload))
    return found


def pods_are_restricted(items):
    found = []
    for workload in workloads(items):
        outer = pod(workload).get("securityContext", {})
        if not outer.get("runAsNonRoot") or outer.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            found.append(f"{name(workload)} may run as root, or without seccomp")
        if pod(workload).get("automountServiceAccountToken") is not False:
            found.append(f"{name(workload)} has a token for the API of Kubernetes")
        for container in pod(workload)["containers"]:
            inner = container.get("securityContext", {})
            is_tight = inner.get("readOnlyRootFilesystem") and inner.get("allowPrivilegeEscalation") is False
            if not is_tight or inner.get("capabilities", {}).get("drop") != ["ALL"]:
                found.append(f"{name(workload)}: {container['name']} may write its root or gain rights")
            resources = container.get("resources", {})
            if {"cpu", "memory"} - resources.get("limits", {}).keys() or {"cpu", "memory"} - resources.get("requests", {}).keys():
                found.append(f"{name(workload)}: {container['name']} has no bound of CPU or memory")
    return found


def haproxy_follows_the_fleet(items):
    """HAProxy has a place for every gateway, finds them by a name that keeps draining ones, and its file knows all variables."""
    container = pod(one(items, "Deployment", HAPROXY))["containers"][0]
    variables = environment(items, container)
    text = (manifests.ROOT / "haproxy/haproxy.cfg").read_text()
    found = [f"haproxy.cfg does not know {variable}" for variable in variables if variable.startswith("LB_") and variable not in text]
    host, port = variables["LB_GATEWAYS"].rsplit(":", 1)
    service = one(items, "Service", host.split(".")[0])
    if service["spec"].get("clusterIP") != "None" or not service["spec"].get("publishNotReadyAddresses"):
        found.append(f"{name(service)}: a draining gateway would leave the name, and HAProxy would cut its connections")
    gateway = ports(one(items, "Deployment", GATEWAY))
    if (int(port), int(variables["LB_GATEWAYS_AGENT_PORT"])) != (gateway["clients"], gateway["agent"]):
        found.append(f"HAProxy looks for gateways at {port} and {variables['LB_GATEWAYS_AGENT_PORT']}, and they are at {gateway}")
    places, connections = int(variables["LB_GATEWAYS_MAX"]), int(variables["LB_MAXCONN"])
    surge = one(items, "Deployment", GATEWAY)["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    for item, _ in scaled(items):
        if places < scaling(item)[1] + surge + DRAINING:
            found.append(f"HAProxy has {places} places for {scaling(item)[1]} gateways, and {surge + DRAINING} more during an update")
    if connections < 2 * places * int(re.search(r"default-server .* maxconn (\d+)", text)[1]):
        found.append(f"LB_MAXCONN {connections} is less than {places} servers can take, twice")
    return found


def clients_have_addresses(items):
    """HAProxy says for whom it connects, and the gateways believe it. The network of the pods is the cluster's: any will do."""
    own = environment(items, pod(one(items, "Deployment", GATEWAY))["containers"][0])
    found = [] if own.get("TIDEGATE_HTTP_TRUSTED_PROXIES") else ["the limits of one client address apply to each HAProxy"]
    if own.get("TIDEGATE_HTTP_FORWARDED_HEADER", "x-forwarded-for") != "x-forwarded-for" or own.get("TIDEGATE_HTTP_PROXY_PROTOCOL", "false") != "false":
        found.append("the gateways do not read the header that HAProxy writes")
    if not re.search(r"^\s*option forwardfor$", (manifests.ROOT / "haproxy/haproxy.cfg").read_text(), re.MULTILINE):
        found.append("HAProxy does not say for whom it connects")
    return found


RULES = [
    one_autoscaler_owns_replicas,
    autoscaler_is_the_owners,
    keda_does_not_read_silence_as_zero,
    drain_fits,
    pre_stop_needs_no_shell,
    probes_are_apart_from_clients,
    ports_have_names,
    selectors_select,
    references_exist,
    pods_are_restricted,
    haproxy_follows_the_fleet,
    clients_have_addresses,
]
