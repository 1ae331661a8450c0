"""The benchmark of whole jobs runs, in a short form."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest

from benchmarks import product as product_module
from benchmarks import stub_provider
from benchmarks.completions import add, alternate, play
from benchmarks.product import JobKind, Product
from benchmarks.report import Report
from tests.support.fork_server import ForkedStack

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

JOBS = 5


def test_whole_jobs_are_played_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product_module, "Stack", ForkedStack)
    kinds = {"plain": JobKind(), "image": JobKind("evolink", images=True, notify=True)}
    web = {"WEB_CONCURRENCY": "1"}
    with (
        stub_provider.running(tmp_path) as (provider, _),
        Product(tmp_path / "p", provider, settings=web) as product,
    ):
        players = {name: partial(play, product, provider, kind) for name, kind in kinds.items()}
        results = alternate(players, JOBS, rounds=1)
        figures, paid = provider.figures(), provider.paid()

    assert figures.submissions == figures.accepted_callbacks == 4 * JOBS
    assert figures.downloads == figures.notifications == 2 * JOBS
    assert set(paid.values()) == {1}
    report = Report("completions", "a test")
    add(report, results)
    assert {s.label for s in report.series} == {"plain", "image", "web", "worker", "redis", "all"}
    assert all(value > 0 for s in report.series if s.unit == "/s" for value in s.values)
