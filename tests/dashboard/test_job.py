"""The page of one job: every state, its actions, other tenants, and hostile text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.dashboard import formats
from orchestrator.history.history import History
from orchestrator.history.recorder import Recorder
from orchestrator.jobs.model import (
    Copy,
    ErrorCode,
    FollowUpStatus,
    Image,
    JobError,
    Outcome,
    Status,
    Step,
)
from orchestrator.operations import dashboard_links, rerun
from orchestrator.storage.storage import StorageError
from tests.dashboard.visitor import Visitor, admin, tenant
from tests.support import job_states
from tests.support.fakes import NOON, TENANT, Harness

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202eevil\u200b"
SHOWN = "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m\\u202eevil\\u200b"
COPY = Copy("a/0.png", "0" * 64, 2048, 640, 480, "image/png", NOON + 1, "a/0.webp")


@pytest.fixture
def harness(start: Callable[..., Harness]) -> Harness:
    return start(
        HIAPI_PRICES='{"unit": "USD", "prices": {"Nano-Banana-2": 0.04}}',
        ORCHESTRATOR_NOTIFY_SECRET="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )


@pytest.fixture
def visit(harness: Harness) -> Visitor:
    return tenant(harness)


def archived(harness: Harness, *images: Image) -> str:
    """Return a job whose archive ended with these images."""
    job_id = job_states.ended(harness, Outcome.succeeded(images))
    lease = harness.ledger.follow_ups.claim(
        job_id, Step.ARCHIVE, now=harness.clock.now, lease_ms=1000
    )
    assert lease
    done = all(image.copy for image in images)
    end = FollowUpStatus.DONE if done else FollowUpStatus.DEAD
    harness.ledger.follow_ups.done(
        lease, Step.ARCHIVE, end, now=harness.clock.now, tries=1, images=images
    )
    return job_id


STATES: dict[str, tuple[Callable[[Harness], str], list[str]]] = {
    "queued": (lambda h: h.enqueue(), ["A worker takes it next", "First attempt", "Cancel"]),
    "submitting": (lambda h: job_states.submitting(h).job.id, ["waits for the answer"]),
    "unconfirmed": (job_states.unconfirmed, ["Unconfirmed: reset", "may have been charged"]),
    "running": (job_states.running, ["Accepted as task", "works on the task", "Poll now"]),
    "succeeded": (job_states.ended, ["Succeeded with 1 image", "not archived yet", "0.04 USD"]),
    "refused": (job_states.refused, ["content policy", "No provider accepted the job", "Retry"]),
    "given up": (job_states.given_up, ["Given up", "may have been charged", "about 0.04 USD"]),
    "cancelled": (job_states.cancelled, ["Cancelled", "Retry this job"]),
    "resubmitted": (
        lambda h: job_states.resubmitted(h, on_unconfirmed="resubmit").job.id,
        ["Attempt 2 at HiAPI", "Sent again"],
    ),
}


def test_each_state_of_a_job_is_explained(harness: Harness, visit: Visitor) -> None:
    for name, (make, texts) in STATES.items():
        page = visit.text(f"/jobs/{make(harness)}")
        for text in texts:
            assert text in page, (name, text)
        assert "style=" not in page


def test_a_job_that_only_the_history_knows_has_its_page(harness: Harness, tmp_path: Path) -> None:
    history = History(f"sqlite:///{tmp_path}/history/history.db")
    harness = harness.with_runtime(open_history=lambda: history)
    job_id = job_states.refused(harness)
    recorder = Recorder(harness.ledger, history, harness.clock)
    for _ in range(3):
        recorder.record()
    harness.ledger.overview.forget(job_id, before=harness.clock() + 1)
    assert harness.ledger.get(job_id) is None
    visit = tenant(harness)

    page = visit.text(f"/jobs/{job_id}")
    for text in ("content policy", "The caller enqueued the job.", "Retry this job"):
        assert text in page
    assert "Cancel" not in page
    assert "This new job retries" in visit.acted(f"/jobs/{job_id}/retry")
    history.close()


def test_another_tenants_job_looks_like_an_unknown_one(harness: Harness, visit: Visitor) -> None:
    foreign, unknown = harness.enqueue(tenant="other"), "job_01m8j6b5fwfe85gahayygam4ak00"
    pages = [
        visit.text(f"/jobs/{job_id}", 404).replace(job_id, "") for job_id in (foreign, unknown)
    ]
    assert re.sub(r'nonce="[^"]+"', "", pages[0]) == re.sub(r'nonce="[^"]+"', "", pages[1])
    assert "There is no such job" in pages[0]
    for action in ("cancel", "retry", "poll", "notify", "archive"):
        assert visit.send(f"/jobs/{foreign}/{action}").status_code == 404
    assert harness.job(foreign).status is Status.QUEUED
    assert "other" in admin(harness).text(f"/jobs/{foreign}")


def test_hostile_text_is_escaped_and_cut(harness: Harness, visit: Visitor) -> None:
    error = JobError(ErrorCode.CONTENT_POLICY, HOSTILE + " at https://me:pw@host/", HOSTILE)
    job_id = job_states.ended(
        harness,
        Outcome.failed(error),
        prompt=HOSTILE + "x" * 19_000,
        metadata={HOSTILE: {"inner": HOSTILE}},
    )
    page = visit.text(f"/jobs/{job_id}")

    assert page.count(SHOWN) >= 4
    for character in ("\x1b", "\u202e", "\u200b", "<script>alert"):
        assert character not in page
    assert "characters)" in page
    assert "me:pw" not in page


def test_no_key_and_no_notify_url_is_shown(harness: Harness, visit: Visitor) -> None:
    job_id = harness.enqueue(notify_url="https://caller.example/hook?token=secret-of-the-caller")
    page = visit.text(f"/jobs/{job_id}")

    assert "caller.example" in page
    assert "secret-of-the-caller" not in page
    assert "Bearer $ORCHESTRATOR_API_KEY" in page
    assert "api-key-of-the-tests" not in page


def test_images_are_shown_or_say_why_not(harness: Harness, visit: Visitor) -> None:
    svg = replace(COPY, content_type="image/svg+xml", thumbnail=None, check_error="not decoded")
    page = visit.text(
        "/jobs/"
        + archived(
            harness,
            Image("https://images.example/0.png", copy=COPY),
            Image("https://images.example/1.svg", copy=svg),
            Image("https://images.example/2.bin", copy=replace(svg, content_type="text/html")),
            Image("https://images.example/3.png", error="it answered 404", given_up=True),
            Image("https://images.example/4.png", expires_at=NOON - 1),
        )
    )
    assert page.count("<img src=") == 1 + page.count('<img src="/static')
    for text in ("run scripts", "not a checked image: not decoded", "is not tried again", "404"):
        assert text in page
    assert "The link has expired" in page
    assert "Archive again" in page


def test_a_finished_job_costs_a_304(harness: Harness, visit: Visitor) -> None:
    path = f"/jobs/{job_states.refused(harness)}"
    first = visit.live(path)
    assert "<html" not in first.text

    harness.enqueue()
    harness.clock.forward(60)
    again = visit.live(path, first.headers["ETag"])
    assert (again.status_code, again.data) == (304, b"")
    assert visit.live(path, again.headers["ETag"]).status_code == 304


def test_a_live_part_of_an_open_job_changes_with_it(harness: Harness, visit: Visitor) -> None:
    job_id = harness.enqueue()
    tag = visit.live(f"/jobs/{job_id}").headers["ETag"]
    job_states.claimed(harness, job_id)

    answer = visit.live(f"/jobs/{job_id}", tag)
    assert answer.status_code == 200
    assert "waits for the answer" in answer.text


def test_cancel_and_its_refusal(harness: Harness, visit: Visitor) -> None:
    job_id = harness.enqueue()
    assert "The job is cancelled" in visit.acted(f"/jobs/{job_id}/cancel")
    assert harness.job(job_id).status is Status.CANCELLED
    running = job_states.running(harness)
    assert "It is not cancelled: it is running" in visit.acted(f"/jobs/{running}/cancel")


def test_a_retry_that_may_be_paid_twice_needs_consent(harness: Harness, visit: Visitor) -> None:
    job_id = job_states.given_up(harness)
    assert "0.08 USD for both" in visit.text(f"/jobs/{job_id}")

    assert "Tick the box" in visit.acted(f"/jobs/{job_id}/retry")
    page = visit.acted(f"/jobs/{job_id}/retry", risk="1")
    assert f"This new job retries {job_id}" in page
    old = visit.text(f"/jobs/{job_id}")
    assert "Retried as" in old
    new = harness.job(job_id).retried_as
    assert old.index("Retried as") < old.index("Time line")
    assert "Retry of" in (newer := visit.text(f"/jobs/{new}"))
    assert newer.index("Retry of") < newer.index("Time line")
    assert f'href="/jobs/{job_id}"' in newer
    assert "Retry this job" not in old
    assert "was retried before" in visit.acted(f"/jobs/{job_id}/retry", risk="1")
    assert "will reach its outcome" in visit.acted(f"/jobs/{harness.enqueue()}/retry")


def test_a_retry_while_the_archive_is_away_says_so(
    harness: Harness, visit: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StorageError("its image cannot be read")

    monkeypatch.setattr(rerun, "kept_references", away)

    answer = visit.send(f"/jobs/{job_states.refused(harness)}/retry")

    assert answer.status_code == 503
    assert "The archive is away" in answer.text


def test_poll_notify_and_archive_with_their_refusals(harness: Harness, visit: Visitor) -> None:
    running = f"/jobs/{job_states.running(harness)}"
    assert "asks the provider now" in visit.acted(f"{running}/poll")
    harness.clock.forward(1)
    assert "asked a moment ago" in visit.acted(f"{running}/poll")
    assert "Nobody is notified: it is running" in visit.acted(f"{running}/notify")
    assert "Nothing is archived: it is running" in visit.acted(f"{running}/archive")

    ended = job_states.ended(harness, notify_stream="outcomes")
    assert "notifies the caller again" in visit.acted(f"/jobs/{ended}/notify")
    lost = archived(harness, Image("https://images.example/3.png", given_up=True))
    assert "archives the images again" in visit.acted(f"/jobs/{lost}/archive")
    archive = harness.job(lost).archive
    assert archive
    assert archive.status is FollowUpStatus.PENDING
    actions = {entry.action for entry in harness.ledger.audit.entries(10)}
    assert actions >= {"poll", "notify", "archive"}


def test_a_reader_sees_no_buttons_and_changes_nothing(harness: Harness) -> None:
    job_id = harness.enqueue()
    url, _ = dashboard_links.make(harness.runtime, "tests", lifetime_ms=60_000, actor="tests")
    reader = Visitor(harness)
    reader.client.get("/link" + url.partition("/link")[2])

    assert "Cancel" not in reader.text(f"/jobs/{job_id}")
    answer = reader.send(f"/jobs/{job_id}/cancel")
    assert answer.status_code == 403
    assert "can read only" in answer.text
    assert harness.job(job_id).status is Status.QUEUED


def test_an_action_needs_the_token_of_the_session(harness: Harness, visit: Visitor) -> None:
    job_id = harness.enqueue()
    assert visit.client.post(f"/jobs/{job_id}/cancel", data={"csrf": "x"}).status_code == 403
    assert harness.job(job_id).status is Status.QUEUED


def test_links_for_a_customer_need_no_key(harness: Harness, visit: Visitor) -> None:
    job_id = archived(harness, *(Image(f"https://images.example/{n}", copy=COPY) for n in range(2)))
    assert "Links for a customer" in visit.text(f"/jobs/{job_id}")

    page = visit.text(f"/jobs/{job_id}/links?for=1 day")

    expires = harness.clock.now // 1000 + 86_400
    for index in range(2):
        assert f"/images/{job_id}/{index}/{expires}/" in page
    assert "for must be" in visit.text(f"/jobs/{job_id}/links?for=ever", 422)
    assert "There is no such job" in visit.text("/jobs/job_1/links", 404)


def test_whoever_was_invited_by_a_link_makes_no_links(harness: Harness) -> None:
    job_id = archived(harness, Image("https://images.example/0.png", copy=COPY))
    url, _ = dashboard_links.make(harness.runtime, TENANT, lifetime_ms=60_000, actor="tests")
    guest = Visitor(harness)
    guest.client.get("/link" + url.partition("/link")[2])

    assert "Links for a customer" not in guest.text(f"/jobs/{job_id}")
    assert "cannot invite others" in guest.text(f"/jobs/{job_id}/links", 403)


def test_the_name_of_an_exception_gets_its_meaning() -> None:
    refused = "nothing listens there (ConnectionRefusedError)"
    assert formats.reason("ConnectionRefusedError") == refused
    assert formats.reason("it answered 503") == "it answered 503"
