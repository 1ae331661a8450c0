"""The page of images at risk: their order, their reasons, tenants, and archiving again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.dashboard import at_risk
from orchestrator.jobs.model import FollowUpStatus, Image, Outcome, Step
from tests.dashboard.test_job import HOSTILE, SHOWN, archived
from tests.dashboard.visitor import admin, tenant
from tests.support import job_states
from tests.support.fakes import NOON, Harness

HOUR_MS = 3_600_000


@pytest.fixture
def harness(start: Callable[..., Harness]) -> Harness:
    return start()


def expiring(harness: Harness, hours: float, tenant: str = "tests") -> str:
    image = Image("https://images.example/0.png", expires_at=NOON + int(hours * HOUR_MS))
    return job_states.ended(harness, Outcome.succeeded((image,)), tenant=tenant)


def test_without_images_the_page_says_what_it_is_for(harness: Harness) -> None:
    job_states.ended(harness)  # its link is assumed to live for a day
    assert "No image is at risk" in tenant(harness).text("/at-risk")


def test_the_first_link_to_expire_comes_first(harness: Harness) -> None:
    late, soon = expiring(harness, 5), expiring(harness, 0.5)
    page = tenant(harness).text("/at-risk")

    assert page.index(soon) < page.index(late)
    assert "30 min left" in page
    assert "5 h left" in page


def test_an_image_that_was_given_up_can_be_archived_again(harness: Harness) -> None:
    image = Image("https://images.example/0.png", error=HOSTILE, given_up=True, tries=3)
    visit, job_id = tenant(harness), archived(harness, image)
    page = visit.text("/at-risk")
    assert SHOWN in page
    assert "dead after 3 tries" in page

    again = visit.acted(f"/jobs/{job_id}/archive", page="at_risk")
    assert f"Job {job_id}: A worker archives" in again
    archive = harness.job(job_id).archive
    assert archive
    assert archive.status is FollowUpStatus.PENDING


def test_an_image_that_waits_for_its_next_try_can_be_archived_now(harness: Harness) -> None:
    waiting, new = expiring(harness, 1), expiring(harness, 2)
    lease = harness.ledger.follow_ups.claim(
        waiting, Step.ARCHIVE, now=harness.clock.now, lease_ms=job_states.LEASE_MS
    )
    assert lease
    later = harness.clock.now + 600_000
    harness.ledger.follow_ups.later(
        lease, Step.ARCHIVE, now=harness.clock.now, due_at=later, tries=1, error="status 503"
    )
    visit = tenant(harness)
    page = visit.text("/at-risk")
    assert f'action="/jobs/{waiting}/archive"' in page
    assert f'action="/jobs/{new}/archive"' not in page
    assert "Nano-Banana-2 at HiAPI" in page

    assert f"Job {waiting}: A worker archives" in visit.acted(
        f"/jobs/{waiting}/archive", page="at_risk"
    )
    archive = harness.job(waiting).archive
    assert archive
    assert archive.due_at == harness.clock.now


def test_a_tenant_sees_its_own_images(harness: Harness) -> None:
    own, foreign = expiring(harness, 1), expiring(harness, 2, "other")
    lost = archived(harness, Image("https://images.example/1.png", given_up=True))
    page = tenant(harness).text("/at-risk")

    assert own in page
    assert lost in page
    assert foreign not in page
    assert "<b>2</b>" in page
    assert foreign in admin(harness).text("/at-risk")
    other = admin(harness).text("/at-risk?tenant=other")
    assert foreign in other
    assert lost not in other


def test_the_page_is_bounded(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_risk, "MAX_JOBS", 2)
    for hours in (1, 2, 3):
        expiring(harness, hours)
    page = tenant(harness).text("/at-risk")

    assert page.count("<article") == 2
    assert "the first 2 are shown" in page
