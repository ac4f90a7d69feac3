"""Builds an overlay with kustomize, and finds objects in it."""

import pathlib
import subprocess
import sys

import yaml

FOLDER = pathlib.Path(__file__).resolve().parents[1]
ROOT = FOLDER.parents[1]
KUBECTL = pathlib.Path(sys.executable).with_name("kubectl")
OVERLAYS = ["base", *sorted(f"overlays/{path.name}" for path in (FOLDER / "overlays").iterdir())]


def build(overlay):
    """Every object of the overlay, as `kubectl apply -k` would send it."""
    answer = subprocess.run([KUBECTL, "kustomize", FOLDER / overlay], capture_output=True, text=True)
    if answer.returncode != 0:
        raise ValueError(f"{overlay}: {answer.stderr}")
    return list(yaml.safe_load_all(answer.stdout))


def name(item):
    return f"{item['kind']}/{item['metadata']['name']}"


def of_kind(items, *kinds):
    return [item for item in items if item["kind"] in kinds]


def one(items, kind, wanted):
    found = [item for item in of_kind(items, kind) if item["metadata"]["name"] == wanted]
    if len(found) != 1:
        raise LookupError(f"{len(found)} objects are called {kind}/{wanted}")
    return found[0]


def workloads(items):
    return of_kind(items, "Deployment", "StatefulSet")


def pod(workload):
    return workload["spec"]["template"]["spec"]


def labels(workload):
    return workload["spec"]["template"]["metadata"]["labels"]


def selects(selector, of_labels):
    """Whether a LabelSelector, or the plain labels of a Service, select these labels."""
    if not isinstance(selector.get("matchLabels", selector.get("matchExpressions")), (dict, list)) and selector:
        selector = {"matchLabels": selector}
    if any(of_labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for term in selector.get("matchExpressions", []):
        if term["operator"] != "In":
            raise NotImplementedError(term["operator"])
        if of_labels.get(term["key"]) not in term["values"]:
            return False
    return True


def ports(workload):
    """The ports of all containers of a pod, by name."""
    every = (port for container in pod(workload)["containers"] for port in container.get("ports", []))
    return {port["name"]: port["containerPort"] for port in every}


def environment(items, container):
    """The variables of a container whose values the manifests contain."""
    variables = {}
    for source in container.get("envFrom", []):
        variables |= one(items, "ConfigMap", source["configMapRef"]["name"])["data"]
    variables |= {env["name"]: env["value"] for env in container.get("env", []) if "value" in env}
    return variables
