"""The dashboards of deploy/grafana: their form, and the metrics of each panel."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from orchestrator.metrics import DEFINITIONS
from tests.deployment.monitoring import DASHBOARDS, dashboard, metrics_in, targets

NAMES = [path.name for path in DASHBOARDS]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
#: Grafana divides the width of a dashboard into this many columns.
COLUMNS = 24


def test_there_are_three_and_each_has_its_own_address() -> None:
    assert NAMES == ["delivery.json", "overview.json", "provider.json"]
    assert len({dashboard(name)["uid"] for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_data_source_is_a_variable_of_the_dashboard(name: str) -> None:
    board = dashboard(name)
    variables = {each["name"]: each for each in board["templating"]["list"]}

    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    for each in (*panels(board), *(v for v in variables.values() if v["type"] == "query")):
        assert each["datasource"] == SOURCE, each["name" if "name" in each else "title"]
    uses = any("$provider" in t["expr"] for panel in panels(board) for t in panel["targets"])
    assert uses == ("provider" in variables)


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_places_of_their_own(name: str) -> None:
    board = dashboard(name)
    everything = board["panels"]

    assert len({panel["id"] for panel in everything}) == len(everything)
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS
    for one, other in combinations(everything, 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_has_a_title_a_unit_and_expressions(name: str) -> None:
    for panel in panels(dashboard(name)):
        assert panel["title"]
        assert panel["type"] in {"stat", "timeseries", "heatmap"}
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for target in panel["targets"]:
            assert target["datasource"] == SOURCE
            assert metrics_in(target["expr"])


def test_every_expression_names_metrics_of_ours_and_uses_counters_as_rates() -> None:
    for panel, expression in targets():
        for name in metrics_in(expression):
            assert name in DEFINITIONS, panel
            grows = DEFINITIONS[name].kind != "gauge"
            assert grows == ("rate(" in expression or "increase(" in expression), panel


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not (beside or below)
