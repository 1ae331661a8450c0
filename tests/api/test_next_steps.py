"""A refusal says what its caller can do next."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.operations.keys import create_key
from tests.api.conftest import UNIFIED, Api

UNKNOWN = "job_" + "0" * 28


def said(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json["detail"])


def test_an_idempotency_key_of_another_request(api: Api) -> None:
    api.create(UNIFIED, key="order-17")
    other = {**UNIFIED, "prompt": "A blue cube"}
    batch = {"jobs": [UNIFIED]}
    api.post("/v1/jobs/batch", json=batch, headers={"Idempotency-Key": "order-18"})

    again = api.post(
        "/v1/jobs/batch", json={"jobs": [other]}, headers={"Idempotency-Key": "order-18"}
    )

    for answer in (api.create(other, key="order-17"), again):
        assert "send a new key for a new request" in said(answer, 422)


def test_an_id_that_is_not_known(api: Api) -> None:
    for path in (f"/v1/jobs/{UNKNOWN}", f"/v1/jobs/{UNKNOWN}/events", "/v1/batches/batch_x"):
        assert "check the id and the key" in said(api.get(path), 404)


def test_a_key_that_may_not_do_it(api: Api) -> None:
    key, _ = create_key(api.harness.runtime, actor="tests", tenant="shop", scopes=["jobs:read"])
    reader = api.with_key(key)

    assert "orchestrator keys create --scopes jobs:write" in said(reader.create(UNIFIED), 403)
    assert "leave out `tenant`" in said(reader.get("/v1/jobs?tenant=other"), 403)


def test_an_error_of_our_own(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("orchestrator.api.jobs.search", crash)

    detail = said(api.get("/v1/jobs"), 500)

    assert "Send the same request again" in detail
    assert "X-Request-ID" in detail
