"""Rejected messages: one is read, replayed or deleted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.jsonio import dump
from orchestrator.ledger.rejected_messages import MAX_BODY_BYTES
from orchestrator.operations.rejected import (
    NotReplayable,
    UnknownMessage,
    delete_rejected,
    find_rejected,
    replay_rejected,
)
from tests.support.fakes import NOON, Harness

REQUEST = {"provider": "hiapi", "model": "Nano-Banana-2", "prompt": "A red cube"}


#: An enqueue message that makes a job.
WHOLE = dump({"id": "m", "args": [], "kwargs": REQUEST})


@pytest.fixture
def harness(start: Callable[..., Harness]) -> Harness:
    return start()


def kept(harness: Harness, body: bytes, kind: str = "enqueue", **context: str) -> str:
    harness.ledger.rejected.keep(kind, now=NOON, reason="no", body=body, **context)
    return harness.ledger.rejected.page(1)[0].id


def test_pages_go_on_after_the_last_message(harness: Harness) -> None:
    ids = [kept(harness, b"%d" % number) for number in range(3)]

    first = harness.ledger.rejected.page(2)
    rest = harness.ledger.rejected.page(2, before=first[-1].id)

    assert [each.id for each in (*first, *rest)] == ids[::-1]
    assert harness.ledger.rejected.page(2, before="x") == []


def test_a_replayed_enqueue_message_makes_its_job_once_and_goes(harness: Harness) -> None:
    body = dump({"id": "message-1", "args": [], "kwargs": {**REQUEST, "tenant": "shop"}})
    message_id = kept(harness, body)

    job_id = replay_rejected(harness.runtime, message_id, actor="tests")

    assert harness.job(job_id).tenant == "shop"
    assert replay_rejected(harness.runtime, kept(harness, body), actor="tests") == job_id
    with pytest.raises(UnknownMessage):
        find_rejected(harness.runtime, message_id)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("enqueue", b"<"),
        ("enqueue", b"[1]"),
        ("enqueue", dump({"id": "m", "args": [], "kwargs": {**REQUEST, "model": "x"}})),
        ("callback", b"<html>"),
        ("callback", b"{" * 5000),
        ("enqueue", WHOLE.ljust(MAX_BODY_BYTES)),
        ("enqueue", WHOLE.replace(b"red", b"\xff")),
        ("enqueue", WHOLE.replace(b"[]", b"[1]")),
    ],
)
def test_a_message_that_is_rejected_again_stays(harness: Harness, kind: str, body: bytes) -> None:
    reference = f"job_{'0' * 28}.1"
    message_id = kept(harness, body, kind, provider="hiapi", reference=reference)

    with pytest.raises(NotReplayable):
        replay_rejected(harness.runtime, message_id, actor="tests")

    assert find_rejected(harness.runtime, message_id).reason == "no"


def test_a_callback_of_a_provider_that_is_not_set_up_stays(start: Callable[..., Harness]) -> None:
    harness = start(HIAPI_API_KEY=None)
    body = dump({"taskId": "task-1", "status": "handling"})
    reference = f"job_{'0' * 28}.1"
    message_id = kept(harness, body, "callback", provider="hiapi", reference=reference)

    with pytest.raises(NotReplayable, match="the provider 'hiapi' is not set up here"):
        replay_rejected(harness.runtime, message_id, actor="tests")


def test_a_deleted_message_is_gone(harness: Harness) -> None:
    message_id = kept(harness, b"{}")

    delete_rejected(harness.runtime, message_id, actor="tests")

    with pytest.raises(UnknownMessage):
        delete_rejected(harness.runtime, message_id, actor="tests")
    assert harness.ledger.audit.entries(1)[0].action == "rejected_delete"
