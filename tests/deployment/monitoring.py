"""Reads the alerts and the dashboards of deploy/."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml

from orchestrator.cli.stack import ROOT

DASHBOARDS = sorted((ROOT / "deploy/grafana").glob("*.json"))
#: The names that Prometheus gives to the parts of a histogram.
PARTS = re.compile(r"_(bucket|sum|count)$")


@cache
def alerts() -> Mapping[str, dict[str, Any]]:
    """Return the alerts by name."""
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


@cache
def dashboard(name: str) -> dict[str, Any]:
    """Return a dashboard by the name of its file."""
    read: dict[str, Any] = json.loads((ROOT / "deploy/grafana" / name).read_text("utf-8"))
    return read


def targets() -> Iterator[tuple[str, str]]:
    """Yield the title of a panel and an expression of it, of every dashboard."""
    for path in DASHBOARDS:
        for panel in dashboard(path.name)["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']}", target["expr"]


def metrics_in(expression: str) -> set[str]:
    """Return the metrics that an expression names. A part of a histogram counts as the whole."""
    without_labels = re.sub(r"\{[^}]*\}", "", expression)
    names = re.findall(r"\borchestrator_\w+", without_labels)
    return {PARTS.sub("", name) for name in names}


def filled(expression: str) -> str:
    """Return the expression of a panel as Grafana sends it, for every provider."""
    values = {"$__rate_interval": "1m", "$__range": "1m", "$provider": ".*"}
    for name, value in values.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression
