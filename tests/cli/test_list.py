"""`orchestrator list`, `history` and a job of the history on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.history.history import History
from orchestrator.ledger import keys
from orchestrator.operations.filters import FILTERS
from tests.history.kit import started
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
    harness = made.with_runtime(open_history=lambda: history)
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


@pytest.mark.parametrize(
    "words",
    [
        ["--at-risk", "--status", "failed"],
        ["--unconfirmed", "--metadata", "sku=17"],
        ["--unconfirmed", "--at-risk"],
    ],
    ids=" ".join,
)
def test_a_list_of_what_is_at_risk_ignores_no_filter(recorded: Harness, words: list[str]) -> None:
    shown = run("list", *words)

    assert shown.exit_code == 2
    assert "--unconfirmed, --at-risk and filters exclude each other" in shown.output


@pytest.mark.parametrize(
    "words",
    [
        ["--q", "\udcff"],
        ["--model", "\udcff"],
        ["--task-id", "\udcff"],
        ["--batch", "\udcff"],
        ["--metadata", "\udcff=1"],
        ["--metadata", "a=\udcff"],
        ["--idempotency-key", "\udcff"],
    ],
    ids=" ".join,
)
def test_bytes_that_are_no_text_are_refused_by_name(recorded: Harness, words: list[str]) -> None:
    """Python hands them on as surrogates, which nothing can store."""
    shown = run("list", *words)

    assert shown.exit_code == 2
    assert words[0].strip("-").replace("-", "_") in shown.output


def test_verify_says_how_the_history_is_mended(
    recorded: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_runtime(monkeypatch, replace(recorded.runtime, sleep=lambda _: None))
    job_id = recorded.enqueue()
    started(recorded.ledger, recorded.runtime.history)
    assert (run("verify").exit_code, run("verify").stderr) == (0, "")
    recorded.redis.hset(keys.job(job_id), "model", "another")

    shown = run("verify")

    assert shown.exit_code == 1
    assert shown.stderr == "To write these jobs into the history: orchestrator history rebuild\n"


def test_verify_says_that_it_did_not_compare_the_history(
    recorded: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.db").write_text("no database" * 100)
    with closing(History(f"sqlite:///{tmp_path}/bad.db")) as bad:
        use_runtime(monkeypatch, replace(recorded.runtime, open_history=lambda: bad))

        shown = run("verify")

    assert shown.exit_code == 0
    assert shown.stderr == (
        "The history is away, so it was not compared. See: orchestrator doctor\n"
    )
