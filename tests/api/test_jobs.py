"""`/v1/jobs`: enqueue, look, wait, and read the timeline."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api import holds
from orchestrator.api.holds import Hold
from orchestrator.jobs.model import ErrorCode, JobError, Outcome, Step
from orchestrator.ledger import identifiers, keys
from orchestrator.steps.submit import submit
from tests.api.conftest import NATIVE, UNIFIED, Api, settle
from tests.support.fakes import NOON, TENANT, Answer, answer

ACCEPTED = answer(200, {"data": {"taskId": "task-1"}, "id": "task-1"})


# Enqueue -------------------------------------------------------------------------------------


def test_a_unified_request_is_202_with_the_job_and_its_place(api: Api) -> None:
    response = api.create({**UNIFIED, "metadata": {"order": 7}})

    assert response.status_code == 202
    assert response.json is not None
    assert response.headers["Location"] == f"/v1/jobs/{response.json['id']}"
    assert response.json == {
        "id": response.json["id"],
        "status": "queued",
        "tenant": TENANT,
        "batch": None,
        "retry_of": None,
        "retried_as": None,
        "provider": "hiapi",
        "model": "Nano-Banana-2",
        "request": {"prompt": "A red cube"},
        "attempts": [],
        "images": [],
        "fallbacks": [],
        "late_images": [],
        "error": None,
        "cost": None,
        "archive": None,
        "notification": None,
        "metadata": {"order": 7},
        "created_at": "2026-11-30T00:53:20.000Z",
        "updated_at": "2026-11-30T00:53:20.000Z",
        "deadline_at": "2026-11-30T01:53:20.000Z",
        "settled_at": None,
        "waiting_for": "worker",
        "next_attempt_at": None,
        "settled_by": None,
    }


def test_a_native_request_is_202_and_kept_as_it_is(api: Api) -> None:
    response = api.create(NATIVE)

    assert response.status_code == 202
    assert response.json is not None
    assert response.json["request"] == NATIVE["request"]


def test_the_model_of_a_native_request_may_stand_in_the_request_only(api: Api) -> None:
    body = {name: value for name, value in NATIVE.items() if name != "model"}

    answer = api.create(body)

    assert answer.status_code == 202, answer.text
    assert answer.json is not None
    assert (answer.json["model"], answer.json["request"]) == (NATIVE["model"], NATIVE["request"])


@pytest.mark.parametrize("model", [None, 7, "", "x" * 201])
def test_a_wrong_model_in_a_native_request_is_refused_by_name(api: Api, model: object) -> None:
    answer = api.create({"provider": "evolink", "request": {"model": model, "prompt": "x"}})

    assert answer.status_code == 422
    assert '"field":"model"' in answer.text


def test_a_job_that_was_created_is_in_the_ledger_and_nudged(api: Api) -> None:
    job_id = api.created()

    assert api.harness.job(job_id).request.options == {"prompt": "A red cube"}
    assert api.harness.nudges.sent == [(Step.SUBMIT, job_id)]
    assert api.harness.seconds_until_due(job_id) == 0


def test_a_jobs_own_deadline_counts(api: Api) -> None:
    response = api.create({**UNIFIED, "deadline_seconds": 90.5})

    assert response.json is not None
    assert response.json["deadline_at"] == "2026-11-30T00:54:50.500Z"


@pytest.mark.parametrize(
    "prompt",
    [
        "  leading, trailing  ",
        "line\r\nline\n\ttab",
        "e\u0301 \u00e9 \u0000 \u2028 \ufeff",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u202eright to left",
        '"quoted" \\u0041 %7B {{x}} <b> & $HOME',
    ],
)
@pytest.mark.parametrize("form", [UNIFIED, NATIVE], ids=["unified", "native"])
def test_a_prompt_reaches_the_provider_byte_for_byte(
    api: Api, form: dict[str, Any], prompt: str
) -> None:
    api.harness.provider.answers(ACCEPTED)
    request = {**form}
    if "request" in form:
        request["request"] = {**form["request"], "prompt": prompt}
    else:
        request["prompt"] = prompt

    response = api.create(request)
    assert response.json is not None
    submit(api.harness.runtime, response.json["id"])

    [asked] = api.harness.provider.requests
    sent = asked.json
    assert sent.get("input", sent)["prompt"].encode() == prompt.encode()


# Look ----------------------------------------------------------------------------------------


def test_a_job_can_be_looked_at(api: Api) -> None:
    job_id = api.created()

    response = api.get(f"/v1/jobs/{job_id}")

    assert response.status_code == 200
    assert response.json is not None
    assert (response.json["id"], response.json["status"]) == (job_id, "queued")


def test_a_succeeded_job_shows_its_images_attempts_and_who_settled_it(api: Api) -> None:
    job_id = api.created()
    settle(api.harness, job_id)

    document = api.get(f"/v1/jobs/{job_id}").json

    assert document is not None
    assert document["status"] == "succeeded"
    assert document["settled_by"] == "poll"
    assert document["settled_at"] == "2026-11-30T00:53:20.000Z"
    assert document["images"][0]["source_url"] == "https://cdn.example.com/0.png"
    assert document["images"][0]["expires_at"] == "2026-11-30T00:53:21.000Z"
    [attempt] = document["attempts"]
    assert (attempt["number"], attempt["provider"], attempt["task_id"]) == (1, "hiapi", None)


def test_a_failed_job_shows_the_providers_words(api: Api) -> None:
    job_id = api.created()
    error = JobError(ErrorCode.CONTENT_POLICY, "not this", "policy", retryable=False)
    settle(api.harness, job_id, Outcome.failed(error))

    document = api.get(f"/v1/jobs/{job_id}").json

    assert document is not None
    assert document["error"] == {
        "code": "content_policy",
        "message": "not this",
        "provider_code": "policy",
        "retryable": False,
    }


@pytest.mark.parametrize("suffix", ["", "/events", "?wait=1"])
@pytest.mark.parametrize("job_id", ["job_" + "0" * 28, "nonsense", "%00", "job_" + "9" * 5000])
def test_an_unknown_job_is_404(api: Api, job_id: str, suffix: str) -> None:
    response = api.get(f"/v1/jobs/{job_id}{suffix}")

    assert (response.status_code, response.mimetype) == (404, "application/problem+json")


def test_the_timeline_tells_what_happened(api: Api) -> None:
    job_id = api.created()
    settle(api.harness, job_id)

    response = api.get(f"/v1/jobs/{job_id}/events")

    assert response.json is not None
    events = response.json["events"]
    assert [event["event"] for event in events] == ["created", "submitting", "settled"]
    assert events[0] == {"at": "2026-11-30T00:53:20.000Z", "event": "created", "detail": {}}
    assert events[1]["detail"] == {"attempt": 1}


# Wait ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wait", ["-1", "61", "nan", "inf", "-inf", "soon", "1e9", "1,5", "\u0661x"]
)
def test_an_odd_wait_is_refused_by_name(api: Api, wait: str) -> None:
    response = api.get(f"/v1/jobs/{api.created()}", query_string={"wait": wait})

    assert response.status_code == 422
    assert response.json is not None
    [error] = response.json["errors"]
    assert (error["field"], error["allowed"]) == ("wait", "a number of seconds from 0 to 60")


@pytest.mark.parametrize("wait", ["0", "", "0.0"])
def test_no_wait_answers_at_once(api: Api, wait: str) -> None:
    assert api.get(f"/v1/jobs/{api.created()}?wait={wait}").status_code == 200


def test_waiting_for_a_job_that_is_done_answers_at_once(api: Api) -> None:
    job_id = api.created()
    settle(api.harness, job_id)

    response = api.get(f"/v1/jobs/{job_id}?wait=60")

    assert response.json is not None
    assert response.json["status"] == "succeeded"


def test_a_wait_that_is_over_answers_with_the_job_as_it_stands(api: Api) -> None:
    response = api.get(f"/v1/jobs/{api.created()}?wait=0.01")

    assert response.status_code == 200
    assert response.json is not None
    assert response.json["status"] == "queued"


def test_the_answer_of_an_open_job_is_held_until_its_outcome(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Hold] = []
    monkeypatch.setattr(holds, "hold", lambda *hold: asked.append(Hold(*hold)))
    job_id = api.created()

    api.get(f"/v1/jobs/{job_id}?wait=7.5")

    [hold] = asked
    assert (hold.channel, hold.seconds) == (keys.settled(job_id), 7.5)
    assert not hold.over()
    settle(api.harness, job_id)
    assert hold.over()


def test_another_tenants_job_is_not_waited_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "hold", lambda *_: pytest.fail("it is held"))

    assert api.get(f"/v1/jobs/{identifiers.new_job_id(0, NOON)}?wait=60").status_code == 404


def test_a_prompt_with_a_lone_surrogate_is_refused_before_it_is_stored(api: Api) -> None:
    body = b'{"provider":"hiapi","model":"Nano-Banana-2","prompt":"\\ud800"}'

    response = api.create(body)

    assert response.status_code == 400
    assert api.harness.redis.keys() == []


def test_a_provider_that_answers_nothing_is_not_asked_by_enqueueing(api: Api) -> None:
    api.harness.provider.handler = lambda _: Answer(500)

    api.created()

    assert api.harness.provider.requests == []
