"""`orchestrator list`, `history` and a job of the history on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.history.history import History
from orchestrator.operations.filters import FILTERS
from tests.support import job_states
from tests.support.fakes import Harness, use_runtime


@pytest.fixture
def recorded(
    start: Callable[..., Harness], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Harness]:
    """A harness with an empty history. It is the runtime of the command."""
    folder = {"ORCHESTRATOR_ARCHIVE_URL": (tmp_path / "archive").as_uri()}
    made = start(**folder)
    history = History(f"sqlite:///{tmp_path}/history/history.db")
    harness = replace(made, runtime=replace(made.runtime, open_history=lambda: history))
    use_runtime(monkeypatch, harness.runtime)
    yield harness
    history.close()


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def ids(*words: str) -> list[str]:
    shown = run("list", *words, "--json")
    assert shown.exit_code == 0, shown.output
    return [job["id"] for job in json.loads(shown.output)["jobs"]]


def test_every_filter_narrows_the_list(recorded: Harness) -> None:
    job_id = recorded.enqueue(metadata={"sku": 17})
    cancelled = job_states.cancelled(recorded, "evolink")

    assert ids() == [cancelled, job_id]
    assert ids("--limit", "1") == [cancelled]
    assert ids("--metadata", "sku=17") == ids("--q", job_id) == [job_id]
    assert ids("--status", "cancelled", "--error", "cancelled") == [cancelled]
    assert ids("--model", "Nano-Banana-2", "--tenant", "tests") == [job_id]
    assert ids("--created-before", "2001-01-01") == []
    assert ids("--archive", "done") == ids("--notification", "gone") == []
    help_ = run("list", "--help").output
    assert all(f"--{name.replace('_', '-')}" in help_ for name in FILTERS if "<" not in name)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--metadata", "sku"], "'sku' is not KEY=VALUE"),
        (["--created-after", "soon"], "created_after must be a time such as 2026-11-28T16:00:00Z"),
        (["--tenant", "a b"], "tenant must be 1 to 64 letters"),
    ],
)
def test_a_wrong_filter_is_one_line(recorded: Harness, words: list[str], problem: str) -> None:
    shown = run("list", *words)

    assert shown.exit_code != 0
    assert problem in shown.output


def test_a_rebuilt_history_shows_what_redis_has_forgotten(recorded: Harness) -> None:
    job_id = job_states.cancelled(recorded)
    before = json.loads(run("get", job_id, "--json").output)

    rebuilt = run("history", "rebuild", "--json")
    assert json.loads(rebuilt.output) == {"from_ledger": 1, "from_manifests": 0}
    recorded.ledger.overview.forget(job_id, before=recorded.clock() + 1)

    assert json.loads(run("get", job_id, "--json").output) == before
    assert ids() == [job_id]
    assert "history: " in run("stats").output
