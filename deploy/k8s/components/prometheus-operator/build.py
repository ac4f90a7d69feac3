#!/usr/bin/env python3
"""Writes prometheusrule.yaml from deploy/prometheus/rules. Run it after a change there; a test compares them."""

import pathlib

import yaml

HERE = pathlib.Path(__file__).resolve().parent
RULES = HERE.parents[2] / "prometheus/rules"


def text():
    groups = [group for file in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(file.read_text())["groups"]]
    metadata = {"name": "tidegate", "labels": {"app.kubernetes.io/name": "tidegate"}}
    rule = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": metadata, "spec": {"groups": groups}}
    return "# Written by build.py, from deploy/prometheus/rules.\n" + yaml.safe_dump(rule, sort_keys=False, width=120)


if __name__ == "__main__":
    (HERE / "prometheusrule.yaml").write_text(text())
