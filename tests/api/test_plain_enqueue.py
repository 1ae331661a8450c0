"""The shortcut of an enqueue past Flask gives the answers of Flask's route."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from orchestrator.api import plain_enqueue
from tests.api.conftest import NATIVE, UNIFIED, Api

#: Fields that differ between two jobs.
_OWN = {"id", "created_at", "updated_at", "deadline_at"}


def _shown(answer: TestResponse) -> tuple[int, dict[str, str], Any]:
    """Return what must be equal in two answers."""
    body = {k: v for k, v in (answer.json or {}).items() if k not in _OWN}
    headers = {name: value for name, value in answer.headers if name != "X-Request-ID"}
    if "Location" in headers:
        headers["Location"] = headers["Location"].rpartition("/")[0]
    return answer.status_code, headers, body


REQUESTS: dict[str, dict[str, Any]] = {
    "unified": {"json": UNIFIED},
    "native": {"json": NATIVE},
    "with metadata": {"json": {**UNIFIED, "metadata": {"order": 17}, "deadline_seconds": 90}},
    "wrong field": {"json": {**UNIFIED, "promt": "x"}},
    "wrong values": {"json": {**UNIFIED, "n": 1000, "provider": "evolnk"}},
    "not JSON": {"data": b'{"provider": NaN}', "content_type": "application/json"},
    "a name twice": {"data": b'{"n": 1, "n": 9}', "content_type": "application/json"},
    "not an object": {"data": b"[1]", "content_type": "application/json"},
    "no text": {"data": b'{"provider": "\xff"}', "content_type": "application/json"},
    "deep": {"data": b"[" * 5000, "content_type": "application/json"},
    "empty": {"data": b"", "content_type": "application/json"},
    "another type": {"data": b"{}", "content_type": "text/plain"},
    "unknown parameter": {"json": UNIFIED, "query_string": "tenent=x"},
    "unknown key": {"json": UNIFIED, "headers": {"Authorization": "Bearer wrong"}},
    "no key": {"json": UNIFIED, "headers": {"Authorization": ""}},
    "bad idempotency key": {"json": UNIFIED, "headers": {"Idempotency-Key": ""}},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_answer_is_that_of_flask(api: Api, name: str) -> None:
    answered = _shown(api.post("/v1/jobs", **REQUESTS[name]))
    with patch.object(plain_enqueue, "PATH", ""):
        assert _shown(api.post("/v1/jobs", **REQUESTS[name])) == answered


def test_a_repeated_key_is_answered_as_by_flask(api: Api) -> None:
    again = {"json": UNIFIED, "headers": {"Idempotency-Key": "order-17"}}
    other = {**again, "json": {**UNIFIED, "prompt": "Another"}}
    api.post("/v1/jobs", **again)
    answered = [_shown(api.post("/v1/jobs", **each)) for each in (again, other)]
    with patch.object(plain_enqueue, "PATH", ""):
        assert [_shown(api.post("/v1/jobs", **each)) for each in (again, other)] == answered
    assert [status for status, _, _ in answered] == [200, 422]


def test_flask_has_no_part_in_the_usual_enqueue(api: Api) -> None:
    with patch.object(Flask, "full_dispatch_request", side_effect=AssertionError):
        assert api.create(UNIFIED).status_code == 202
