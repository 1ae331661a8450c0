"""The other ways in: Python, Celery and the command line, against the running stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from celery import Celery
from PIL import Image

import orchestrator
from orchestrator.enqueuing import CELERY_SCOPE, job_of_key
from orchestrator.ledger import Ledger
from orchestrator.providers import BUILT_IN
from orchestrator.runtime import default_runtime
from tests.support.providers import ACCEPTING_FILES
from tests.system.conftest import Client, cli, eventually

REQUEST = {"provider": "hiapi", "model": "Nano-Banana-2", "prompt": "A lighthouse at dusk"}


def test_python_enqueues_and_gets(here: Client) -> None:
    job = orchestrator.enqueue(**REQUEST)
    assert job.status is orchestrator.Status.QUEUED
    here.outcome(job.id)
    seen = orchestrator.get(job.id)
    assert seen is not None
    assert seen.status is orchestrator.Status.SUCCEEDED
    assert seen.images


def test_python_gives_the_same_job_for_the_same_key(here: Client) -> None:
    key = str(uuid4())
    first = orchestrator.enqueue(idempotency_key=key, **REQUEST)
    assert orchestrator.enqueue(idempotency_key=key, **REQUEST).id == first.id
    with pytest.raises(orchestrator.IdempotencyMismatch):
        orchestrator.enqueue(idempotency_key=key, **{**REQUEST, "prompt": "Another"})


def send(client: Client, task_id: str, **request: Any) -> None:
    """What another service does, knowing the broker and the task's name only."""
    with Celery(broker=client.stack.redis_url, set_as_current=False) as service:
        service.send_task(
            "orchestrator.enqueue", kwargs=request, queue="orchestrator.enqueue", task_id=task_id
        )


def test_a_celery_message_becomes_one_job_however_often_it_comes(client: Client) -> None:
    text, task_id = str(uuid4()), str(uuid4())
    for _ in range(3):
        send(client, task_id, **{**REQUEST, "prompt": text})
    send(client, str(uuid4()), **{**REQUEST, "prompt": f"{text} last"})
    eventually(lambda: client.tasks(f"{text} last"))
    assert len(client.tasks(text)) == 1


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"kwargs": {**REQUEST, "model": "Nano-Banana-9"}}, "Nano-Banana-9"),
        ({"args": ["hiapi", "A fox"]}, "args must be left out"),
        ({"kwargs": {**REQUEST, "model": 2**70}}, "model"),
        ({"kwargs": {**REQUEST, "self": 1}}, "an unexpected TypeError"),  # of Celery
        ({}, "provider"),
    ],
)
def test_a_bad_celery_message_is_kept_for_a_look(
    client: Client, message: dict[str, Any], told: str
) -> None:
    task_id = str(uuid4())
    with Celery(broker=client.stack.redis_url, set_as_current=False) as service:
        service.send_task(
            "orchestrator.enqueue", queue="orchestrator.enqueue", task_id=task_id, **message
        )
    ledger = Ledger.from_url(client.stack.redis_url or "")
    [kept] = eventually(lambda: [e for e in ledger.rejected.page(20) if task_id in e.body])
    assert kept.kind == "enqueue"
    assert told in kept.reason


def test_the_command_line_enqueues_waits_and_shows(here: Client) -> None:
    words = ["--provider", "evolink", "--model", "nano-banana-2-lite", "--prompt", "A fox"]
    done = cli("enqueue", *words, "--wait", "--json")
    assert done.exit_code == 0, done.output
    job = json.loads(done.stdout)
    assert job["status"] == "succeeded"
    eventually(lambda: here.job(job["id"])["archive"]["status"] == "done")
    shown = cli("get", job["id"])
    assert shown.exit_code == 0
    assert "settled" in shown.output
    assert job["images"][0]["url"] in shown.output.replace("\n", "")
    assert cli("watch", job["id"]).exit_code == 0


def test_the_command_line_hands_a_file_over(here: Client, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "teal.png")
    words = ["--provider", ACCEPTING_FILES[0], "--model", "nano-banana-2", "--prompt", "On a beach"]
    more = ["--resolution", "2K", "--image-file", str(tmp_path / "teal.png"), "--wait", "--json"]
    done = cli("enqueue", *words, *more)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["request"]["image_file"]["name"] == "teal.png"


def test_python_calls_a_job_off_only_before_it_is_sent(here: Client) -> None:
    job = orchestrator.enqueue(**REQUEST)
    here.outcome(job.id)
    told = orchestrator.cancel(job.id)
    assert told is not None
    assert told.status == "succeeded"
    assert orchestrator.cancel("job_" + "0" * 28) is None


def test_python_hands_a_file_over(here: Client, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "teal.webp")
    job = orchestrator.enqueue(
        provider=ACCEPTING_FILES[0],
        model="nano-banana-2",
        prompt="On a beach",
        image_file=tmp_path / "teal.webp",
    )
    assert here.outcome(job.id)["status"] == "succeeded"


def test_provider_options_reach_the_provider_and_are_shown(here: Client) -> None:
    words = ["--provider", "evolink", "--model", "nano-banana-2", "--prompt", "A cat"]
    more = ["--provider-options", '{"size": "16:9", "quality": "4K"}', "--wait", "--json"]
    done = cli("enqueue", *words, *more)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["request"]["provider_options"]["quality"] == "4K"


def test_the_command_line_shows_what_providers_take(here: Client) -> None:
    told = cli("providers")
    assert told.exit_code == 0
    assert all(f"\n{name} " in told.output for name in BUILT_IN)
    one = cli("providers", "evolink")
    assert "4:5, 5:4, 9:16" in one.output.replace("\n", " ")
    assert "gemini-3-pro-image-preview" in one.output
    listed = json.loads(cli("providers", "--json").stdout)["providers"]
    assert {provider["name"]: provider["on"] for provider in listed} == dict.fromkeys(
        BUILT_IN, True
    )
    assert json.loads(cli("providers", "hiapi", "--json").stdout)["takes_unlisted_models"]
    assert cli("providers", "nobody").exit_code == 2
    assert cli("providers", "--markdown").stdout.startswith("# Providers\n")


def test_watching_a_job_that_fails_has_exit_status_1(here: Client) -> None:
    words = ["--provider", "hiapi", "--model", "Nano-Banana-2", "--prompt", "x [sandbox: fail]"]
    placed = cli("enqueue", *words)
    assert placed.exit_code == 0
    watched = cli("watch", placed.stdout.strip())
    assert watched.exit_code == 1
    assert "content_policy" in watched.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model", "Nano-Banana-2", "--prompt", "x", "--resolution", "9K"], "one of 1K, 2K, 4K"),
        (["--model", "Banana", "--prompt", "x"], "Nano-Banana-2"),
        (["--model", "Nano-Banana-2", "--metadata", "[]", "--prompt", "x"], "not a JSON object"),
        (["--model", "Nano-Banana-2"], "prompt"),
    ],
)
def test_bad_input_on_the_command_line_is_refused(
    here: Client, words: list[str], told: str
) -> None:
    refused = cli("enqueue", "--provider", "hiapi", *words)
    assert refused.exit_code != 0
    assert told in refused.output


def test_an_unknown_job_has_exit_status_1(here: Client) -> None:
    for command in ("get", "watch"):
        assert cli(command, "job_nothing").exit_code == 1


def test_the_doctor_finds_the_stack_well(here: Client) -> None:
    found = cli("doctor", "--json")
    marks = {finding["check"]: finding["mark"] for finding in json.loads(found.stdout)}
    assert found.exit_code == 0, found.output
    assert marks["worker, beat"] == marks["broker"] == marks["redis"] == marks["clock"] == "ok"
    assert marks["durability"] == "warning"


def test_the_doctor_says_how_to_mend_a_redis_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", "redis://:hunter2@127.0.0.1:1/0")
    found = cli("doctor")
    assert found.exit_code == 1
    assert "correct ORCHESTRATOR_REDIS_URL" in found.output
    assert "hunter2" not in found.output


def test_a_key_works_and_is_revoked_without_a_restart(here: Client) -> None:
    job_id = orchestrator.enqueue(tenant="shop", **REQUEST).id
    made = json.loads(cli("keys", "create", "--tenant", "shop", "--json").stdout)

    def status() -> int:
        headers = {"Authorization": f"Bearer {made['key']}"}
        url = f"{here.stack.web_url}/v1/jobs/{job_id}"
        return requests.get(url, headers=headers, timeout=60).status_code

    eventually(lambda: status() == 200)
    cli("keys", "revoke", made["id"])
    eventually(lambda: status() == 401)


def test_jobs_from_python_and_from_a_message_move_to_their_fallback(here: Client) -> None:
    text, message, provider = str(uuid4()), str(uuid4()), REQUEST["provider"]
    fallback = {"provider": "evolink", "model": "nano-banana-2-lite"}
    request: dict[str, Any] = {**REQUEST, "prompt": text, "fallback": [fallback]}
    rule = {"provider": provider, "match": text, "faults": ["401"]}
    requests.post(f"{here.stack.sandbox_url}/control/faults", json=rule, timeout=60)
    try:
        refused = here.outcome(orchestrator.enqueue(**request).id)
        assert cli("pause", provider).exit_code == 0
        send(here, message, **request)
        made = eventually(lambda: job_of_key(default_runtime(), CELERY_SCOPE, message))
        paused = here.outcome(made.id)
    finally:
        assert cli("resume", provider).exit_code == 0
    for job, reason in ((refused, "authentication"), (paused, "paused")):
        assert (job["status"], job["provider"]) == ("succeeded", "evolink")
        assert [move["reason"] for move in job["fallbacks"]] == [reason]
    assert [task["provider"] for task in here.tasks(text)] == ["evolink"] * 2
