"""`webhooks.unwrap` against the signatures of the server and of the standardwebhooks package."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook
from werkzeug.datastructures import Headers

from orchestrator.jsonio import dump
from orchestrator.security import standard_webhooks
from orchestrator.security.secret import Secret
from orchestrator_client import webhooks
from orchestrator_client.webhooks import InvalidNotification, unwrap
from tests.clients.kit import DONE
from tests.support.cases import for_each

SECRET, OTHER = standard_webhooks.new_secret(), standard_webhooks.new_secret()
TIME = "2026-11-30T00:53:26.120Z"
BODY = dump({"type": "job.succeeded", "timestamp": TIME, "data": DONE})
BATCH = {
    "id": "batch_1",
    "status": "completed",
    "tenant": "shop",
    "total": 1,
    "counts": {"succeeded": 1},
    "created_at": TIME,
    "completed_at": TIME,
    "notification": {"status": "pending", "attempts": 0, "to": "shop.example.com"},
}


def headers(*secrets: str, body: bytes = BODY, age: float = 0) -> dict[str, str]:
    """What the server sends."""
    seconds = int(time.time() - age)
    return standard_webhooks.headers([Secret(s) for s in secrets], "msg_1", seconds, body)


def test_a_notification_about_a_job_is_typed() -> None:
    found = unwrap(BODY, headers(SECRET), SECRET)

    assert isinstance(found, webhooks.JobNotification)
    assert (found.id, found.type, found.job.id) == ("msg_1", "job.succeeded", "job_1")
    assert found.timestamp == datetime(2026, 11, 30, 0, 53, 26, 120_000, UTC)
    assert found.job.succeeded
    assert "private" not in repr(found)


def test_a_notification_about_a_batch_and_one_of_a_later_version() -> None:
    body = dump({"type": "batch.completed", "timestamp": TIME, "data": BATCH})
    found = unwrap(body, headers(SECRET, body=body), SECRET)
    assert isinstance(found, webhooks.BatchNotification)
    assert found.batch.done

    later = dump({"type": "tenant.full", "timestamp": TIME, "data": {"tenant": "shop"}})
    found = unwrap(later, headers(SECRET, body=later), SECRET)
    assert type(found) is webhooks.Notification
    assert found.data == {"tenant": "shop"}


def test_the_signature_of_the_standard_library_of_webhooks_is_accepted() -> None:
    now = datetime.now(UTC)
    signed = {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": Webhook(SECRET).sign("msg_1", now, BODY.decode()),
    }
    assert unwrap(BODY.decode(), Headers(signed), SECRET).id == "msg_1"


@pytest.mark.parametrize(
    ("signed", "known"),
    [((SECRET, OTHER), OTHER), ((OTHER,), [SECRET, OTHER])],
    ids=["we sign twice", "the caller knows both"],
)
def test_both_sides_may_rotate_the_secret(signed: tuple[str, ...], known: str | list[str]) -> None:
    assert unwrap(BODY, headers(*signed), known).id == "msg_1"


#: What is wrong with a notification: returns its body and headers, changed from good ones.
WRONG: dict[str, Callable[[dict[str, Any]], tuple[bytes, dict[str, Any]]]] = {
    "another body": lambda good: (BODY + b" ", good),
    "another secret": lambda good: (BODY, headers(OTHER)),
    "too old": lambda good: (BODY, headers(SECRET, age=400)),
    "of the future": lambda good: (BODY, headers(SECRET, age=-100_000)),
    "another id": lambda good: (BODY, {**good, "webhook-id": "msg_2"}),
    "another time": lambda good: (BODY, {**good, "webhook-timestamp": "10000000000"}),
    "no number": lambda good: (BODY, {**good, "webhook-timestamp": "²"}),
    "no signature": lambda good: (BODY, {**good, "webhook-signature": "v1,"}),
    "no base64": lambda good: (BODY, {**good, "webhook-signature": "v1,é"}),
    "another version": lambda good: (
        BODY,
        {**good, "webhook-signature": good["webhook-signature"].replace("v1", "v2")},
    ),
    **{
        f"without {name}": lambda good, name=name: (  # type: ignore[misc]
            BODY,
            {key: value for key, value in good.items() if key != name},
        )
        for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
    },
    **{
        f"the body {body!r}": lambda good, body=body: (body, headers(SECRET, body=body))  # type: ignore[misc]
        for body in (b"", b"[]", b"{}", b'{"type": 1}')
    },
}


@for_each("wrong", WRONG)
def test_anything_else_is_refused(wrong: str) -> None:
    body, found = WRONG[wrong](headers(SECRET))

    with pytest.raises(InvalidNotification):
        unwrap(body, found, SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64!"])
def test_a_wrong_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_ and base64") as error:
        unwrap(BODY, headers(SECRET), secret)
    assert "not base64!" not in str(error.value)


def test_no_secret_at_all_is_an_error_of_the_program_and_no_forgery() -> None:
    with pytest.raises(ValueError, match="at least one secret"):
        unwrap(BODY, headers(SECRET), [])
