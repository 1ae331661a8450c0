"""A job that this version cannot read: commands name it, and go on with the others."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.jobs.model import FollowUpStatus, Image, Outcome
from orchestrator.ledger import keys
from orchestrator.security.standard_webhooks import new_secret
from orchestrator.steps.archive import archive
from tests.support import job_states
from tests.support.fakes import Harness

#: What every message about such a job names.
COMMAND = "`orchestrator verify`"

pytestmark = pytest.mark.usefixtures("harness")


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def unreadable(harness: Harness, job_id: str) -> str:
    job_states.make_unreadable(harness, job_id, {"created": "yesterday"})
    return job_id


def test_list_shows_the_others_and_names_it(harness: Harness) -> None:
    good, bad = harness.enqueue(), unreadable(harness, harness.enqueue())

    shown, document = run("list"), json.loads(run("list", "--json").stdout)

    assert shown.exit_code == 0
    assert good in shown.stdout
    assert shown.stderr.startswith(f"Cannot be read: {bad}. ")
    assert COMMAND in shown.stderr
    assert [job["id"] for job in document["jobs"]] == [good]
    assert [each["id"] for each in document["unreadable"]] == [bad]


@pytest.mark.parametrize("command", ["get", "watch", "retry"])
def test_a_command_about_it_does_not_blame_redis(command: str, harness: Harness) -> None:
    bad = unreadable(harness, harness.enqueue())

    refused = run(command, bad)

    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"Error: {bad} has fields that this version cannot read. ")
    assert COMMAND in refused.stderr


def test_lists_of_what_needs_somebody_name_it(harness: Harness) -> None:
    unconfirmed = harness.enqueue()
    harness.redis.zadd(keys.unconfirmed(0), {f"{unconfirmed}.1": harness.clock()})
    lost = Outcome.succeeded((Image("ftp://cdn.example/0.png"),))
    at_risk = job_states.ended(harness, lost)
    archive(harness.runtime, at_risk)
    assert harness.job(at_risk).archive is not None
    assert at_risk in run("list", "--at-risk").stdout
    for job_id in (unconfirmed, at_risk):
        unreadable(harness, job_id)

    for words, job_id in (
        (["list", "--unconfirmed"], unconfirmed),
        (["list", "--unconfirmed", "--json"], unconfirmed),
        (["list", "--at-risk"], at_risk),
        (["archive", "--all-given-up"], at_risk),
    ):
        shown = run(*words)

        assert shown.exit_code == 0, shown.output
        assert shown.stderr.startswith(f"Cannot be read: {job_id}. "), words
    words_shown = run("list", "--unconfirmed").stdout.split()
    assert words_shown[words_shown.index(unconfirmed) :][1:5] == ["1", "cannot", "be", "read"]
    assert run("stats").exit_code == 0


def test_the_list_of_failed_notifications_names_it(start: Callable[..., Harness]) -> None:
    harness = start(ORCHESTRATOR_NOTIFY_SECRET=new_secret())
    job_id = job_states.ended(harness, notify_url="https://caller.example/hook")
    harness.redis.hset(keys.job(job_id), "notify", FollowUpStatus.DEAD)
    harness.redis.zadd(keys.dead(0), {job_id: harness.clock()})
    assert job_id in run("notify", "--dead", "--list").stdout
    unreadable(harness, job_id)

    shown = run("notify", "--dead", "--list")

    assert shown.exit_code == 0
    assert shown.stderr.startswith(f"Cannot be read: {job_id}. ")
