"""`orchestrator rejected`: list, show, replay and delete."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.jsonio import dump
from tests.support.fakes import NOON, Harness

REQUEST = {"provider": "hiapi", "model": "Nano-Banana-2", "prompt": "A red cube"}

pytestmark = pytest.mark.usefixtures("harness")


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["rejected", *words])


def kept(harness: Harness, **fields: object) -> str:
    body = dump({"id": "message-1", "args": [], "kwargs": {**REQUEST, **fields}})
    harness.ledger.rejected.keep("enqueue", now=NOON, reason="too new", body=body)
    return harness.ledger.rejected.page(1)[0].id


def test_messages_are_listed_and_shown(harness: Harness) -> None:
    first, second = kept(harness), kept(harness)

    listed = json.loads(run("list", "--json").output)

    assert [each["id"] for each in listed["messages"]] == [second, first]
    assert len(json.loads(run("list", "--json", "--limit", "1").output)["messages"]) == 1
    assert "too new" in run("list").output
    assert json.loads(run("show", first, "--json").output) == listed["messages"][1]
    assert "reason: too new" in run("show", first).output


def test_a_replay_makes_the_job_and_one_that_is_refused_fails(harness: Harness) -> None:
    good, bad = kept(harness), kept(harness, model="x")

    refused, replayed = run("replay", bad), run("replay", good, "--json")

    assert refused.exit_code == 1
    assert "model" in refused.output
    found = json.loads(replayed.output)
    assert found["id"] == good
    assert harness.job(found["result"]).status == "queued"
    assert run("show", good).exit_code == 1
    assert run("show", bad).exit_code == 0


def test_a_message_is_deleted_once(harness: Harness) -> None:
    message_id = kept(harness)

    done = [run("delete", message_id), run("delete", message_id)]

    assert [each.exit_code for each in done] == [0, 1]
    assert f"{message_id} is deleted" in done[0].output
    assert f"there is no rejected message '{message_id}'" in done[1].output
    assert run("replay", message_id).exit_code == 1
