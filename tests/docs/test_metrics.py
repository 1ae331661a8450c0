"""docs/metrics.md has every metric, and the values of labels."""

from __future__ import annotations

from orchestrator.jobs.model import SettledBy, Step
from orchestrator.metrics import DEFINITIONS, Source
from orchestrator.metrics.labels import (
    ARCHIVE_RESULTS,
    NOTIFY_RESULTS,
    CallKind,
    CallResult,
)
from tests.docs.pages import DocPage, code

PAGE = DocPage("docs/metrics.md")


def test_the_table_is_that_of_the_code() -> None:
    rows = [
        [f"`{d.name}`", d.kind, ", ".join(f"`{each}`" for each in d.labels), d.source, d.meaning]
        for d in DEFINITIONS.values()
    ]
    documented = [[cell.strip() for cell in row] for row in _rows("metric")]
    assert documented == [[str(cell) for cell in row] for row in rows]


def test_the_values_of_labels_are_those_of_the_code() -> None:
    values = {name: code(cell) for names, cell in _rows("label") for name in code(names)}
    assert values["settled_by"] == [*SettledBy]
    assert values["call"] == [*CallKind]
    assert values["step"] == [*Step]
    results = {*CallResult, *ARCHIVE_RESULTS, *NOTIFY_RESULTS}
    assert set(values["result"]) == results
    assert {source for source in PAGE.column("from") if source} == {*Source} - {Source.NONE}


def _rows(header: str) -> list[list[str]]:
    """Return the cells of a table. A cell may be empty."""
    table = PAGE.text.split(f"\n| {header} |")[1].split("\n\n")[0]
    lines = table.splitlines()[2:]
    return [[cell.strip() for cell in line[2:-2].split(" | ")] for line in lines]
