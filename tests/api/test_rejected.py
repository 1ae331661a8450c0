"""`/v1/rejected`: administrators list, show, replay and delete rejected messages."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.jsonio import dump
from orchestrator.providers.hiapi import HiAPI
from orchestrator.providers.responses import Unreadable
from tests.api.conftest import UNIFIED, Api
from tests.support.fakes import NOON
from tests.webhooks.kit import SUCCESS, Receiver


def kept(api: Api, body: bytes = b"<") -> str:
    api.harness.ledger.rejected.keep("enqueue", now=NOON, reason="no", body=body)
    return api.harness.ledger.rejected.page(1)[0].id


def test_messages_are_listed_in_pages_and_shown(api: Api) -> None:
    admin, ids = api.as_admin(), [kept(api) for _ in range(3)][::-1]

    first: Any = admin.get("/v1/rejected?limit=2").json
    rest: Any = admin.get(f"/v1/rejected?limit=2&cursor={first['next_cursor']}").json

    assert [each["id"] for each in (*first["messages"], *rest["messages"])] == ids
    assert (first["next_cursor"], rest["next_cursor"]) == (ids[1], None)
    shown: Any = admin.get(f"/v1/rejected/{ids[0]}").json
    assert shown == first["messages"][0]
    assert (shown["kind"], shown["reason"], shown["body"]) == ("enqueue", "no", "<")
    assert (shown["provider"], shown["reference"], shown["complete"]) == (None, None, True)
    assert admin.get(f"/v1/rejected?limit=3&cursor={ids[2]}").json == {
        "messages": [],
        "next_cursor": None,
    }
    for query in ("limit=0", "limit=201", "cursor=job_x", "tenant=shop"):
        assert admin.get(f"/v1/rejected?{query}").status_code == 422, query


def test_a_rejected_callback_is_replayed_after_an_update_of_its_adapter(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, admin = Receiver.on(api.harness), api.as_admin()
    job_id = receiver.running()
    with monkeypatch.context() as old_version:
        old_version.setattr(HiAPI, "read_callback", unreadable)
        assert receiver.deliver(job_id, SUCCESS["hiapi"]).status_code == 400
    listed: Any = admin.get("/v1/rejected").json
    [message] = listed["messages"]
    assert (message["provider"], message["reference"]) == ("hiapi", f"{job_id}.1")
    api.harness.nudges.sent.clear()

    answer = admin.post(f"/v1/rejected/{message['id']}/replay")

    assert answer.json == {"id": message["id"], "result": "settled"}
    assert api.harness.job(job_id).status == "succeeded"
    assert ("archive", job_id) in api.harness.nudges.sent
    assert admin.get(f"/v1/rejected/{message['id']}").status_code == 404
    [entry] = api.harness.ledger.audit.entries(9)
    assert (entry.action, entry.target) == ("rejected_replay", message["id"])


def unreadable(*_: object) -> None:
    raise Unreadable("an old version")


def test_a_message_that_is_rejected_again_stays_until_it_is_deleted(api: Api) -> None:
    admin = api.as_admin()
    body = dump({"id": "m", "args": [], "kwargs": {**UNIFIED, "model": "x"}})
    path = f"/v1/rejected/{kept(api, body)}"

    refused = admin.post(f"{path}/replay")

    assert refused.status_code == 409
    assert "model" in refused.text
    client = admin.app.test_client()
    deleted = [client.delete(path, headers=admin.headers).status_code for _ in range(2)]
    assert deleted == [200, 404]
    for absent in (path, "/v1/rejected/x"):
        assert admin.get(absent).status_code == 404
        assert admin.post(f"{absent}/replay").status_code == 404


def test_a_tenant_neither_sees_nor_changes_rejected_messages(api: Api) -> None:
    path = f"/v1/rejected/{kept(api)}"
    client = api.app.test_client()

    answers = [api.get("/v1/rejected"), api.get(path), api.post(f"{path}/replay")]
    answers.append(client.delete(path, headers=api.headers))

    assert {answer.status_code for answer in answers} == {403}
    assert api.as_admin().get(path).status_code == 200
