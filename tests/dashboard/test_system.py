"""Rejected messages, and the state of the system with what doctor finds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest

from orchestrator.operations import examination
from orchestrator.operations.doctor import CheckResult
from orchestrator.operations.examination import last_examination, start_examination
from tests.api.conftest import KEY
from tests.dashboard.visitor import HOSTILE, Visitor, assert_harmless
from tests.ledger.kit import eventually
from tests.support.fakes import Harness

GOOD = CheckResult("redis", "ok", "version 7")
BAD = CheckResult("archive", "wrong", HOSTILE, "correct ORCHESTRATOR_ARCHIVE_URL")


@pytest.fixture
def visitor(start: Callable[..., Harness]) -> Visitor:
    return Visitor(start()).signed_in()


def reject(visitor: Visitor, body: str, kind: str = "callback", reason: str = "no JSON") -> str:
    ledger, now = visitor.harness.ledger, visitor.harness.clock()
    ledger.rejected.keep(kind, now=now, reason=reason, body=body.encode(), provider="hiapi")
    return ledger.rejected.page(1)[0].id


def test_a_rejected_message_is_shown_as_text_and_deleted(visitor: Visitor) -> None:
    assert "No message was rejected" in visitor.text("/rejected")
    message = reject(visitor, HOSTILE, reason=HOSTILE)

    page = visitor.text("/rejected")
    assert_harmless(page)
    assert "only its start was kept" in page
    visitor.send(f"/rejected/{message}/replay")
    assert "rejected again: only the start" in visitor.text("/rejected")
    assert visitor.client.post(f"/rejected/{message}/delete").status_code == 403
    assert visitor.send(f"/rejected/{message}/delete").headers["Location"] == "/rejected"
    page = visitor.text("/rejected")
    assert "The message is deleted" in page
    assert message not in page
    visitor.send(f"/rejected/{message}/delete")
    assert "not there any more" in visitor.text("/rejected")
    actions = [entry.action for entry in visitor.harness.ledger.audit.entries(9)]
    assert actions == ["rejected_delete"]


def test_a_message_is_read_again_after_a_correction(visitor: Visitor) -> None:
    body = (
        '{"id": "m-1", "args": [], "kwargs": {"provider": "hiapi", "model": "Nano-Banana-2",'
        ' "prompt": "A red cube"}}'
    )
    message = reject(visitor, body, kind="enqueue")

    visitor.send(f"/rejected/{message}/replay")
    page = visitor.text("/rejected")
    assert "The message was read. Its result: job" in page
    assert message not in page
    assert sum(visitor.harness.ledger.overview.queued().values()) == 1


def test_messages_are_paged(visitor: Visitor) -> None:
    first = reject(visitor, "{1")
    for number in range(20):
        reject(visitor, f"{{{number}")

    page = visitor.text("/rejected")
    assert first not in page
    assert "Older" in page
    last = visitor.harness.ledger.rejected.page(20)[-1].id
    assert first in visitor.text(f"/rejected?after={last}")


def test_only_administrators_see_messages_and_the_system(visitor: Visitor) -> None:
    message = reject(visitor, "{")
    visitor.signed_in(KEY)

    assert [visitor.status(path) for path in ("/rejected", "/system")] == [403, 403]
    forms = (f"/rejected/{message}/replay", f"/rejected/{message}/delete", "/system/check")
    assert [visitor.send(path).status_code for path in forms] == [403] * 3
    assert visitor.harness.ledger.rejected.get(message)
    assert visitor.harness.ledger.installation.examination() is None


def test_the_system_shows_redis_queues_versions_and_processes(visitor: Visitor) -> None:
    page = visitor.text("/system")

    for text in ("Redis memory", "Append-only file", "Schema of the history", "Start those of"):
        assert text in page
    assert "The broker does not answer" in page  # a harness has none
    assert visitor.client.post("/system/check").status_code == 403


def test_results_of_the_checks_are_shown_as_they_come(visitor: Visitor) -> None:
    go_on = threading.Event()

    def checks() -> Iterator[CheckResult]:
        yield GOOD
        assert go_on.wait(120)
        yield BAD

    with patch.object(examination, "examine", checks):
        runtime = visitor.harness.runtime
        thread = start_examination(runtime, checks)
        assert thread
        eventually(lambda: len(last_examination(runtime).results) == 1)  # type: ignore[union-attr]
        page = visitor.text("/system", live=True)
        assert "Checking … 1 results so far" in page
        assert "Check again" not in page
        visitor.send("/system/check")
        assert "Other checks are running already" in visitor.text("/system")
        go_on.set()
        thread.join(120)
    page = visitor.text("/system", live=True)
    assert "1 of 2 results need somebody" in page
    assert "correct ORCHESTRATOR_ARCHIVE_URL" in page
    assert_harmless(page)
    again = start_examination(runtime, lambda: [GOOD])
    assert again
    again.join(120)
    assert "All 1 results are good" in visitor.text("/system", live=True)


def test_a_check_that_breaks_off_is_a_result(visitor: Visitor) -> None:
    def checks() -> Iterator[CheckResult]:
        yield GOOD
        raise ZeroDivisionError("a secret")

    thread = start_examination(visitor.harness.runtime, checks)
    assert thread
    thread.join(120)

    page = visitor.text("/system")
    assert "a check broke off with ZeroDivisionError" in page
    assert "a secret" not in page
