"""`/v1/bulk`: previews, starts and shows bulk actions of the caller's tenant."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.history.history import History
from orchestrator.history.recorder import Recorder
from orchestrator.ledger.bulk import MAX_STARTED
from orchestrator.operations import bulk as operations
from orchestrator.operations.filters import FILTERS
from orchestrator.operations.keys import create_key
from orchestrator.operations.rerun import RETRIED
from orchestrator.steps.bulk import act_on_part
from tests.api.conftest import UNIFIED, Api, Open
from tests.support import job_states
from tests.support.fakes import TENANT
from tests.support.web import WebApp

PRICES = orjson.dumps({"unit": "USD", "prices": {"Nano-Banana-2": 0.1}}).decode()


def asked(api: Api, action: str = "retry", **more: Any) -> Any:
    body = {"action": action, **({} if "preview" in more else {"filter": {}}), **more}
    return api.post("/v1/bulk", json=body)


def previewed(api: Api, action: str = "retry", **more: Any) -> dict[str, Any]:
    answer = asked(api, action, dry_run=True, **more)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


def errors(answer: Any) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {error["field"]: error["message"] for error in answer.json["errors"]}


def test_a_preview_counts_jobs_and_the_money_at_risk(open_api: Open) -> None:
    api = open_api(HIAPI_PRICES=PRICES)
    job_states.refused(api.harness)
    job_states.given_up(api.harness)
    job_states.refused(api.harness, "evolink")
    job_states.running(api.harness)

    found = previewed(api)

    assert found["id"].startswith("bulk_")
    assert (found["action"], found["state"], found["tenant"]) == ("retry", "previewed", TENANT)
    assert found["by_status"] == {"failed": 3, "running": 1}
    assert (found["total"], found["applies_to"], found["may_be_paid"]) == (4, 2, 1)
    costs = {"reserved": 0.2, "paid_again": 0.1, "unconfirmed": 0.1}
    assert found["money"] == [{"provider": "hiapi", "unit": "USD", **costs}]
    assert found["unpriced_jobs"] == 1
    reason = "it is running and will reach its outcome"
    assert found["refused"] == [{"reason": reason, "jobs": 1}]
    assert previewed(api, accept_risk=True)["applies_to"] == 3
    assert api.get(f"/v1/bulk/{found['id']}").json == found
    assert api.harness.ledger.overview.size() == 4, "nothing has happened"


def test_what_was_previewed_is_done_once(api: Api) -> None:
    job_id = api.created()
    preview = previewed(api, "cancel", filter={"status": "queued"})
    other = api.created()

    first = asked(api, "cancel", preview=preview["id"])
    second = asked(api, "cancel", preview=preview["id"], filter={"status": "queued"})
    act_on_part(api.harness.runtime, inf)

    assert (first.status_code, second.status_code) == (202, 200)
    assert first.headers["Location"] == f"/v1/bulk/{preview['id']}"
    assert first.json == second.json
    assert (first.json["state"], first.json["asked_by"]) == ("running", TENANT)
    shown: Any = api.get(f"/v1/bulk/{preview['id']}").json
    assert (shown["state"], shown["done"], shown["total"]) == ("done", 1, 1)
    assert shown["finished_at"]
    assert api.harness.job(job_id).status == "cancelled"
    assert api.harness.job(other).status == "queued"
    assert [entry.action for entry in api.harness.ledger.audit.entries(9)] == ["bulk_cancel"]


def test_without_a_preview_the_jobs_of_now_are_acted_on(api: Api) -> None:
    job_id = api.created(metadata={"sku": 17})
    api.created(metadata={"sku": 18})

    answer = asked(api, "cancel", filter={"metadata.sku": 17, "unconfirmed": False})
    act_on_part(api.harness.runtime, inf)

    assert (answer.status_code, answer.json["total"]) == (202, 1)
    assert api.harness.job(job_id).status == "cancelled"


def test_the_consent_is_that_of_the_real_call(api: Api) -> None:
    job_states.given_up(api.harness)
    preview = previewed(api, accept_risk=True)

    started = asked(api, preview=preview["id"])
    act_on_part(api.harness.runtime, inf)

    assert started.json["accept_risk"] is False
    [refused] = api.get(f"/v1/bulk/{preview['id']}").json["refused"]  # type: ignore[index]
    assert "may pay twice" in refused["reason"]


def test_a_tenant_acts_on_its_own_jobs_only(open_api: Open) -> None:
    api = open_api(ORCHESTRATOR_API_KEYS=f"{TENANT}:api-key-of-the-tests,shop:key-of-the-shop-1")
    shop, admin = api.with_key("key-of-the-shop-1"), api.as_admin()
    api.created()
    shop.created()

    own, all_ = previewed(shop, "cancel"), previewed(admin, "cancel")

    assert (own["total"], own["filter"]) == (1, {"tenant": "shop"})
    assert (all_["total"], all_["tenant"]) == (2, None)
    assert previewed(admin, "cancel", filter={"tenant": "shop"})["total"] == 1
    assert asked(shop, "cancel", filter={"tenant": TENANT}).status_code == 403
    for bulk_id in (own["id"], all_["id"], "bulk_" + "0" * 26, "%00"):
        assert api.get(f"/v1/bulk/{bulk_id}").status_code == 404
        assert asked(api, "cancel", preview=bulk_id).status_code in (404, 422)
    assert admin.get(f"/v1/bulk/{own['id']}").status_code == 200
    assert api.harness.ledger.audit.entries(9) == []


@pytest.mark.parametrize("named", [True, False])
def test_a_job_that_cannot_be_read_is_counted_and_left_alone(
    open_api: Open, *, named: bool
) -> None:
    api = open_api(ORCHESTRATOR_API_KEYS=f"{TENANT}:api-key-of-the-tests,shop:key-of-the-shop-1")
    shop = api.with_key("key-of-the-shop-1")
    first, lost, other = api.created(), api.created(), shop.created()
    for job_id in (lost, other):
        job_states.make_unreadable(api.harness, job_id, {"attempt": "x"})

    which: dict[str, Any] = {"jobs": [first, lost]} if named else {"filter": {}}
    answer: Any = api.post("/v1/bulk", json={"action": "cancel", **which})
    act_on_part(api.harness.runtime, inf)

    assert (answer.json["total"], answer.json["applies_to"]) == (2, 1)
    assert answer.json["refused"] == [{"reason": operations.UNREADABLE, "jobs": 1}]
    assert api.harness.job(first).status == "cancelled"


def test_jobs_can_be_named_in_the_place_of_a_filter(open_api: Open) -> None:
    api = open_api(ORCHESTRATOR_API_KEYS=f"{TENANT}:api-key-of-the-tests,shop:key-of-the-shop-1")
    first, second = api.created(), api.created()
    other = api.with_key("key-of-the-shop-1").created()

    body = {"action": "cancel", "jobs": [first, other, first]}
    answer: Any = api.post("/v1/bulk", json=body)
    act_on_part(api.harness.runtime, inf)

    assert (answer.status_code, answer.json["jobs"]) == (202, [first, other])
    assert (answer.json["total"], answer.json["applies_to"]) == (2, 1)
    assert answer.json["refused"] == [{"reason": operations.NO_SUCH_JOB, "jobs": 1}]
    statuses = [api.harness.job(job_id).status for job_id in (first, second, other)]
    assert statuses == ["cancelled", "queued", "queued"]
    assert previewed(api.as_admin(), "cancel", filter={})["jobs"] is None
    for jobs, field in (([], "jobs"), ([first] * 201, "jobs"), (["x"], "jobs.0")):
        refused = api.post("/v1/bulk", json={"action": "cancel", "jobs": jobs})
        assert field in errors(refused)
    assert "jobs" in errors(asked(api, "cancel", jobs=[first]))


def test_a_wrong_request_is_refused_by_name(api: Api) -> None:
    preview = previewed(api, "cancel")
    message = "filter.statsu is not a known field; did you mean status?"

    assert errors(asked(api, filter={"statsu": "failed"})) == {"filter.statsu": message}
    no_filter = api.post("/v1/bulk", json={"action": "retry"})
    assert errors(no_filter) == {"filter": "filter is required"}
    assert "did you mean cancel?" in errors(asked(api, "cancle"))["action"]
    for filters, field in (
        ({"status": "gone"}, "filter.status"),
        ({"status": None}, "filter.status"),
        ({"model": ["x"]}, "filter.model"),
        ({"at_risk": "true"}, "filter.at_risk"),
        ({"metadata.sku": {}}, "filter.metadata.sku"),
        ({"metadata." + "x" * 1000: "1"}, "filter.metadata." + "x" * 71),
        ({"tenant": "a b"}, "filter.tenant"),
        ({"tenant": None}, "filter.tenant"),
        ({f"metadata.{number}": "1" for number in range(21)}, "filter"),
        ([], "filter"),
    ):
        assert field in errors(asked(api, filter=filters)), filters
    assert "action" in errors(asked(api, "retry", preview=preview["id"]))
    other = asked(api, "cancel", preview=preview["id"], filter={"status": "queued"})
    assert "filter" in errors(other)
    assert "dry_run" in errors(asked(api, dry_run="yes"))


def test_more_jobs_than_the_limit_are_refused(
    api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(operations, "MAX_JOBS", 2)
    for _ in range(3):
        api.created()
    history = History(f"sqlite:///{tmp_path}/history.db")
    for runtime in (
        api.harness.runtime,
        replace(api.harness.runtime, open_history=lambda: history),
    ):
        Recorder(runtime.ledger, history, runtime.clock).record()

        answer = asked(Api(api.harness, WebApp(runtime)), "cancel")

        assert "it finds more than 2 jobs" in errors(answer)["filter"]
    history.close()


def test_while_the_history_is_away_no_action_begins(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.harness.runtime.history.database, "_retry_at", inf)
    api.created()

    answer = asked(api, "cancel")

    assert answer.status_code == 503
    assert answer.json["detail"] == (
        "the history does not answer, so a bulk action finds no jobs; send it again later"
    )
    assert answer.headers["Retry-After"]


def test_the_specification_names_every_filter(api: Api) -> None:
    document: Any = api.get("/openapi.json").json
    described = document["components"]["schemas"]["BulkRequest"]["properties"]["filter"]

    assert {*described["properties"], "metadata.<key>"} == set(FILTERS)
    assert described["additionalProperties"]["type"] == ["string", "number", "boolean"]


def test_a_tenant_has_a_most_of_running_actions(api: Api) -> None:
    api.created()
    for _ in range(MAX_STARTED):
        assert asked(api, "cancel").status_code == 202

    answer = asked(api, "cancel")

    assert (answer.status_code, answer.json["limit"]) == (429, "bulk")
    assert answer.headers["Retry-After"]


def test_a_key_that_only_reads_cannot_begin_an_action(api: Api) -> None:
    runtime, bulk_id = api.harness.runtime, previewed(api)["id"]
    key, _ = create_key(runtime, actor="tests", tenant=TENANT, scopes=["jobs:read"])
    reader, nobody = api.with_key(key), replace(api, headers={})

    assert reader.get(f"/v1/bulk/{bulk_id}").status_code == 200
    assert [asked(each, dry_run=True).status_code for each in (reader, nobody)] == [403, 401]


def test_a_job_that_was_retried_days_ago_is_left_out(api: Api, tmp_path: Path) -> None:
    history = History(f"sqlite:///{tmp_path}/history.db")
    runtime = replace(api.harness.runtime, open_history=lambda: history)
    recorder = Recorder(runtime.ledger, history, runtime.clock)
    client = Api(api.harness, WebApp(runtime))
    recorder.record()
    old, other = (job_states.refused(api.harness, prompt=text) for text in ("A cube", "A ball"))
    retried = api.post(f"/v1/jobs/{old}/retry")
    assert retried.status_code == 202
    assert client.create(UNIFIED, key=other).status_code == 202  # it is not a retry
    while recorder.record():
        pass

    found = previewed(client, filter={"status": "failed"})

    assert (found["applies_to"], found["refused"]) == (1, [{"reason": RETRIED, "jobs": 1}])
    history.close()


def test_actions_are_listed_and_stopped_by_their_tenant_only(open_api: Open) -> None:
    api = open_api(ORCHESTRATOR_API_KEYS=f"{TENANT}:api-key-of-the-tests,shop:key-of-the-shop-1")
    shop, admin = api.with_key("key-of-the-shop-1"), api.as_admin()
    job_states.refused(api.harness)
    bulk_id, of_all = asked(api).json["id"], asked(admin).json["id"]

    for stranger, foreign in ((shop, bulk_id), (shop, of_all), (api, of_all)):
        assert stranger.post(f"/v1/bulk/{foreign}/stop").status_code == 404
    stopped: Any = api.post(f"/v1/bulk/{bulk_id}/stop")
    again: Any = admin.post(f"/v1/bulk/{bulk_id}/stop")

    assert (stopped.status_code, stopped.json["state"]) == (200, "stopped")
    assert (stopped.json["stopped_by"], again.json) == (TENANT, stopped.json)
    assert api.get("/v1/bulk").json == {"actions": [stopped.json]}
    assert shop.get("/v1/bulk").json == {"actions": []}
    assert shop.get(f"/v1/bulk?tenant={TENANT}").status_code == 403
    everything: Any = admin.get("/v1/bulk").json
    assert [each["id"] for each in everything["actions"]] == [of_all, bulk_id]
    assert admin.get(f"/v1/bulk?tenant={TENANT}").json == {"actions": [stopped.json]}
    assert admin.post(f"/v1/bulk/{of_all}/stop").status_code == 200
    assert api.post(f"/v1/bulk/bulk_{'0' * 26}/stop").status_code == 404
    preview = previewed(api)["id"]
    assert api.post(f"/v1/bulk/{preview}/stop").status_code == 404, "it was not started"
    assert not act_on_part(api.harness.runtime, inf)


def test_a_stopped_action_keeps_what_was_done(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.ledger.bulk.PART_JOBS", 2)
    jobs = [api.created() for _ in range(5)]
    bulk_id = asked(api, "cancel").json["id"]
    assert act_on_part(api.harness.runtime, inf)

    api.post(f"/v1/bulk/{bulk_id}/stop")

    assert not act_on_part(api.harness.runtime, inf)
    shown: Any = api.get(f"/v1/bulk/{bulk_id}").json
    assert (shown["state"], shown["done"], shown["total"]) == ("stopped", 2, 5)
    statuses = [api.harness.job(job_id).status for job_id in jobs]
    assert sorted(statuses) == ["cancelled"] * 2 + ["queued"] * 3
