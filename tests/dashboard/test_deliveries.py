"""Deliveries: who sees which failed notification, and sends it again; test notifications."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.jobs.model import ErrorCode, FollowUpStatus, JobError, Outcome, Step
from orchestrator.operations.keys import create_key
from orchestrator.security.api_keys import Scope
from tests.api.conftest import KEY, settle
from tests.dashboard.visitor import HOSTILE, Visitor, assert_harmless
from tests.support import notify_kit
from tests.support.fakes import Answer, FakeProvider, Harness, serving

FAILED = Outcome.failed(JobError(ErrorCode.CONTENT_POLICY, "refused"))
MINUTE_MS = 60_000


@pytest.fixture
def visitor(start: Callable[..., Harness]) -> Visitor:
    return Visitor(start(**notify_kit.VARIABLES)).signed_in()


def dead(visitor: Visitor, tenant: str, error: str = "503 from the host") -> str:
    """Make a job whose caller could not be told."""
    harness = visitor.harness
    url = f"https://hooks.{tenant}.example/hook"
    job_id = harness.enqueue(tenant=tenant, notify_url=url)
    settle(harness, job_id, FAILED)
    now = harness.clock()
    lease = harness.ledger.follow_ups.claim(job_id, Step.NOTIFY, now=now, lease_ms=MINUTE_MS)
    assert lease
    end: dict[str, Any] = {"now": now, "tries": 9, "error": error, "images": ()}
    harness.ledger.follow_ups.done(lease, Step.NOTIFY, FollowUpStatus.DEAD, **end)
    return job_id


def paused(visitor: Visitor, host: str) -> None:
    now = visitor.harness.clock()
    for number in range(12):
        visitor.harness.ledger.circuit_breaker.failed(host, now=now - (12 - number) * MINUTE_MS)


def test_a_tenant_sees_and_sends_its_own_failed_notifications(visitor: Visitor) -> None:
    own, other = dead(visitor, "tests"), dead(visitor, "studio", HOSTILE)
    paused(visitor, "hooks.tests.example")
    paused(visitor, "hooks.studio.example")
    page = visitor.text("/deliveries")
    assert_harmless(page)
    for text in (own, other, "hooks.studio.example", "Failed notifications (2)"):
        assert text in page
    assert own not in visitor.text("/deliveries?tenant=studio")
    visitor.harness.clock.forward(600)
    assert "with the next notification" in visitor.text("/deliveries")

    visitor.signed_in(KEY)
    page = visitor.text("/deliveries")
    assert own in page
    assert "hooks.tests.example" in page
    assert other not in page
    assert "studio" not in page
    assert visitor.send(f"/deliveries/{other}/replay").status_code == 404
    assert visitor.send(f"/deliveries/{own}/replay").headers["Location"] == "/deliveries"
    assert f"The notification of {own} is sent again" in visitor.text("/deliveries")
    again = visitor.harness.job(own).notification
    assert again
    assert again.status is FollowUpStatus.PENDING
    [entry] = visitor.harness.ledger.audit.entries(9)
    assert (entry.action, entry.target) == ("notify", own)


def test_all_that_match_and_the_ticked_lead_to_the_preview_of_a_bulk_action(
    visitor: Visitor,
) -> None:
    job_id = dead(visitor, "studio")

    page = visitor.text("/deliveries?tenant=studio")
    assert 'action="/bulk?notification=dead&amp;tenant=studio"' in page
    assert '<input type="hidden" name="action" value="notify">' in page
    assert f'name="job" value="{job_id}" form="bulk"' in page


def test_whoever_may_only_read_gets_no_buttons(visitor: Visitor) -> None:
    job_id = dead(visitor, "tests")
    runtime, scopes = visitor.harness.runtime, [Scope.JOBS_READ]
    key, _ = create_key(runtime, actor="tests", tenant="tests", scopes=scopes)
    visitor.signed_in(key)

    page = visitor.text("/deliveries")
    assert job_id in page
    for text in ("Send again", "Send the test", "<form id"):
        assert text not in page
    for path in (f"/deliveries/{job_id}/replay", "/deliveries/test"):
        assert visitor.send(path, {"url": "https://shop.example"}).status_code == 403


def test_a_job_without_a_receiver_says_why_nothing_is_sent(visitor: Visitor) -> None:
    job_id = visitor.harness.enqueue()
    visitor.send(f"/deliveries/{job_id}/replay")
    assert "Nothing was sent: it is queued" in visitor.text("/deliveries")
    assert visitor.client.post(f"/deliveries/{job_id}/replay").status_code == 403
    assert "No notification was given up" in visitor.text("/deliveries")


def answering(status: int) -> FakeProvider:
    return FakeProvider(lambda _: Answer(status))


def test_a_test_shows_what_the_receiver_answered(visitor: Visitor) -> None:
    answers = {204: "accepted the test", 503: "did not accept the test"}
    for status, words in answers.items():
        with serving(answering(status)) as receiver:
            target = notify_kit.url(receiver)
            answer = visitor.send("/deliveries/test", {"url": target, "tenant": "studio"})
            [sent] = receiver.requests

        assert answer.status_code == 200
        assert words in answer.text
        assert f"HTTP status {status}" in answer.text
        assert f'value="{target}"' in answer.text  # for the next test
        assert sent.json["type"] == "test"
        assert 'hx-get="/deliveries"' in answer.text


def test_a_test_that_may_not_be_sent_says_why_at_its_field(visitor: Visitor) -> None:
    for url in ("no link", HOSTILE):
        answer = visitor.send("/deliveries/test", {"url": url, "tenant": "studio"})
        assert answer.status_code == 422
        assert 'aria-describedby="test-url-error"' in answer.text
        assert "<script>alert" not in answer.text
    answer = visitor.send("/deliveries/test", {"url": "https://shop.example", "tenant": "a b"})
    assert 'aria-describedby="test-tenant-error"' in answer.text
    assert visitor.harness.ledger.audit.entries(9) == []
