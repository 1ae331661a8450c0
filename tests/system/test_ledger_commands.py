"""The commands that look over the ledger, cancel and retry, on the running stack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from click.testing import Result
from redis import Redis

from orchestrator.cli.processes import PROCESSES
from orchestrator.clock import now_ms
from orchestrator.history import HistoryUnavailable
from orchestrator.jobs.model import Status
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import Ledger, keys
from orchestrator.operations.invariants import INVARIANTS
from orchestrator.runtime import default_runtime
from tests.support.providers import EXAMPLE_MODELS, POLLED_WITH_KEYS, POLLED_WITHOUT_KEYS
from tests.system.conftest import Client, cli, eventually

#: Which job goes which way: its provider, the sandbox' fault, and more of its request.
LIVES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "plain": ("evolink", "", {}),
    "doubled": ("hiapi", "duplicate=3", {}),
    "contradicted": ("hiapi", "conflict", {}),
    "asked again": (POLLED_WITH_KEYS, "lost_response", {}),
    "called back": ("evolink", "lost_response, late=1s", {}),
    "failed": ("hiapi", "fail", {}),
    "given up": ("evolink", "lost_response, drop", {"deadline_seconds": 2}),
    "given up too": (POLLED_WITHOUT_KEYS, "lost_response", {}),
    "resubmitted": (POLLED_WITHOUT_KEYS, "lost_response", {"on_unconfirmed": "resubmit"}),
}


def json_of(done: Result) -> Any:
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def played(stack: Any) -> dict[str, str]:
    """A job for each life, once they are over; their ids."""
    client = Client(stack)
    ids = {}
    for life, (provider, fault, more) in LIVES.items():
        text = f"{uuid4()} [sandbox: {fault}]" if fault else str(uuid4())
        ids[life] = client.enqueue(provider, text, **more)
    for job_id in ids.values():
        client.outcome(job_id)
    return ids


@pytest.fixture
def waiting(client: Client) -> str:
    """A job that is not due for a minute; its id."""
    ledger, later = Ledger.from_url(client.stack.redis_url or ""), now_ms() + 60_000
    request = JobRequest("hiapi", EXAMPLE_MODELS["hiapi"], {"prompt": "Later"})
    return ledger.create(request, now=later, deadline_at=later + 60_000).job_id


# Lists -------------------------------------------------------------------------------------


def test_list_shows_the_newest_jobs_first(here: Client, played: dict[str, str]) -> None:
    newest = sorted(played.values(), reverse=True)

    shown = cli("list", "--limit", "500")
    listed = [job["id"] for job in json_of(cli("list", "--limit", "500", "--json"))["jobs"]]

    assert shown.exit_code == 0
    assert [job_id for job_id in listed if job_id in newest] == newest
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:]] == listed
    assert len(json_of(cli("list", "--limit", "3", "--json"))["jobs"]) == 3


def test_list_takes_a_status_and_a_provider(here: Client, played: dict[str, str]) -> None:
    words = ["--status", "failed", "--provider", "evolink", "--limit", "500"]

    jobs = json_of(cli("list", *words, "--json"))["jobs"]

    assert {(job["status"], job["provider"]) for job in jobs} == {("failed", "evolink")}
    assert played["given up"] in [job["id"] for job in jobs]
    assert "submission_unconfirmed" in cli("list", *words).stdout


@pytest.mark.parametrize(
    "words",
    [
        ["list", "--status", "done"],
        ["list", "--provider", "nobody"],
        ["list", "--limit", "0"],
        ["list", "--limit", "ten"],
        ["list", "more"],
        ["cancel"],
        ["retry"],
        ["stats", "more"],
        ["verify", "--tasks", "/nowhere.json"],
    ],
    ids=" ".join,
)
def test_odd_words_are_refused(here: Client, words: list[str]) -> None:
    refused = cli(*words)

    assert refused.exit_code == 2
    assert "Traceback" not in refused.output


def test_list_unconfirmed_tells_what_may_be_paid_in_vain(
    here: Client, played: dict[str, str]
) -> None:
    told = json_of(cli("list", "--unconfirmed", "--limit", "500", "--json"))
    shown = cli("list", "--unconfirmed", "--limit", "500")

    lost = {played[life] for life in ("given up", "given up too", "resubmitted")}
    seen = {entry["job_id"]: entry for entry in told["attempts"]}
    assert lost <= set(seen)
    assert played["asked again"] not in seen
    assert played["called back"] not in seen
    assert seen[played["given up"]]["status"] == "failed"
    assert told["number"] == len(told["attempts"])
    assert all(job_id in shown.stdout for job_id in lost)
    assert f"{told['number']} in all. Money at risk: " in shown.stdout


def test_stats_adds_up(here: Client, played: dict[str, str], waiting: str) -> None:
    told, shown = json_of(cli("stats", "--json")), cli("stats")

    assert set(told["jobs"]) == set(Status)
    assert told["jobs"]["succeeded"] >= 5
    assert told["jobs"]["failed"] >= 3
    assert told["jobs"]["queued"] >= 1
    assert told["unconfirmed"]["attempts"] >= 3
    assert told["contradictions"]["duplicate"] >= 1
    assert told["last_sweep_seconds_ago"] < 30
    alive = {process["kind"] for process in told["processes"] if not process["silent"]}
    assert alive >= {"web", "worker", "beat", "intake"}
    assert shown.exit_code == 0
    assert "unconfirmed attempts: " in shown.stdout
    assert cli("cancel", waiting).exit_code == 0


# Cancel and retry --------------------------------------------------------------------------


def test_cancel_calls_off_what_was_not_sent(here: Client, waiting: str) -> None:
    told = cli("cancel", waiting)
    again = cli("cancel", waiting, "--json")

    assert (told.exit_code, told.stdout) == (0, f"{waiting} is cancelled\n")
    assert again.exit_code == 0
    assert json_of(again)["status"] == "cancelled"


def test_cancel_refuses_what_was_sent(here: Client, played: dict[str, str]) -> None:
    told = cli("cancel", played["plain"])

    assert told.exit_code == 1
    assert "is succeeded. Only a queued job can be cancelled" in told.output


def test_a_failed_job_is_retried_once(here: Client, played: dict[str, str]) -> None:
    first, second = cli("retry", played["failed"]), cli("retry", played["failed"], "--json")

    assert (first.exit_code, second.exit_code) == (0, 0)
    new = first.stdout.strip()
    assert new not in played.values()
    assert json_of(second)["id"] == new
    assert here.outcome(new)["status"] == "failed"


def test_a_job_that_may_be_paid_is_retried_with_yes_only(
    here: Client, played: dict[str, str]
) -> None:
    job_id = played["given up too"]

    refused, taken = cli("retry", job_id), cli("retry", job_id, "--yes")

    assert refused.exit_code == 1
    assert f"{job_id}: its request may have been charged" in refused.output
    assert "--yes" in refused.output
    assert taken.exit_code == 0
    assert here.outcome(taken.stdout.strip())["settled_at"]


@pytest.mark.parametrize("words", [[], ["--yes"]])
def test_a_job_that_succeeded_is_not_retried(
    here: Client, played: dict[str, str], words: list[str]
) -> None:
    told = cli("retry", played["plain"], *words)

    assert told.exit_code == 1
    assert "it succeeded; enqueue another job for more images" in told.output


@pytest.mark.parametrize("command", ["cancel", "retry"])
@pytest.mark.parametrize("job_id", ["job_nothing", "job_" + "0" * 28])
def test_an_unknown_job_has_exit_status_1(here: Client, command: str, job_id: str) -> None:
    told = cli(command, job_id)

    assert told.exit_code == 1
    assert "does not exist" in told.output


# The sweep, by hand ------------------------------------------------------------------------


def test_reconcile_sweeps_once(here: Client) -> None:
    told = cli("reconcile", "--json")

    assert told.exit_code == 0
    assert json_of(told)["due"] >= 0
    assert cli("reconcile").stdout.endswith(" jobs were due\n")


# Verify ------------------------------------------------------------------------------------


def test_after_every_fault_the_promise_holds_for_each_charge(
    here: Client, played: dict[str, str]
) -> None:
    for job_id in played.values():
        here.outcome(job_id)
    words = ["verify", "--images", "--sandbox", here.stack.sandbox_url or ""]

    told, shown = cli(*words, "--json"), cli(*words)

    assert told.exit_code == 0, told.output
    found = json_of(told)
    assert found["ok"] is True
    # The history is left out while the recorder is behind, on a busy machine.
    names = {one["name"] for one in found["invariants"]}
    assert names | {"recorded"} == set(INVARIANTS)
    looked_at = {one["name"]: one["looked_at"] for one in found["invariants"]}
    assert min(looked_at["charged"], looked_at["paid_once"]) >= len(played)
    assert shown.exit_code == 0
    assert shown.stdout.count("holds") >= len(INVARIANTS) - 1


def test_without_a_list_of_charges_only_the_ledger_is_verified(here: Client) -> None:
    told = cli("verify", "--json")

    assert told.exit_code == 0, told.output
    assert {one["name"] for one in json_of(told)["invariants"]} | {"recorded"} == (
        set(INVARIANTS) - {"charged", "paid_once", "stored"}
    )


@contextmanager
def wrongly_at_risk(client: Client, attempt: str) -> Iterator[None]:
    """An attempt whose task is known stands among those of unknown fate."""
    redis = Redis.from_url(client.stack.redis_url or "", decode_responses=True)
    redis.zadd(keys.unconfirmed(0), {attempt: now_ms()})
    try:
        yield
    finally:
        redis.zrem(keys.unconfirmed(0), attempt)


def test_a_broken_promise_is_named_with_exit_status_1(here: Client, played: dict[str, str]) -> None:
    attempt = f"{played['plain']}.1"

    with wrongly_at_risk(here, attempt):
        told, shown = cli("verify", "--json"), cli("verify")

    assert (told.exit_code, shown.exit_code) == (1, 1)
    assert json_of(told)["ok"] is False
    broken = {i["name"]: i["breaches"] for i in json_of(told)["invariants"] if i["breaches"]}
    assert broken == {"unconfirmed": [attempt]}
    assert shown.stdout.count("broken") == 1
    assert attempt in shown.stdout


def all_tasks(client: Client) -> list[dict[str, Any]]:
    listed = requests.get(f"{client.stack.sandbox_url}/control/tasks", timeout=60).json()
    return list(listed)


def charged(client: Client, tmp_path: Path, *more: dict[str, str]) -> str:
    """A file of what the providers charged."""
    tasks = [{"provider": t["provider"], "task_id": t["id"]} for t in all_tasks(client)]
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps([*tasks, *more]))
    return str(file)


def test_charges_may_come_from_a_file(here: Client, played: dict[str, str], tmp_path: Path) -> None:
    stray = {"provider": "evolink", "task_id": "task-of-nobody"}

    assert cli("verify", "--tasks", charged(here, tmp_path)).exit_code == 0
    unknown = cli("verify", "--tasks", charged(here, tmp_path, *[stray] * 500), "--json")

    assert unknown.exit_code == 1
    broken = {i["name"]: i["breaches"] for i in json_of(unknown)["invariants"] if i["breaches"]}
    assert set(broken) == {"charged"}
    assert set(broken["charged"]) == {"evolink task-of-nobody"}


@pytest.mark.parametrize(
    "content",
    ["", "{", "7", '"x"', "[7]", "[{}]", '[{"provider": "hiapi"}]',
     '[{"provider": "nobody", "task_id": "x"}]', '[{"provider": "hiapi", "task_id": 7}]'],
)  # fmt: skip
def test_a_file_that_lists_no_charges_is_refused(
    here: Client, tmp_path: Path, content: str
) -> None:
    (tmp_path / "tasks.json").write_text(content)

    told = cli("verify", "--tasks", str(tmp_path / "tasks.json"))

    assert told.exit_code == 2
    assert 'a JSON list of {"provider": "hiapi", "task_id": "..."}' in told.output


def test_a_sandbox_that_is_not_there_is_told(here: Client) -> None:
    told = cli("verify", "--sandbox", "http://127.0.0.1:1")

    assert told.exit_code == 1
    assert "http://127.0.0.1:1 returned no list of tasks" in told.output


@pytest.mark.parametrize("command", ["list", "stats", "verify", "reconcile"])
def test_a_redis_that_is_away_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, here: Client, command: str
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", "redis://127.0.0.1:1/0")
    default_runtime.cache_clear()

    told = cli(command)

    assert told.exit_code == 1
    assert "orchestrator doctor" in told.output
    assert "Traceback" not in told.output


def test_the_recorder_writes_every_job_to_the_history(here: Client) -> None:
    job = here.enqueue("hiapi", str(uuid4()))
    here.outcome(job)

    def recorded() -> bool:
        try:
            known = default_runtime().history.get(job)
        except HistoryUnavailable:  # the recorder has just started
            return False
        return known is not None and known.job.status.terminal

    eventually(recorded)
    assert json_of(cli("list", "--q", job, "--json"))["jobs"][0]["id"] == job


@pytest.mark.parametrize("process", PROCESSES)
def test_every_process_gives_signs_of_life(here: Client, process: str) -> None:
    eventually(lambda: cli("alive", process).exit_code == 0)
