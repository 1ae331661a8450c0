"""`orchestrator bulk`: the preview, the question, the progress."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from math import inf
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.steps.bulk import act_on_part
from tests.support import job_states
from tests.support.fakes import Harness, use_runtime

#: The package has a command of the same name.
module = import_module("orchestrator.cli.bulk")


@pytest.fixture(autouse=True)
def workers(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker act while the command waits."""

    def act(_: float) -> None:
        act_on_part(harness.runtime, inf)

    use_runtime(monkeypatch, replace(harness.runtime, sleep=act))


def run(*words: str, **options: Any) -> Result:
    return CliRunner().invoke(main, ["bulk", *words], **options)


def test_a_dry_run_shows_jobs_and_refusals_and_does_nothing(harness: Harness) -> None:
    job_id = harness.enqueue(metadata={"sku": 17})
    job_states.running(harness, metadata={"sku": 17})
    harness.enqueue()

    shown = run("cancel", "--metadata", "sku=17", "--dry-run")
    found = json.loads(run("cancel", "--all", "--dry-run", "--json").output)

    assert shown.exit_code == 0, shown.output
    assert "cancel: 1 of 2 jobs (1 queued, 1 running)" in shown.output.replace(
        "1 running, 1 queued", "1 queued, 1 running"
    )
    assert "1 refused: it is running; only a queued job can be cancelled" in shown.output
    assert (found["state"], found["total"], found["applies_to"]) == ("previewed", 3, 2)
    assert harness.job(job_id).status == "queued"


def test_with_yes_and_wait_it_is_done_when_the_command_ends(harness: Harness) -> None:
    job_id = harness.enqueue()

    shown = run("cancel", "--status", "queued", "--yes", "--wait", "--json")

    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert (found["state"], found["done"]) == ("done", 1)
    assert harness.job(job_id).status == "cancelled"
    assert run("show", found["id"]).output.startswith(f"{found['id']}: cancel is done, 1 of 1")
    assert run("show", "bulk_" + "0" * 26).exit_code == 1


def test_without_wait_it_says_how_to_look(harness: Harness) -> None:
    job_states.given_up(harness)

    shown = run("retry", "--all", "--yes")

    assert shown.exit_code == 0, shown.output
    assert "1 jobs may have been charged already; they are left out" in shown.output
    bulk_id = shown.output.split()[-1]
    assert f"orchestrator bulk show {bulk_id}" in shown.output
    ended = run("show", bulk_id, "--wait", "--json")
    assert json.loads(ended.output)["refused"][0]["jobs"] == 1


def test_jobs_that_changed_meanwhile_make_the_command_fail(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = harness.enqueue()
    start = module.operations.start

    def late(*args: Any, **options: Any) -> Any:
        job_states.claimed(harness, job_id)
        return start(*args, **options)

    monkeypatch.setattr(module.operations, "start", late)

    assert run("cancel", "--all", "--yes", "--wait").exit_code == 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["cancel", "--yes"], "name at least one filter, or use --all"),
        (["cancel", "--all", "--status", "queued", "--yes"], "filters and --all exclude each"),
        (["cancel", "--all"], "without a terminal nobody can be asked; use --yes or --dry-run"),
        (["cancel", "--created-after", "soon", "--yes"], "created_after must be a time"),
    ],
)
def test_a_wrong_call_is_refused_with_the_reason(words: list[str], problem: str) -> None:
    shown = run(*words)

    assert shown.exit_code != 0
    assert problem in shown.output


@pytest.mark.parametrize(("answer", "status"), [("n", "queued"), ("y", "cancelled")])
def test_at_a_terminal_it_asks(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, answer: str, status: str
) -> None:
    monkeypatch.setattr(module, "has_terminal", lambda: True)
    job_id = harness.enqueue()

    shown = run("cancel", "--all", "--wait", input=answer)

    assert "cancel 1 jobs? [y/N]" in shown.output
    assert harness.job(job_id).status == status


def test_ctrl_c_leaves_it_running_and_says_how_to_look(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    use_runtime(monkeypatch, replace(harness.runtime, sleep=interrupt))
    job_id = harness.enqueue()

    shown = run("cancel", "--all", "--yes", "--wait")

    assert shown.exit_code == 130
    assert "It goes on. To see how far it is: orchestrator bulk show bulk_" in shown.output
    act_on_part(harness.runtime, inf)
    assert harness.job(job_id).status == "cancelled"


def test_actions_are_listed_and_stopped(harness: Harness) -> None:
    harness.enqueue()
    first, second = (
        json.loads(run("cancel", "--all", "--yes", "--json").stdout)["id"] for _ in range(2)
    )

    stopped = run("stop", first)
    listed = json.loads(run("list", "--json").output)["actions"]

    assert stopped.exit_code == 0, stopped.output
    assert stopped.output == f"{first}: cancel is stopped, 0 of 1 jobs\n"
    assert [(each["id"], each["state"]) for each in listed] == [
        (second, "running"),
        (first, "stopped"),
    ]
    assert listed[1]["stopped_by"]
    assert first in run("list").output
    assert json.loads(run("list", "--tenant", "shop", "--json").output) == {"actions": []}
    assert len(json.loads(run("list", "--limit", "1", "--json").output)["actions"]) == 1
    for command in ("stop", "show"):
        unknown = run(command, "bulk_" + "0" * 26)
        assert (unknown.exit_code, "bulk_0" in unknown.output) == (1, True)
        assert unknown.output.endswith("; see: orchestrator bulk list\n")
