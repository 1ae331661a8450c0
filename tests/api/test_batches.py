"""`POST /v1/jobs/batch` and `GET /v1/batches/{id}`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from redis.connection import AbstractConnection
from werkzeug.test import TestResponse

from orchestrator.api import holds
from orchestrator.api.batches import MAX_BATCH_BYTES
from orchestrator.api.holds import Hold
from orchestrator.jobs.model import Step
from orchestrator.ledger import identifiers, keys
from orchestrator.ledger.batches import Batches
from orchestrator.operations.batches import MAX_JOBS
from orchestrator.operations.tenants import set_tenant
from orchestrator.steps.batch import batch as batch_step
from tests.api.conftest import UNIFIED, Api, Open, settle
from tests.api.test_tenants import key_of
from tests.support.fakes import TENANT, Killed, killed
from tests.support.notify_kit import whsec
from tests.support.web import WebApp

BAD = {**UNIFIED, "n": "many"}


def post(api: Api, *jobs: Any, key: str | None = None, **more: Any) -> TestResponse:
    headers = {} if key is None else {"Idempotency-Key": key}
    return api.post("/v1/jobs/batch", json={"jobs": list(jobs), **more}, headers=headers)


def body(answer: TestResponse) -> dict[str, Any]:
    assert isinstance(answer.json, dict), answer.text
    return answer.json


def made(answer: TestResponse) -> list[str]:
    return [entry["job"]["id"] for entry in body(answer)["results"] if "job" in entry]


def all_jobs(api: Api) -> list[str]:
    return api.harness.ledger.overview.newest(1000, below=identifiers.LAST_ID)


def shown(api: Api, batch_id: str, query: str = "") -> dict[str, Any]:
    return body(api.get(f"/v1/batches/{batch_id}{query}"))


# Enqueue --------------------------------------------------------------------------------------


def test_a_bad_entry_does_not_stop_the_good_ones(api: Api) -> None:
    answer = post(api, UNIFIED, BAD, 5, {**UNIFIED, "prompt": "Another"})

    assert answer.status_code == 202
    results = body(answer)["results"]
    assert [entry["index"] for entry in results] == [0, 1, 2, 3]
    assert [results[n]["problem"]["errors"][0]["field"] for n in (1, 2)] == ["n", "body"]
    assert sorted(all_jobs(api)) == sorted(made(answer))
    job = results[3]["job"]
    assert (job["status"], job["batch"]) == ("queued", body(answer)["batch"])
    assert job == body(api.get(f"/v1/jobs/{job['id']}"))
    assert answer.headers["Location"] == f"/v1/batches/{body(answer)['batch']}"


@pytest.mark.parametrize("jobs", [[], [UNIFIED] * (MAX_JOBS + 1), {"a": 1}, None])
def test_a_batch_has_1_to_500_jobs(api: Api, jobs: Any) -> None:
    answer = api.post("/v1/jobs/batch", json={"jobs": jobs})

    assert answer.status_code == 422
    assert body(answer)["errors"][0]["allowed"] == "a list of 1 to 500 jobs"
    assert all_jobs(api) == []


def test_a_batch_may_be_larger_than_a_job(api: Api) -> None:
    assert post(api, *[{**UNIFIED, "metadata": {"note": "x" * 5000}}] * 300).status_code == 202
    large = api.post(
        "/v1/jobs/batch", data=b" " * (MAX_BATCH_BYTES + 1), content_type="application/json"
    )
    assert large.status_code == 413


def test_each_job_is_named_in_one_nudge(api: Api) -> None:
    answer = post(api, UNIFIED, UNIFIED)

    nudged = [(Step.SUBMIT, job_id) for job_id in made(answer)]
    assert api.harness.nudges.sent == [*nudged, (Step.BATCH, body(answer)["batch"])]


def test_the_round_trips_do_not_grow_with_the_jobs(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    send: Any = AbstractConnection.send_packed_command

    def record(self: AbstractConnection, *args: Any, **options: Any) -> Any:
        sent.append(self)
        return send(self, *args, **options)

    post(api, UNIFIED)  # loads the scripts
    monkeypatch.setattr(AbstractConnection, "send_packed_command", record)
    numbers = []
    for number in (3, 30):
        post(api, *[UNIFIED] * number)
        numbers.append(len(sent))
        sent.clear()

    # To begin, to create the jobs, and to seal.
    assert numbers == [3, 3]


def test_the_limits_of_a_tenant_hold_for_each_job(api: Api) -> None:
    set_tenant(api.harness.runtime, TENANT, {"max_open": "2"}, actor="tests")

    answer = post(api, UNIFIED, UNIFIED, UNIFIED, key="order-1")

    problem = body(answer)["results"][2]["problem"]
    assert (len(made(answer)), problem["status"]) == (2, 429)
    assert (problem["limit"], problem["retry_after"]) == ("max_open", 5)
    settle(api.harness, made(answer)[0])
    assert body(post(api, UNIFIED, UNIFIED, UNIFIED, key="order-1"))["results"][2] == {
        "index": 2,
        "problem": problem,
    }, "the same answer, although the limit would allow another job now"


def test_a_batch_needs_a_receiver_that_is_allowed(api: Api) -> None:
    answer = post(api, UNIFIED, notify_url="https://hooks.example.com/x")

    assert answer.status_code == 422
    assert "ORCHESTRATOR_NOTIFY_SECRET" in answer.text
    assert all_jobs(api) == []


# Idempotency keys -----------------------------------------------------------------------------


def test_the_same_key_and_body_give_the_same_answer(api: Api) -> None:
    first = post(api, UNIFIED, BAD, UNIFIED, key="order-1")
    again = post(api, UNIFIED, BAD, UNIFIED, key="order-1")
    other = post(api, UNIFIED, key="order-1")

    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 422)
    assert body(again) == body(first)
    assert again.headers["Idempotent-Replay"] == "true"
    assert "idempotency-mismatch" in other.text
    assert len(all_jobs(api)) == 2


@pytest.mark.parametrize("dies_in", ["create_jobs", "seal"])
def test_the_same_call_completes_a_batch_that_was_interrupted(
    api: Api, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    monkeypatch.setattr("orchestrator.operations.batches.MAX_JOBS", 2)
    calls: list[object] = []
    create = Batches.create_jobs

    def half(self: Batches, *args: Any, **options: Any) -> Any:
        calls.append(args)
        return create(self, *args, **options) if len(calls) == 1 else killed()

    jobs = [{**UNIFIED, "prompt": str(n)} for n in range(5)]
    with monkeypatch.context() as patch:
        patch.setattr(Batches, dies_in, half if dies_in == "create_jobs" else killed)
        with pytest.raises(Killed):
            post(api, *jobs, key="order-1")
    before = all_jobs(api)
    assert len(before) == (2 if dies_in == "create_jobs" else 5)

    again = post(api, *jobs, key="order-1")

    assert again.status_code == 202
    assert sorted(made(again)) == sorted(all_jobs(api))
    assert len(made(again)) == 5
    assert set(before) <= set(made(again))
    assert [e["job"]["request"]["prompt"] for e in body(again)["results"]] == list("01234")
    assert shown(api, body(again)["batch"])["total"] == 5


def test_a_job_may_have_its_own_key(api: Api) -> None:
    single = api.create(UNIFIED, key="order-1")
    keyed = {**UNIFIED, "idempotency_key": "order-1"}

    answer = post(
        api, keyed, {**keyed, "prompt": "Another"}, {**UNIFIED, "idempotency_key": "order-2"}
    )
    later = api.create(UNIFIED, key="order-2")

    results = body(answer)["results"]
    assert results[0]["job"]["id"] == body(single)["id"]
    assert results[0]["job"]["batch"] is None, "it stays what it was"
    assert results[1]["problem"]["type"].endswith("idempotency-mismatch")
    assert (later.status_code, body(later)["id"]) == (200, results[2]["job"]["id"])
    assert shown(api, body(answer)["batch"])["total"] == 1


def test_the_key_of_a_batch_finds_its_jobs(api: Api) -> None:
    answer = post(api, UNIFIED, UNIFIED, key="order-1")
    api.created()

    for query in (f"batch={body(answer)['batch']}", f"q={body(answer)['batch']}", "q=order-1"):
        found = [job["id"] for job in body(api.get(f"/v1/jobs?{query}"))["jobs"]]
        assert sorted(found) == sorted(made(answer)), query


# Get ------------------------------------------------------------------------------------------


def test_a_batch_shows_its_jobs_by_status(api: Api) -> None:
    answer = post(api, UNIFIED, UNIFIED)
    settle(api.harness, made(answer)[0])

    batch = shown(api, body(answer)["batch"])

    assert (batch["status"], batch["total"], batch["completed_at"]) == ("open", 2, None)
    assert {s: n for s, n in batch["counts"].items() if n} == {"queued": 1, "succeeded": 1}
    assert batch["notification"] is None


def test_another_tenants_batch_is_404(api: Api) -> None:
    batch_id = body(post(api, UNIFIED))["batch"]
    other = api.with_key(key_of(api, "other"))

    assert other.get(f"/v1/batches/{batch_id}").status_code == 404
    assert api.get("/v1/batches/batch_x").status_code == 404
    assert api.as_admin().get(f"/v1/batches/{batch_id}").status_code == 200


def test_the_notification_of_a_completed_batch_is_sent_again(api: Api) -> None:
    answer = post(api, UNIFIED, notify_stream="shop")
    batch_id = body(answer)["batch"]
    path, other = f"/v1/batches/{batch_id}/notify", api.with_key(key_of(api, "other"))
    early = api.post(path)
    assert (early.status_code, "it is open" in early.text) == (409, True)
    settle(api.harness, made(answer)[0])
    batch_step(api.harness.runtime, batch_id)
    assert shown(api, batch_id)["notification"]["status"] == "done"
    api.harness.nudges.sent.clear()

    again = api.post(path)

    assert again.status_code == 202
    assert body(again)["notification"]["status"] == "pending"
    assert api.harness.nudges.sent == [("batch", batch_id)]
    [entry] = [e for e in api.harness.ledger.audit.entries(9) if e.action == "notify"]
    assert (entry.target, entry.detail["tenant"]) == (batch_id, TENANT)
    batch_step(api.harness.runtime, batch_id)
    assert shown(api, batch_id)["notification"]["status"] == "done"
    assert [other.post(each).status_code for each in (path, "/v1/batches/batch_x/notify")] == [
        404,
        404,
    ]
    without = body(post(api, BAD))["batch"]
    batch_step(api.harness.runtime, without)
    silent = api.post(f"/v1/batches/{without}/notify")
    assert (silent.status_code, "notify_url" in silent.text) == (409, True)


def test_a_batch_without_jobs_is_completed(api: Api) -> None:
    batch_id = body(post(api, BAD))["batch"]

    assert shown(api, batch_id)["status"] == "completed"
    assert shown(api, batch_id, "?wait=60")["total"] == 0


def test_the_answer_of_an_open_batch_is_held_until_it_is_completed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Hold] = []
    monkeypatch.setattr(holds, "hold", lambda *hold: asked.append(Hold(*hold)))
    answer = post(api, UNIFIED)
    batch_id = body(answer)["batch"]

    assert shown(api, batch_id, "?wait=60")["status"] == "open"

    [hold] = asked
    assert (hold.channel, hold.seconds) == (keys.settled(batch_id), 60)
    assert not hold.over()
    settle(api.harness, made(answer)[0])
    batch_step(api.harness.runtime, batch_id)
    assert hold.over()
    assert shown(api, batch_id)["completed_at"]


def test_a_key_finds_its_batch_whatever_the_settings_are_now(open_api: Open) -> None:
    before = open_api(ORCHESTRATOR_NOTIFY_SECRET=whsec("old"))
    who = {"notify_url": "https://shop.example.com/hook"}
    harness = before.harness.with_settings(notify_secrets=(), providers={})
    now = replace(before, harness=harness, app=WebApp(harness.runtime))

    first, again = (post(api, UNIFIED, key="order-1", **who) for api in (before, now))
    other = post(now, UNIFIED, UNIFIED, key="order-1", **who)
    new = post(now, UNIFIED, key="order-2", **who)

    assert [each.status_code for each in (first, again, other, new)] == [202, 200, 422, 422]
    assert made(again) == made(first)
    assert "idempotency-mismatch" in other.text
    assert body(new)["errors"][0]["field"] == "notify_url"


def test_two_calls_at_once_make_no_job_of_an_entry_that_was_answered_with_a_limit(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller sends the entry again with another key, and would pay twice."""
    set_tenant(api.harness.runtime, TENANT, {"max_open": "1"}, actor="tests")
    create_jobs, other = Batches.create_jobs, {**UNIFIED, "prompt": "Another"}
    faster: list[TestResponse] = []

    def create_after_the_other(batches: Batches, *args: Any, **options: Any) -> Any:
        monkeypatch.setattr(Batches, "create_jobs", create_jobs)
        faster.append(post(api, UNIFIED, other, key="order-1"))
        api.post(f"/v1/jobs/{made(faster[0])[0]}/cancel")  # now the tenant may have a job again
        return create_jobs(batches, *args, **options)

    monkeypatch.setattr(Batches, "create_jobs", create_after_the_other)
    slower = post(api, UNIFIED, other, key="order-1")

    assert (faster[0].status_code, slower.status_code) == (202, 200)
    assert body(slower)["results"][1] == body(faster[0])["results"][1]
    assert body(slower)["results"][1]["problem"]["limit"] == "max_open"
    assert [api.harness.job(job_id).status for job_id in all_jobs(api)] == ["cancelled"] * 2
