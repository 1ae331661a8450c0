"""`orchestrator notify`: every option, every bad combination, and its exit status."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.jobs.model import FollowUpStatus, Step
from orchestrator.ledger import Ledger
from tests.operations.test_replay import given_up
from tests.support import job_states, notify_kit
from tests.support.fakes import (
    FakeProvider,
    Harness,
    use_runtime,
)
from tests.support.notify_kit import TOKEN, ended, host, notification

PENDING, DEAD = FollowUpStatus.PENDING, FollowUpStatus.DEAD
UNKNOWN = "job_" + "0" * 28

pytestmark = pytest.mark.usefixtures("harness")


@pytest.fixture
def harness(start: Callable[..., Harness]) -> Harness:
    """A process that may notify callers on this machine."""
    return start(**notify_kit.VARIABLES)


def notify(*words: str) -> Result:
    return CliRunner().invoke(main, ["notify", *words])


@pytest.fixture
def dead(harness: Harness, receiver: FakeProvider) -> list[str]:
    """Jobs whose callers could not be told, an hour apart; the last of them just now."""
    jobs = []
    for _ in range(3):
        jobs.append(given_up(harness, receiver))
        harness.clock.forward(3600)
    harness.clock.now = notification(harness, jobs[-1]).tried_at or 0
    harness.nudges.sent.clear()
    return jobs


# Jobs by name --------------------------------------------------------------------------------


def test_jobs_are_told_again(harness: Harness, dead: list[str]) -> None:
    done = notify(*dead[:2])

    assert (done.exit_code, done.stdout) == (0, "notifications scheduled: 2\n")
    assert [notification(harness, job_id).status for job_id in dead] == [PENDING, PENDING, DEAD]
    assert harness.nudges.sent == [(Step.NOTIFY, job_id) for job_id in dead[:2]]


def test_nudges_are_sent_before_the_command_ends(
    harness: Harness, dead: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(harness.nudges, "close", lambda: closed.append(True))

    notify(dead[0])

    assert closed == [True]


def test_the_others_are_told_although_one_cannot_be(harness: Harness, dead: list[str]) -> None:
    silent, waiting = job_states.ended(harness), harness.enqueue(notify_stream="shop")

    done = notify(silent, dead[0], waiting)
    told_json = notify("--json", silent, dead[1], waiting)

    assert done.exit_code == told_json.exit_code == 1
    assert done.stdout == "notifications scheduled: 1\n"
    first, second = done.stderr.splitlines()
    assert first.startswith(f"{silent}: its request has no notify_url")
    assert second.startswith(f"{waiting}: it is queued")
    document = json.loads(told_json.stdout)
    assert document["begun"] == [dead[1]]
    assert list(document["refused"]) == [silent, waiting]
    assert document["left"] == 0


@pytest.mark.parametrize("job_id", [UNKNOWN, "nonsense"])
def test_with_a_job_that_is_not_there_none_is_told(
    harness: Harness, dead: list[str], job_id: str
) -> None:
    done = notify(dead[0], job_id)

    assert done.exit_code == 1
    assert f"job '{job_id}' does not exist" in done.output
    assert harness.nudges.sent == []


# Those that were given up --------------------------------------------------------------------


def test_all_dead_are_told_again(harness: Harness, dead: list[str]) -> None:
    done = notify("--dead", "--json")

    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"begun": dead, "refused": {}, "left": 0}
    assert harness.ledger.follow_ups.dead(10) == (0, [])


@pytest.mark.parametrize(
    ("span", "number"),
    [("0s", 1), ("30s", 1), ("59m", 1), ("60m", 2), ("1h", 2), ("2h", 3), ("3d", 3), ("90m", 2)],
)
def test_since_takes_those_given_up_since_then(
    harness: Harness, dead: list[str], span: str, number: int
) -> None:
    done = notify("--dead", "--since", span, "--json")

    assert json.loads(done.stdout)["begun"] == dead[3 - number :]


def test_a_limit_takes_the_oldest_and_tells_of_the_rest(harness: Harness, dead: list[str]) -> None:
    done = notify("--dead", "--limit", "2")

    assert (done.exit_code, done.stdout) == (
        0,
        "notifications scheduled: 2. 1 are left: run the command again\n",
    )
    assert [notification(harness, job_id).status for job_id in dead] == [PENDING, PENDING, DEAD]


def test_list_only_lists(harness: Harness, receiver: FakeProvider, dead: list[str]) -> None:
    done = notify("--dead", "--list")

    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == dead
    for line in lines[1:4]:
        assert f" {host(receiver)} " in line
        assert " 10 " in line
        assert "it answered 400" in line
    assert lines[4].startswith("3 in all.")
    assert TOKEN not in done.stdout
    assert harness.nudges.sent == []
    assert harness.ledger.follow_ups.dead(10)[0] == 3


def test_list_for_programs(harness: Harness, dead: list[str]) -> None:
    done = notify("--dead", "--list", "--json", "--limit", "1", "--since", "1h")

    document = json.loads(done.stdout)
    assert done.exit_code == 0
    assert document["number"] == 2
    assert [job["id"] for job in document["jobs"]] == [dead[1]]
    assert document["jobs"][0]["notification"]["status"] == "dead"
    assert harness.nudges.sent == []


def test_without_any_dead_there_is_nothing_to_do(harness: Harness) -> None:
    assert notify("--dead").stdout == "notifications scheduled: 0\n"
    assert notify("--dead", "--list").stderr == "No notification has failed.\n"
    assert notify("--dead").exit_code == 0


# Bad input -----------------------------------------------------------------------------------


def test_odd_words_are_refused(harness: Harness) -> None:
    for words, told_ in [
        ([], "name at least one job, or use --dead"),
        ([UNKNOWN, "--dead"], "JOB_ID, --dead and --test exclude each other"),
        (["--dead", "--test", "https://a.example"], "exclude each other; keep one of them"),
        (["--since", "2h"], "--since and --list need --dead"),
        (["--list"], "--since and --list need --dead"),
        ([UNKNOWN, "--since", "2h"], "--since and --list need --dead"),
        ([UNKNOWN, "--since", "0s"], "--since and --list need --dead"),
        ([UNKNOWN, "--list"], "--since and --list need --dead"),
        (["--dead", "--since", "2"], "'2' is not a time span; allowed: 30s, 90m, 2h, 3d"),
        (["--dead", "--since", "2w"], "is not a time span"),
        (["--dead", "--since", "-2h"], "is not a time span"),
        (["--dead", "--since", "2h "], "is not a time span"),
        (["--dead", "--since", "2h\n"], "is not a time span"),
        (["--dead", "--since", "9999999s"], "is not a time span"),
        (["--dead", "--since", "\u0665h"], "is not a time span"),
        (["--dead", "--since", ""], "is not a time span"),
        (["--dead", "--limit", "0"], "'0' is not a whole number from 1 to 10000"),
        (["--dead", "--limit", "10001"], "'10001' is not a whole number from"),
        (["--dead", "--limit", "ten"], "'ten' is not a whole number from 1 to 10000"),
        (["--all"], "No such option"),
    ]:
        done = notify(*words)

        assert done.exit_code == 2
        assert told_ in done.output
        assert "Traceback" not in done.output


def test_while_redis_is_away_it_says_so(
    harness: Harness, receiver: FakeProvider, away: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = ended(harness, receiver)
    use_runtime(monkeypatch, harness.on(away).runtime)

    for words in ([job_id], ["--dead"], ["--dead", "--list"]):
        done = notify(*words)
        assert done.exit_code == 1
        assert done.output.startswith("Error: Redis does not answer")


def test_the_help_tells_every_option() -> None:
    shown = notify("--help").output

    assert all(option in shown for option in ("--dead", "--since", "--list", "--limit", "--json"))
