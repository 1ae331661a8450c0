"""The archive step when a domain or a tenant holds its share of the threads."""

from __future__ import annotations

from orchestrator.jobs.model import FollowUpStatus, Step
from orchestrator.ledger import keys
from orchestrator.place_shares import BUSY_WAIT_SECONDS, PlaceShares
from tests.support.archive_kit import Gallery, archived, picture, state
from tests.support.fakes import Harness


def use_up(harness: Harness, tenant: str, host: str) -> int:
    """Reserve every thread that a tenant gets for a host. Return their number."""
    shares, number = harness.runtime.archive_shares, 0
    while shares.reserve(tenant, host, harness.clock.now, harness.chance) is None:
        number += 1
    return number


def due_in(harness: Harness, job_id: str) -> float:
    tenant = harness.job(job_id).tenant
    score = harness.redis.zscore(keys.follow_up(0, Step.ARCHIVE, tenant), job_id)
    return (float(str(score)) - harness.clock.now) / 1000


def test_an_image_of_a_busy_domain_waits_without_a_try(harness: Harness, gallery: Gallery) -> None:
    used = use_up(harness, "other", "127.0.0.1:1")
    job_id = archived(harness, gallery.job(picture()))

    assert gallery.fetched() == []
    waiting = state(harness, job_id)
    assert (waiting.status, waiting.tries, waiting.error) == (FollowUpStatus.PENDING, 0, None)
    assert due_in(harness, job_id) == BUSY_WAIT_SECONDS[0]

    for _ in range(used):
        harness.runtime.archive_shares.free("other", "127.0.0.1:1")
    harness.clock.forward(BUSY_WAIT_SECONDS[1])
    assert state(harness, archived(harness, job_id)).status is FollowUpStatus.DONE


def test_a_busy_domain_does_not_delay_another_one(harness: Harness, gallery: Gallery) -> None:
    use_up(harness, "other", "cdn.slow.example")

    job_id = archived(harness, gallery.job(picture()))

    assert state(harness, job_id).status is FollowUpStatus.DONE


def test_a_tenant_with_many_slow_domains_waits_alone(harness: Harness, gallery: Gallery) -> None:
    for number in range(20):
        use_up(harness, "other", f"cdn.slow{number}.example")
    job_id = gallery.job(picture())
    assert harness.job(job_id).tenant != "other"

    assert state(harness, archived(harness, job_id)).status is FollowUpStatus.DONE


def test_threads_are_freed_after_every_kind_of_result(harness: Harness, gallery: Gallery) -> None:
    archived(harness, gallery.job(picture(), None))

    shares: PlaceShares = harness.runtime.archive_shares
    assert not shares._calls
    assert shares._used == 0


def test_an_image_is_tried_before_its_link_expires(harness: Harness, gallery: Gallery) -> None:
    use_up(harness, "other", "127.0.0.1:1")

    job_id = archived(harness, gallery.job(picture(), expires=[500]))

    assert due_in(harness, job_id) == 0.5
