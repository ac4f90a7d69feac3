"""Every overlay is valid, and every rule sees the fault that it is for."""

import copy
import os
import runpy
import subprocess
import unittest

import network
import rules
import schemas
import yaml
from manifests import FOLDER, OVERLAYS, ROOT, build, environment, of_kind, one, pod

BUILT = {overlay: build(overlay) for overlay in OVERLAYS}
CUSTOM = schemas.custom_schemas()


def gateway(items):
    return one(items, "Deployment", "tidegate")


def container(items, deployment="tidegate"):
    return pod(one(items, "Deployment", deployment))["containers"][0]


def hpa(items):
    return one(items, "HorizontalPodAutoscaler", "tidegate")["spec"]


class Overlays(unittest.TestCase):
    def test_schemas_accept_every_object(self):
        for overlay, items in BUILT.items():
            with self.subTest(overlay):
                self.assertEqual(schemas.faults(items, CUSTOM), [])

    def test_rules_accept_every_overlay(self):
        for overlay, items in BUILT.items():
            for rule in rules.RULES:
                with self.subTest(overlay, rule=rule.__name__):
                    self.assertEqual(rule(items), [])

    def test_an_overlay_removes_what_it_replaces(self):
        self.assertFalse(of_kind(BUILT["overlays/keda"], "HorizontalPodAutoscaler"))
        self.assertFalse(of_kind(BUILT["overlays/existing-redis"], "StatefulSet"))
        users = [key for workload in rules.workloads(BUILT["overlays/openshift"]) for key in pod(workload)["securityContext"]]
        self.assertFalse({"runAsUser", "runAsGroup", "fsGroup"} & set(users))

    def test_keda_scales_like_the_autoscaler_that_it_replaces(self):
        (theirs, _), (ours, _) = rules.scaled(BUILT["overlays/keda"])[0], rules.scaled(BUILT["base"])[0]
        self.assertEqual(rules.scaling(theirs), rules.scaling(ours))

    def test_the_adapter_serves_the_metric_of_the_autoscaler(self):
        rule = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())["rules"]["custom"][0]
        pods = next(metric["pods"] for metric in hpa(BUILT["base"])["metrics"] if metric["type"] == "Pods")
        self.assertEqual(rule["name"]["as"], pods["metric"]["name"])

    def test_the_operator_has_the_rules_that_are_tested(self):
        folder = FOLDER / "components/prometheus-operator"
        build = runpy.run_path(str(folder / "build.py"))
        self.assertEqual((folder / "prometheusrule.yaml").read_text(), build["text"](), "run build.py")

    def test_the_readme_creates_every_secret(self):
        text = (FOLDER / "README.md").read_text()
        for secret in rules.SECRETS:
            self.assertIn(secret, text)

    def test_the_gateway_accepts_its_settings(self):
        binary = os.environ["GATEWAY_BINARY"]
        for overlay, items in BUILT.items():
            variables = environment(items, container(items))
            secret = {"TIDEGATE_AUTH_KEYS": variables["TIDEGATE_AUTH_KEYS"].replace("/etc/tidegate/keys/token.key", f"{ROOT}/LICENSE-MIT")}
            url = variables.get("TIDEGATE_REDIS_URL", "redis://:secret@redis.example.com:6379").replace("$(REDIS_PASSWORD)", "0f" * 16)
            given = variables | secret | {"TIDEGATE_REDIS_URL": url, "TIDEGATE_INSTANCE": "tidegate-7d4b9c-x2x9v"}
            answer = subprocess.run([binary, "serve", "--check-config"], env=given, capture_output=True, text=True)
            with self.subTest(overlay):
                self.assertEqual(answer.returncode, 0, answer.stderr)
            given["TIDEGATE_DRAIN_GRACE_MS"] = "35000"
            answer = subprocess.run([binary, "serve", "--check-config"], env=given, capture_output=True, text=True)
            self.assertNotEqual(answer.returncode, 0, "a drain that does not fit is accepted")


class Network(unittest.TestCase):
    def test_what_must_connect_may_and_nothing_else(self):
        outside = network.Peer({}, namespace=None)
        for overlay, items in BUILT.items():
            gateways, haproxy = network.peer(items, "Deployment", "tidegate"), network.peer(items, "Deployment", "tidegate-haproxy")
            prometheus, stranger = network.Peer({}, "monitoring"), network.Peer({"app": "x"})
            dns, dns_port = (network.Peer({}, "openshift-dns"), 5353) if "openshift" in overlay else (network.Peer({}, "kube-system"), 53)
            expected = {
                ("haproxy", "gateway", "clients"): (haproxy, gateways, True),
                ("haproxy", "gateway", "agent"): (haproxy, gateways, True),
                ("haproxy", "gateway", "admin"): (haproxy, gateways, False),
                ("stranger", "gateway", "clients"): (stranger, gateways, False),
                ("prometheus", "gateway", "admin"): (prometheus, gateways, True),
                ("prometheus", "haproxy", "statistics"): (prometheus, haproxy, True),
                ("stranger", "haproxy", "clients"): (stranger, haproxy, True),
                ("outside", "haproxy", "clients"): (outside, haproxy, True),
                ("outside", "haproxy", "statistics"): (outside, haproxy, False),
                ("gateway", "gateway", "admin"): (gateways, gateways, False),
            }
            if of_kind(items, "StatefulSet"):
                redis = network.peer(items, "StatefulSet", "tidegate-redis")
                publisher = network.Peer({"tidegate.io/publisher": "true"})
                expected |= {
                    ("gateway", "redis", "redis"): (gateways, redis, True),
                    ("gateway", "redis", "sentinel"): (gateways, redis, True),
                    ("redis", "redis", "redis"): (redis, redis, True),
                    ("redis", "redis", "sentinel"): (redis, redis, True),
                    ("publisher", "redis", "redis"): (publisher, redis, True),
                    ("prometheus", "redis", "metrics"): (prometheus, redis, True),
                    ("stranger", "redis", "redis"): (stranger, redis, False),
                    ("haproxy", "redis", "redis"): (haproxy, redis, False),
                }
            else:
                expected["gateway", "outside", 6379] = (gateways, outside, True)
            for (source, target, port), (of, to, wanted) in expected.items():
                with self.subTest(overlay, source=source, target=target, port=port):
                    self.assertEqual(network.allowed(items, of, to, port), wanted)
            for source in (gateways, haproxy):
                self.assertTrue(network.allowed(items, source, dns, dns_port, "UDP"), overlay)


# A rule, and a change of the base that it must see.
PLANTED = [
    (rules.one_autoscaler_owns_replicas, lambda items: gateway(items)["spec"].update(replicas=3)),
    (rules.one_autoscaler_owns_replicas, lambda items: items.append(copy.deepcopy(one(items, "HorizontalPodAutoscaler", "tidegate")))),
    (rules.autoscaler_is_the_owners, lambda items: hpa(items).update(minReplicas=9, maxReplicas=6)),
    (rules.autoscaler_is_the_owners, lambda items: hpa(items)["metrics"][0]["pods"]["target"].update(averageValue="500 conns")),
    (rules.autoscaler_is_the_owners, lambda items: hpa(items)["behavior"]["scaleUp"].update(stabilizationWindowSeconds=120)),
    (rules.autoscaler_is_the_owners, lambda items: hpa(items)["behavior"]["scaleDown"].update(stabilizationWindowSeconds=60)),
    (rules.autoscaler_is_the_owners, lambda items: hpa(items)["behavior"]["scaleDown"]["policies"][0].update(periodSeconds=15)),
    (rules.drain_fits, lambda items: pod(gateway(items)).update(terminationGracePeriodSeconds=30)),
    (rules.drain_fits, lambda items: container(items)["lifecycle"]["preStop"]["sleep"].update(seconds=20)),
    (rules.drain_fits, lambda items: gateway(items)["spec"].pop("minReadySeconds")),
    (rules.drain_fits, lambda items: gateway(items)["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable="25%")),
    (rules.pre_stop_needs_no_shell, lambda items: container(items)["lifecycle"].update(preStop={"exec": {"command": ["sleep", "10"]}})),
    (rules.probes_are_apart_from_clients, lambda items: container(items)["livenessProbe"]["httpGet"].update(port="clients")),
    (rules.probes_are_apart_from_clients, lambda items: container(items)["readinessProbe"].pop("timeoutSeconds")),
    (rules.probes_are_apart_from_clients, lambda items: container(items)["livenessProbe"].update(failureThreshold=1)),
    (rules.ports_have_names, lambda items: container(items)["readinessProbe"]["httpGet"].update(port="health")),
    (rules.ports_have_names, lambda items: one(items, "Service", "tidegate")["spec"]["ports"][0].update(targetPort="http")),
    (rules.ports_have_names, lambda items: one(items, "Service", "tidegate-gateways")["spec"]["selector"].update(app="x")),
    (rules.selectors_select, lambda items: one(items, "PodDisruptionBudget", "tidegate")["spec"]["selector"]["matchLabels"].update(x="y")),
    (rules.selectors_select, lambda items: items.remove(one(items, "NetworkPolicy", "tidegate-redis"))),
    (rules.references_exist, lambda items: container(items)["envFrom"][0]["configMapRef"].update(name="settings")),
    (rules.references_exist, lambda items: pod(gateway(items))["volumes"][0]["secret"].update(secretName="keys")),
    (rules.pods_are_restricted, lambda items: container(items)["securityContext"].pop("readOnlyRootFilesystem")),
    (rules.pods_are_restricted, lambda items: container(items, "tidegate-haproxy")["resources"].pop("limits")),
    (rules.haproxy_follows_the_fleet, lambda items: one(items, "Service", "tidegate-gateways")["spec"].pop("publishNotReadyAddresses")),
    (rules.haproxy_follows_the_fleet, lambda items: set_env(items, "LB_GATEWAYS_MAX", "20")),
    (rules.haproxy_follows_the_fleet, lambda items: set_env(items, "LB_MAXCONN", "6000")),
    (rules.haproxy_follows_the_fleet, lambda items: set_env(items, "LB_GATEWAY_MAX", "24")),
    (rules.clients_have_addresses, lambda items: set_env(items, "TIDEGATE_HTTP_TRUSTED_PROXIES", "", "tidegate")),
    (rules.clients_have_addresses, lambda items: set_env(items, "TIDEGATE_HTTP_FORWARDED_HEADER", "forwarded", "tidegate")),
]


def set_env(items, wanted, value, deployment="tidegate-haproxy"):
    variables = container(items, deployment).setdefault("env", [])
    variables[:] = [env for env in variables if env["name"] != wanted] + [{"name": wanted, "value": value}]


class Rules(unittest.TestCase):
    def test_every_planted_fault_is_seen(self):
        self.assertEqual({rule for rule, _ in PLANTED} | {rules.keda_does_not_read_silence_as_zero}, set(rules.RULES))
        for number, (rule, plant) in enumerate(PLANTED):
            items = copy.deepcopy(BUILT["base"])
            plant(items)
            with self.subTest(number=number, rule=rule.__name__):
                self.assertNotEqual(rule(items), [])

    def test_keda_faults_are_seen(self):
        for plant in (
            lambda spec: spec["triggers"][0]["metadata"].pop("ignoreNullValues"),
            lambda spec: spec["triggers"][0].update(metricType="Value"),
            lambda spec: spec["triggers"][0]["metadata"].update(query="sum(tidegate_connections)"),
            lambda spec: spec.pop("fallback"),
        ):
            items = copy.deepcopy(BUILT["overlays/keda"])
            plant(one(items, "ScaledObject", "tidegate")["spec"])
            self.assertNotEqual(rules.keda_does_not_read_silence_as_zero(items), [])

    def test_the_schemas_see_misspelt_fields(self):
        for overlay, kind, wanted, plant in (
            ("base", "Deployment", "tidegate", lambda spec: spec.update(minReadySecond=30)),
            ("base", "HorizontalPodAutoscaler", "tidegate", lambda spec: spec["behavior"]["scaleDown"].update(windowSeconds=1)),
            ("overlays/keda", "ScaledObject", "tidegate", lambda spec: spec["fallback"].update(failureTreshold=3)),
            ("overlays/keda", "ScaledObject", "tidegate", lambda spec: spec.update(minReplicaCount="three")),
            ("overlays/openshift", "Route", "tidegate", lambda spec: spec["tls"].update(termination="Edge")),
            ("overlays/gateway-api", "HTTPRoute", "tidegate", lambda spec: spec["rules"][0].update(timeout="0s")),
            ("overlays/gateway-api", "Gateway", "tidegate", lambda spec: spec["listeners"][0].pop("port")),
        ):
            items = copy.deepcopy(BUILT[overlay])
            plant(one(items, kind, wanted)["spec"])
            with self.subTest(overlay, kind=kind):
                self.assertEqual(len(schemas.faults(items, CUSTOM)), 1)


if __name__ == "__main__":
    unittest.main()
