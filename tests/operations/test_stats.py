"""The figures of an installation."""

from __future__ import annotations

import pytest

from orchestrator.jobs.model import FollowUpStatus, Image, Outcome, Status, Step
from orchestrator.ledger import Ledger, keys
from orchestrator.ledger.circuit_breaker import FAILURES_TO_OPEN, MIN_FAILING_MS, PROBE_INTERVAL_MS
from orchestrator.ledger.totals import CONTRADICTIONS
from orchestrator.operations.stats import RISK_HOURS, images_at_risk, stats
from orchestrator.providers import PROVIDERS
from orchestrator.steps.archive import archive
from orchestrator.steps.reconcile import reconcile
from tests.ledger.kit import RECORDED
from tests.support import job_states
from tests.support.fakes import Harness

#: The figures of a follow-up without any job.
EMPTY = {
    "pending": 0,
    "due": 0,
    "lag_seconds": 0,
    "ended": {"done": 0, "dead": 0, "gone": 0},
}


def ending(harness: Harness, step: Step, job_id: str, ended_as: FollowUpStatus) -> None:
    now = harness.clock.now
    lease = harness.ledger.follow_ups.claim(job_id, step, now=now, lease_ms=1000)
    assert lease is not None
    harness.ledger.follow_ups.done(lease, step, ended_as, now=now, tries=1)


def expiring(harness: Harness, hours: float | None) -> str:
    """Return a job with an image link that expires in these hours, or has no expiry time."""
    expires_at = None if hours is None else harness.clock.now + int(hours * 3_600_000)
    return job_states.ended(
        harness, Outcome.succeeded((Image("https://e.example/0.png", expires_at),))
    )


def test_an_empty_installation_has_only_zeros(harness: Harness) -> None:
    assert stats(harness.runtime) == {
        "jobs": dict.fromkeys(Status, 0),
        "agenda": {"open": 0, "due": 0, "lag_seconds": 0},
        "contradictions": dict.fromkeys(CONTRADICTIONS, 0),
        "unconfirmed": {"attempts": 0, "money_at_risk": {"amounts": [], "unpriced": 0}},
        "archive": {**EMPTY, "at_risk": 0, "at_risk_hours": RISK_HOURS},
        "notifications": {**EMPTY, "dead": 0, "paused_hosts": []},
        "confirmations": EMPTY,
        "providers": {
            name: {"circuit": "closed", "in_flight": 0, "found_limit": None} for name in PROVIDERS
        },
        "history": {"state": "absent", "lag_seconds": None},
        "processes": [],
        "last_sweep_seconds_ago": None,
    }


def test_every_contradiction_that_the_ledger_counts_is_shown() -> None:
    assert set(CONTRADICTIONS) == RECORDED | {"late_result"}


@pytest.mark.parametrize("shards", [1, 3])
def test_figures_of_a_busy_installation(harness: Harness, shards: int) -> None:
    busy = harness.on(Ledger(lambda: harness.redis, shards=shards))
    busy.enqueue()
    job_states.submitting(busy)
    job_states.unconfirmed(busy)
    running = job_states.running(busy)
    job_states.ended(busy)
    job_states.given_up(busy)
    job_states.cancelled(busy)
    task = job_states.task_of(running)
    for named in ("other", task, task, task):
        busy.ledger.settle_attempt(running, 1, named, job_states.SUCCESS, now=busy.clock.now)
    busy.ledger.settle_attempt(running, 1, task, job_states.failure(), now=busy.clock.now)
    busy.clock.forward(2.5)

    figures = stats(busy.runtime)

    assert figures["jobs"] == {
        **dict.fromkeys(Status, 1),
        Status.RUNNING: 0,
        Status.SUCCEEDED: 2,
    }
    assert figures["agenda"] == {"open": 3, "due": 2, "lag_seconds": 2.5}
    assert figures["contradictions"] == {
        "duplicate": 2,
        "conflict": 1,
        "mismatch": 1,
        "superseded": 0,
        "late_result": 0,
    }
    assert figures["unconfirmed"]["attempts"] == 2
    assert figures["unconfirmed"]["money_at_risk"]["unpriced"] == 2


def test_late_results_are_counted(harness: Harness) -> None:
    failed = job_states.ended(harness, job_states.failure())
    for _ in range(2):
        harness.ledger.settle_attempt(
            failed, 1, job_states.task_of(failed), job_states.SUCCESS, now=harness.clock.now
        )

    contradictions = stats(harness.runtime)["contradictions"]
    assert (contradictions["late_result"], contradictions["duplicate"]) == (1, 1)


def test_jobs_that_ended_are_counted_beyond_their_expiry(harness: Harness) -> None:
    harness.redis.delete(keys.job(job_states.ended(harness)))

    assert stats(harness.runtime)["jobs"]["succeeded"] == 1


def test_the_time_since_the_last_sweep_is_shown(harness: Harness) -> None:
    reconcile(harness.runtime)
    harness.clock.forward(1.5)

    assert stats(harness.runtime)["last_sweep_seconds_ago"] == 1.5


@pytest.mark.parametrize("shards", [1, 3])
def test_images_to_archive_are_counted_with_how_overdue_they_are(
    harness: Harness, shards: int
) -> None:
    busy = harness.on(Ledger(lambda: harness.redis, shards=shards))
    for ended_as in (FollowUpStatus.DONE, FollowUpStatus.DONE, FollowUpStatus.DEAD):
        ending(busy, Step.ARCHIVE, job_states.ended(busy), ended_as)
    job_states.ended(busy)
    busy.clock.forward(1.5)
    job_states.ended(busy)
    lease = busy.ledger.follow_ups.claim(
        job_states.ended(busy), Step.ARCHIVE, now=busy.clock.now, lease_ms=60_000
    )
    assert lease is not None
    busy.clock.forward(1)

    figures = stats(busy.runtime)["archive"]

    assert figures == {
        "pending": 3,
        "due": 2,
        "lag_seconds": 2.5,
        "ended": {"done": 2, "dead": 1, "gone": 0},
        "at_risk": 1,  # the dead one, as its link may still work
        "at_risk_hours": RISK_HOURS,
    }


def test_images_are_at_risk_when_their_links_may_expire_soon(harness: Harness) -> None:
    hours = (0, 1, RISK_HOURS, RISK_HOURS + 0.001, 24, None)
    jobs = {hour: expiring(harness, hour) for hour in hours}

    assert stats(harness.runtime)["archive"]["at_risk"] == 3
    harness.clock.forward(0.001 * 3600)
    assert stats(harness.runtime)["archive"]["at_risk"] == 4
    ending(harness, Step.ARCHIVE, jobs[1], FollowUpStatus.DONE)
    ending(harness, Step.ARCHIVE, jobs[0], FollowUpStatus.DEAD)
    assert stats(harness.runtime)["archive"]["at_risk"] == 2
    harness.clock.forward((24 - RISK_HOURS) * 3600)
    assert stats(harness.runtime)["archive"]["at_risk"] == 4, (
        "a link without an expiry time is at risk after a day"
    )


def test_pending_and_ended_notifications_are_counted(harness: Harness) -> None:
    def failed() -> str:
        return job_states.ended(harness, job_states.failure(), notify_stream="told")

    ends = (FollowUpStatus.DONE, FollowUpStatus.DEAD, FollowUpStatus.DEAD, FollowUpStatus.GONE)
    for ended_as in ends:
        ending(harness, Step.NOTIFY, failed(), ended_as)
    failed()
    job_states.ended(harness, job_states.failure())
    harness.clock.forward(0.5)

    assert stats(harness.runtime)["notifications"] == {
        "pending": 1,
        "due": 1,
        "lag_seconds": 0.5,
        "ended": {"done": 1, "dead": 2, "gone": 1},
        "dead": 2,
        "paused_hosts": [],
    }


def test_a_replayed_notification_is_no_longer_dead(harness: Harness) -> None:
    job_id = job_states.ended(harness, job_states.failure(), notify_stream="told")
    ending(harness, Step.NOTIFY, job_id, FollowUpStatus.DEAD)
    harness.ledger.follow_ups.notify_again(job_id, now=harness.clock.now)

    figures = stats(harness.runtime)["notifications"]

    assert (figures["dead"], figures["pending"], figures["ended"]["dead"]) == (0, 1, 1)


def test_only_paused_hosts_are_named(harness: Harness) -> None:
    now = harness.clock.now
    for _ in range(FAILURES_TO_OPEN):
        harness.ledger.circuit_breaker.failed("down.example", now=now)
    harness.ledger.circuit_breaker.failed("down.example", now=now + MIN_FAILING_MS)
    harness.ledger.circuit_breaker.failed("shaky.example", now=now)

    assert PROBE_INTERVAL_MS == MIN_FAILING_MS == 60_000
    assert stats(harness.runtime)["notifications"]["paused_hosts"] == [
        {
            "host": "down.example",
            "failures": FAILURES_TO_OPEN + 1,
            "since": "2026-11-30T00:53:20.000Z",
            "next_probe_at": "2026-11-30T00:55:20.000Z",
        }
    ]


def test_an_image_that_no_retry_can_mend_is_at_risk_at_once(harness: Harness) -> None:
    healthy = job_states.ended(harness)
    job_id = job_states.ended(harness, Outcome.succeeded((Image("ftp://cdn.example/0.png"),)))
    assert images_at_risk(harness.runtime, 10) == (0, [], [])

    archive(harness.runtime, job_id)

    number, jobs, _ = images_at_risk(harness.runtime, 10)
    assert (number, [job.id for job in jobs]) == (1, [job_id])
    assert jobs[0].images[0].error == "the link is not an http(s) URL"
    harness.redis.delete(keys.job(job_id))
    assert images_at_risk(harness.runtime, 10) == (1, [], [])
    assert healthy != job_id
