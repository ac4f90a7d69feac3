"""Which connections the NetworkPolicies of an overlay allow, by the rules of Kubernetes."""

from manifests import labels, of_kind, one, ports, selects

NAMESPACE = "tidegate"
DNS = {"kubernetes.io/metadata.name": "kube-system"}
OPENSHIFT_DNS = {"kubernetes.io/metadata.name": "openshift-dns"}


class Peer:
    """A pod, by its labels and its namespace, or an address outside of the cluster."""

    def __init__(self, pod_labels, namespace=NAMESPACE, port_names=None):
        self.labels, self.namespace, self.port_names = pod_labels, namespace, port_names or {}

    def port(self, wanted):
        return self.port_names.get(wanted, wanted)


def peer(items, kind, wanted):
    workload = one(items, kind, wanted)
    return Peer(labels(workload), port_names=ports(workload))


def allowed(items, source, target, port, protocol="TCP"):
    """Whether `source` may open a connection to `port` of `target`."""
    out = direction(items, source, target, target, port, protocol, "Egress", "to")
    into = direction(items, target, source, target, port, protocol, "Ingress", "from")
    return out and into


def direction(items, owner, other, target, port, protocol, kind, key):
    policies = [
        policy
        for policy in of_kind(items, "NetworkPolicy")
        if owner.namespace == NAMESPACE and kind in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], owner.labels)
    ]
    if not policies:
        return True
    rules = [rule for policy in policies for rule in policy["spec"].get(kind.lower(), [])]
    return any(
        (key not in rule or any(is_peer(entry, other) for entry in rule[key]))
        and ("ports" not in rule or any(is_port(entry, target, port, protocol) for entry in rule["ports"]))
        for rule in rules
    )


def is_peer(entry, other):
    if "ipBlock" in entry:
        return other.namespace is None
    namespace = entry.get("namespaceSelector")
    if namespace is None and other.namespace != NAMESPACE:
        return False
    if namespace is not None and not selects(namespace, {"kubernetes.io/metadata.name": other.namespace}):
        return False
    return selects(entry.get("podSelector", {}), other.labels)


def is_port(entry, target, port, protocol):
    return entry.get("protocol", "TCP") == protocol and target.port(entry["port"]) == target.port(port)
