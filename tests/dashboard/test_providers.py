"""The page of the providers: who sees what, pause and resume, and figures of the last hour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.history.history import History
from orchestrator.history.recorder import Recorder
from orchestrator.jobs.model import ErrorCode, JobError, Outcome, Step
from orchestrator.jobs.request import JobRequest
from orchestrator.operations.admission import pause_provider
from tests.api.conftest import ADMIN_KEY, KEY, settle
from tests.dashboard.visitor import HOSTILE, Visitor, assert_harmless
from tests.ledger.kit import SUCCESS
from tests.support.fakes import TENANT, Harness

PAUSE, RESUME = "/providers/hiapi/pause", "/providers/hiapi/resume"


@pytest.fixture
def visitor(start: Callable[..., Harness]) -> Visitor:
    made = start(HIAPI_MAX_IN_FLIGHT="12", HIAPI_PRICES='{"unit": "USD", "prices": {"*": 0.25}}')
    return Visitor(made, own=True).signed_in()


def test_an_administrator_pauses_and_resumes_a_provider(visitor: Visitor) -> None:
    assert "0 of 12" in visitor.text("/providers")
    assert visitor.send(PAUSE, {"reason": "until 15:00"}).headers["Location"] == "/providers"

    page = visitor.text("/providers")
    assert "HiAPI is paused. Its jobs wait" in page  # the notice
    for words in ("admin:ops", "until 15:00", "Resume HiAPI", "0.25 USD"):
        assert words in page
    assert visitor.send(RESUME).status_code == 303
    assert "Pause HiAPI" in visitor.text("/providers")
    entries = visitor.harness.ledger.audit.entries(9)
    assert [(e.actor, e.action, e.target) for e in entries] == [
        ("admin:ops", "provider_resume", "hiapi"),
        ("admin:ops", "provider_pause", "hiapi"),
    ]


def test_a_tenant_sees_states_without_buttons_and_without_others(visitor: Visitor) -> None:
    visitor.send(PAUSE, {"reason": "because of studio"})
    visitor.signed_in(KEY)

    page = visitor.text("/providers")
    assert "An operator paused it" in page
    for secret in ("because of studio", "admin:ops", "In flight", "Resume", "Pause"):
        assert secret not in page
    assert visitor.send(RESUME).status_code == 403
    assert visitor.harness.ledger.admission.states(["hiapi"], now=0)["hiapi"].paused_by


def test_only_an_administrator_sees_how_long_tasks_took(visitor: Visitor) -> None:
    ledger, now = visitor.harness.ledger, visitor.harness.clock()
    request = JobRequest("hiapi", "<script>alert(1)</script>")
    job_id = ledger.create(request, now=now, deadline_at=now + 1).job_id
    ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=1)
    ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=now + 72_000)

    page = visitor.text("/providers")
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    assert "1 min 12 s" in page
    assert "all models" in page
    visitor.signed_in(KEY)
    assert "1 min 12 s" not in visitor.text("/providers")


def test_a_form_without_the_token_pauses_nothing(visitor: Visitor) -> None:
    assert visitor.client.post(PAUSE, data={"reason": "x"}).status_code == 403
    assert "gets jobs" in visitor.text("/providers")
    assert visitor.send("/providers/nobody/pause").status_code == 404


def test_a_reason_that_is_too_long_stays_in_its_field_with_the_error(visitor: Visitor) -> None:
    answer = visitor.send(PAUSE, {"reason": HOSTILE[:600]})

    assert answer.status_code == 422
    assert "reason must be a text of at most 500 characters" in answer.text
    assert 'aria-describedby="reason-hiapi-error"' in answer.text
    assert "data-live" not in answer.text  # a refresh would remove the error
    assert visitor.harness.ledger.audit.entries(9) == []
    visitor.send(PAUSE, {"reason": HOSTILE[:200]})
    assert_harmless(visitor.text("/providers", live=True))


def test_a_pause_elsewhere_is_seen_at_the_next_look(visitor: Visitor) -> None:
    live = {"HX-Request": "true"}
    first = visitor.client.get("/providers", headers=live)
    again = {**live, "If-None-Match": first.headers["ETag"]}
    assert visitor.client.get("/providers", headers=again).status_code == 304

    pause_provider(visitor.harness.runtime, "hiapi", actor="cli")
    assert "cli" in visitor.client.get("/providers", headers=again).text


def test_an_open_circuit_shows_why_and_until_when(visitor: Visitor) -> None:
    now = visitor.harness.clock()
    refusal = JobError(ErrorCode.AUTHENTICATION, HOSTILE[:120])
    visitor.harness.ledger.admission.hold(
        "hiapi", Step.SUBMIT, refusal, now=now, ends_at=now + 9000
    )

    page = visitor.text("/providers")
    assert "gets no jobs" in page
    assert "authentication" in page
    assert "One job tries it again at <time" in page
    visitor.signed_in(KEY)
    assert "alert(1)" not in visitor.text("/providers")


def test_the_figures_are_those_of_the_last_hour_and_of_the_tenant(
    start: Callable[..., Harness], tmp_path: Path
) -> None:
    made = start()
    assert "The history does not answer" in Visitor(made, own=True).signed_in().text("/providers")
    history = History(f"sqlite:///{tmp_path}/history.db")
    harness = made.with_runtime(open_history=lambda: history)
    failure = Outcome.failed(JobError(ErrorCode.CONTENT_POLICY, HOSTILE))
    for tenant in ("studio", "studio", TENANT):
        settle(harness, harness.enqueue(tenant=tenant), failure)
    settle(harness, harness.enqueue())
    recorder = Recorder(harness.ledger, history, harness.clock)
    for _ in range(3):  # begins, reads all jobs, completes
        recorder.record()
    visitor = Visitor(harness, own=True).signed_in(ADMIN_KEY)

    page = visitor.text("/providers")
    assert "3 of 4 failed" in page
    assert_harmless(page)
    assert "2 of 2 failed" in visitor.text("/providers?tenant=studio")
    visitor.signed_in(KEY)
    assert "1 of 2 failed" in visitor.text("/providers")
    assert page.count("content policy</a>") == 3
    assert visitor.text("/providers").count("content policy</a>") == 1
    history.close()


def test_the_last_outcome_is_the_first_of_the_failed_jobs(
    start: Callable[..., Harness], tmp_path: Path
) -> None:
    made = start()
    history = History(f"sqlite:///{tmp_path}/history.db")
    harness = made.with_runtime(open_history=lambda: history)
    older, newer = harness.enqueue(), harness.enqueue()
    for job_id in (newer, older):
        harness.clock.now += 1000
        settle(harness, job_id, Outcome.failed(JobError(ErrorCode.CONTENT_POLICY, "no")))
    recorder = Recorder(harness.ledger, history, harness.clock)
    for _ in range(3):  # begins, reads all jobs, completes
        recorder.record()

    page = Visitor(harness, own=True).signed_in().text("/providers")

    assert page.index(f"failure-hiapi-{older}") < page.index(f"failure-hiapi-{newer}")
    history.close()
