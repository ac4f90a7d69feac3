"""Checks objects by the schemas of Kubernetes and of the custom resources that the overlays use."""

import json
import os
import pathlib
import re
import subprocess

import jsonschema
import kubernetes_validate
import yaml

from manifests import name

VERSION = "1.37"
# Red Hat publishes no schema of a Route in a registry. These are the fields that the overlay may use (route/v1).
ROUTE = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["to", "port", "tls"],
            "properties": {
                "host": {"type": "string"},
                "to": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["kind", "name"],
                    "properties": {"kind": {"const": "Service"}, "name": {"type": "string"}, "weight": {"type": "integer", "maximum": 256}},
                },
                "port": {"type": "object", "required": ["targetPort"], "additionalProperties": False, "properties": {"targetPort": {}}},
                "tls": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["termination"],
                    "properties": {
                        "termination": {"enum": ["edge", "passthrough", "reencrypt"]},
                        "insecureEdgeTerminationPolicy": {"enum": ["None", "Allow", "Redirect"]},
                    },
                },
                "wildcardPolicy": {"enum": ["None", "Subdomain"]},
            },
        }
    },
}


def custom_schemas():
    """The schemas of crds.txt, by group, version and kind. They come from Go modules."""
    schemas = {("route.openshift.io/v1", "Route"): ROUTE}
    modules = {}
    for line in (pathlib.Path(__file__).parent / "crds.txt").read_text().splitlines():
        module, path = line.split()
        if module not in modules:
            command = ["go", "mod", "download", "-json", module]
            answer = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"GOFLAGS": "-mod=mod"})
            modules[module] = pathlib.Path(json.loads(answer.stdout)["Dir"])
        crd = yaml.safe_load((modules[module] / path).read_text())
        for version in crd["spec"]["versions"]:
            key = (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
            schemas[key] = strict(version["schema"]["openAPIV3Schema"])
    return schemas


def strict(schema):
    """The schema, without room for fields that it does not name. An API server drops these fields or refuses them."""
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items() if key not in ("properties", "x-kubernetes-validations")}
    if "properties" in schema:
        closed["properties"] = {key: strict(value) for key, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
    for key in ("allOf", "anyOf", "oneOf", "not"):
        if key in closed:
            closed[key] = schema[key]
    if not compiles(closed.get("pattern", "")):
        # A pattern of Go's syntax.
        del closed["pattern"]
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    return closed


def compiles(pattern):
    try:
        return bool(re.compile(pattern))
    except re.error:
        return False


def faults(items, custom):
    """A sentence for each object that its schema refuses."""
    found = []
    for item in items:
        key = (item["apiVersion"], item["kind"])
        try:
            if key in custom:
                schema = custom[key]
                # The metadata's schema in a custom resource is "an object"; `strict` must not close it.
                body = {part: value for part, value in item.items() if part not in ("metadata", "apiVersion", "kind")}
                schema = schema | {"properties": {part: value for part, value in schema["properties"].items() if part != "metadata"}}
                jsonschema.validate(body, schema | {"required": [part for part in schema.get("required", []) if part in body or part == "spec"]})
            else:
                kubernetes_validate.validate(item, VERSION, strict=True)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
            found.append(f"{name(item)}: {'.'.join(map(str, error.path))}: {error.message.splitlines()[0][:200]}")
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(f"{name(item)}: {error.message}")
    return found
