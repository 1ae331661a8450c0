"""Admission: limits, found limits, the circuit breaker, and the pause by hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from redis import Redis

from orchestrator.jobs.model import ErrorCode, JobError, SettledBy, Status, Step
from orchestrator.ledger import (
    Lease,
    Ledger,
    Moved,
    ProviderLimits,
    ProviderSign,
    Room,
    Waiting,
    WaitReason,
)
from orchestrator.ledger.admission import ProviderState
from orchestrator.ledger.agenda import AgendaCounts
from tests.ledger import kit
from tests.ledger.conftest import MakeLedger
from tests.ledger.kit import DEADLINE, FAILURE, LEASE, NEXT_DUE, NOW, REQUEST, SUCCESS

BUSY = JobError(ErrorCode.TASK_LIMIT, "too many tasks", retryable=True)
DOWN = JobError(ErrorCode.PROVIDER_UNAVAILABLE, "HTTP 502", retryable=True)
#: The circuit breaker opens after this many failures over at least this time, for this long. ms.
FAILURES_TO_OPEN, MIN_FAILING_MS, OPEN_MS, MAX_OPEN_MS = 5, 10_000, 5_000, 60_000


def ask(ledger: Ledger, job_id: str, *, now: int = NOW) -> Lease | Waiting | Moved | None:
    return ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=LEASE)


def start(ledger: Ledger, number: int, *, now: int = NOW) -> list[Lease]:
    """Create and claim jobs. Return the leases of those that may start."""
    claims = [ask(ledger, kit.create(ledger, now=now), now=now) for _ in range(number)]
    return [claim for claim in claims if isinstance(claim, Lease)]


def refuse(ledger: Ledger, lease: Lease, sign: ProviderSign, error: JobError, now: int) -> None:
    ledger.requeue(
        lease,
        now=now,
        due_at=now,
        tries=1,
        event="deferred",
        detail={},
        refusal=error,
        shows=sign,
    )


def state(ledger: Ledger, now: int = NOW) -> ProviderState:
    return ledger.admission.states(["hiapi"], now=now)["hiapi"]


# Attempts in flight -------------------------------------------------------------------------


def test_no_more_attempts_are_in_flight_than_the_limit(limited: MakeLedger) -> None:
    ledger = limited(ProviderLimits(max_in_flight=3))

    leases = start(ledger, 5)

    assert len(leases) == 3
    assert ask(ledger, kit.create(ledger)) == Waiting(WaitReason.IN_FLIGHT_LIMIT, None)
    assert state(ledger).in_flight == 3
    assert len(ledger.agenda.due(0, now=NOW, limit=9)) == 0, "a sweep lists only what may start"


def test_the_obstacle_of_a_provider_is_why_its_jobs_wait(limited: MakeLedger) -> None:
    ledger = limited(ProviderLimits(max_in_flight=1))

    def obstacles(provider: str = "hiapi") -> list[WaitReason | None]:
        ask = ledger.admission.obstacle
        return [ask(0, provider, is_new=is_new, now=NOW) for is_new in (True, False)]

    assert obstacles() == [None, None]
    start(ledger, 1)
    assert obstacles() == [WaitReason.IN_FLIGHT_LIMIT, None], "it has its place already"
    ledger.admission.pause("hiapi", by="tests", now=NOW)
    assert obstacles() == [WaitReason.PAUSED, WaitReason.PAUSED]
    assert obstacles("evolink") == [None, None]


def test_workers_together_never_exceed_the_limit(shared_ledger: Ledger, redis_url: str) -> None:
    ledger = Ledger.from_url(redis_url, limits={"hiapi": ProviderLimits(max_in_flight=7)})
    jobs = [kit.create(ledger) for _ in range(60)]

    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda job_id: ask(ledger, job_id), jobs))

    assert sum(isinstance(claim, Lease) for claim in claims) == 7
    assert shared_ledger.overview.counts()["submitting"] == 7


def test_an_attempt_is_in_flight_until_the_outcome(limited: MakeLedger) -> None:
    ledger = limited(ProviderLimits(max_in_flight=1))
    [lease] = start(ledger, 1)
    waiting = kit.create(ledger)

    kit.unconfirmed(ledger, lease, due_at=NOW)
    assert isinstance(ask(ledger, waiting), Waiting), "it may be running"
    ledger.accepted(lease.job.id, 1, "task-1", now=NOW, due_at=NEXT_DUE)
    assert isinstance(ask(ledger, waiting), Waiting)
    settlement = ledger.settle_attempt(lease.job.id, 1, "task-1", SUCCESS, now=NOW)

    assert settlement.next_job == waiting
    assert isinstance(ask(ledger, waiting), Lease)


def test_a_refused_attempt_is_not_in_flight(limited: MakeLedger) -> None:
    ledger = limited(ProviderLimits(max_in_flight=1))
    [lease] = start(ledger, 1)
    refuse(ledger, lease, ProviderSign.ANSWERED, BUSY, NOW)

    assert state(ledger).in_flight == 0


def test_an_attempt_that_was_submitted_again_stays_in_flight(limited: MakeLedger) -> None:
    ledger = limited(ProviderLimits(max_in_flight=2))
    [lease] = start(ledger, 1)
    kit.unconfirmed(ledger, lease, due_at=NOW)
    kit.resubmit(ledger, kit.claim(ledger, lease.job.id))

    second = kit.claim(ledger, lease.job.id)
    assert state(ledger).in_flight == 2
    ledger.settle(second, FAILURE, SettledBy.SUBMIT, now=NOW)
    assert state(ledger).in_flight == 0


def test_an_unconfirmed_attempt_is_sent_again_while_the_provider_is_full(
    limited: MakeLedger,
) -> None:
    ledger = limited(ProviderLimits(max_in_flight=1))
    [lease] = start(ledger, 1)
    kit.unconfirmed(ledger, lease, due_at=NOW)

    assert ledger.agenda.due(0, now=NOW, limit=9) == [(lease.job.id, Step.SUBMIT)]
    assert isinstance(ask(ledger, lease.job.id), Lease)


def test_a_job_that_waits_at_its_deadline_is_claimed_and_says_why(limited: MakeLedger) -> None:
    ledger = limited(ProviderLimits(max_in_flight=1))
    start(ledger, 1)
    waiting = kit.create(ledger)
    assert isinstance(ask(ledger, waiting), Waiting)

    assert (waiting, Step.SUBMIT) in ledger.agenda.due(0, now=DEADLINE, limit=2)
    lease = kit.claim(ledger, waiting, now=DEADLINE)

    assert lease.job.status is Status.QUEUED
    assert lease.job.refusal
    assert lease.job.refusal.code is ErrorCode.TASK_LIMIT


def test_each_shard_has_a_share_of_the_limit(redis: Redis) -> None:
    limits = {"hiapi": ProviderLimits(max_in_flight=5)}
    ledger = Ledger(lambda: redis, shards=3, limits=limits)

    started = [claim for claim in start(ledger, 60) if isinstance(claim, Lease)]

    assert len(started) == 5


# The rate -----------------------------------------------------------------------------------


def test_submissions_keep_the_rate_after_a_burst(limited: MakeLedger) -> None:
    ledger = limited(ProviderLimits(requests_per_second=10, burst=3))

    assert len(start(ledger, 3)) == 3
    for until in (NOW + 100, NOW + 200):
        assert ask(ledger, kit.create(ledger)) == Waiting(WaitReason.RATE_LIMIT, until)
    assert len(start(ledger, 5, now=NOW + 99)) == 0
    assert len(start(ledger, 5, now=NOW + 100)) == 1
    assert len(start(ledger, 5, now=NOW + 10_000)) == 3, "unused time is worth one burst"


def test_a_sweep_lists_what_the_rate_allows_until_its_horizon(limited: MakeLedger) -> None:
    ledger = limited(ProviderLimits(requests_per_second=10, burst=2))
    for _ in range(30):
        kit.create(ledger)

    assert len(ledger.agenda.due(0, now=NOW, limit=99)) == 2
    room = Room(others=99)
    listed = ledger.agenda.due_within(0, now=NOW, limit=99, room=room, horizon_ms=1000)
    assert len(listed) == 12


def test_a_repeated_send_counts_for_the_rate(limited: MakeLedger) -> None:
    ledger = limited(ProviderLimits(requests_per_second=1))
    [lease] = start(ledger, 1)
    kit.unconfirmed(ledger, lease, due_at=NOW)

    assert isinstance(ask(ledger, lease.job.id), Waiting)
    assert isinstance(ask(ledger, lease.job.id, now=NOW + 1000), Lease)


def test_limits_hold_for_their_provider_only(limited: MakeLedger) -> None:
    ledger = limited(ProviderLimits(max_in_flight=1, requests_per_second=1))
    start(ledger, 2)

    assert ask(ledger, kit.create(ledger, replace(REQUEST, provider="uniall")))


# A found limit ------------------------------------------------------------------------------


def provider_takes(ledger: Ledger, limit: int, seconds: int) -> tuple[int, int]:
    """Play a provider with a hidden limit. Return the found limit, and the refusals by then."""
    flying: list[Lease] = []
    refused = 0
    for number in range(200):
        kit.create(ledger, now=NOW + number)
    for second in range(seconds):
        now = NOW + 1000 + second * 1000
        for job_id, _ in ledger.agenda.due(0, now=now, limit=100):
            claim = ask(ledger, job_id, now=now)
            if not isinstance(claim, Lease):
                continue
            if len(flying) < limit:
                flying.append(claim)
                ledger.accepted(
                    claim.job.id,
                    len(claim.job.attempts),
                    f"task-{claim.job.id}",
                    now=now,
                    due_at=DEADLINE,
                )
            else:
                refused += 1
                refuse(ledger, claim, ProviderSign.BUSY, BUSY, now)
    return state(ledger).found_limit or 0, refused


@pytest.mark.parametrize("limit", [1, 10, 40])
def test_the_limit_of_a_provider_is_found_and_not_hammered(ledger: Ledger, limit: int) -> None:
    found, refused = provider_takes(ledger, limit, 60)

    assert limit <= found <= limit + max(1, limit // 10)
    assert state(ledger).in_flight == limit
    assert refused <= 100 + 12, "the first wave, and then a few probes"


def test_a_single_refusal_is_soon_forgotten(ledger: Ledger) -> None:
    [lease] = start(ledger, 1)
    refuse(ledger, lease, ProviderSign.BUSY, BUSY, NOW)

    started = [len(start(ledger, 40, now=NOW + second * 1000)) for second in range(1, 11)]

    assert sum(started) >= 20


def accept(ledger: Ledger, lease: Lease, now: int) -> None:
    ledger.accepted(lease.job.id, 1, f"task-{lease.job.id}", now=now, due_at=DEADLINE)


def test_a_refusal_below_the_places_that_were_taken_shows_no_limit(ledger: Ledger) -> None:
    leases = start(ledger, 6)
    for lease in leases[:4]:
        accept(ledger, lease, NOW)
    ledger.settle_attempt(leases[0].job.id, 1, f"task-{leases[0].job.id}", SUCCESS, now=NOW)

    refuse(ledger, leases[4], ProviderSign.BUSY, BUSY, NOW)
    assert state(ledger).found_limit is None, "four tasks ran a moment ago, and three run now"

    refuse(ledger, leases[5], ProviderSign.BUSY, BUSY, NOW + 31_000)
    assert state(ledger).found_limit == 3, "the provider took four a long time ago"


def test_places_that_were_taken_long_ago_do_not_hide_those_of_a_moment_ago(ledger: Ledger) -> None:
    many = start(ledger, 4)
    for lease in many:
        accept(ledger, lease, NOW)
    for lease in many:
        ledger.settle_attempt(lease.job.id, 1, f"task-{lease.job.id}", SUCCESS, now=NOW)
    later = NOW + 31_000
    first, second, third = start(ledger, 3, now=later)
    accept(ledger, first, later)
    accept(ledger, second, later)
    ledger.settle_attempt(first.job.id, 1, f"task-{first.job.id}", SUCCESS, now=later)

    refuse(ledger, third, ProviderSign.BUSY, BUSY, later)

    assert state(ledger, later).found_limit is None, "two tasks ran a moment ago"


# Figures ------------------------------------------------------------------------------------


def test_jobs_that_wait_for_a_place_are_not_overdue(limited: MakeLedger) -> None:
    ledger = limited(ProviderLimits(max_in_flight=2))
    leases, later = start(ledger, 5), NOW + 500_000
    for lease in leases:
        ledger.accepted(lease.job.id, 1, lease.job.id, now=NOW, due_at=DEADLINE)

    assert ledger.agenda.counts(now=later) == AgendaCounts(open=5, due=0, lag=0)
    ledger.settle_attempt(leases[0].job.id, 1, leases[0].job.id, SUCCESS, now=later)
    assert ledger.agenda.counts(now=later) == AgendaCounts(open=4, due=1, lag=0)
    assert ledger.agenda.counts(now=later + 9) == AgendaCounts(open=4, due=1, lag=9)


def test_jobs_of_a_paused_provider_are_not_overdue_until_their_deadline(ledger: Ledger) -> None:
    polled = kit.running(ledger, due_at=NOW + 5)
    kit.create(ledger)
    kit.create(ledger)
    ledger.admission.pause("hiapi", by="cli", now=NOW)

    assert ledger.agenda.counts(now=NOW + 4) == AgendaCounts(open=3, due=0, lag=0)
    assert ledger.agenda.counts(now=NOW + 7) == AgendaCounts(open=3, due=1, lag=2), polled
    assert ledger.agenda.counts(now=DEADLINE + 1).due == 2
    ledger.admission.resume("hiapi", now=NOW + 7)
    assert ledger.agenda.counts(now=NOW + 10) == AgendaCounts(open=3, due=3, lag=5)


def test_jobs_that_wait_for_the_rate_are_not_overdue(limited: MakeLedger) -> None:
    ledger = limited(ProviderLimits(requests_per_second=1.0))
    for _ in range(3):
        kit.create(ledger)
    assert len(start(ledger, 1)) == 1

    assert ledger.agenda.counts(now=NOW + 999) == AgendaCounts(open=4, due=0, lag=0)
    assert ledger.agenda.counts(now=NOW + 1_004) == AgendaCounts(open=4, due=1, lag=4)


def test_jobs_of_an_open_circuit_are_not_overdue(ledger: Ledger) -> None:
    kit.create(ledger)
    error = JobError(ErrorCode.INSUFFICIENT_CREDITS, "no money", retryable=False)
    ledger.admission.hold("hiapi", Step.SUBMIT, error, now=NOW, ends_at=NOW + 500)

    assert ledger.agenda.counts(now=NOW + 499) == AgendaCounts(open=1, due=0, lag=0)
    assert ledger.agenda.counts(now=NOW + 503) == AgendaCounts(open=1, due=1, lag=3)

    probe = kit.claim(ledger, kit.create(ledger), now=NOW + 503)
    assert ledger.agenda.counts(now=NOW + 600).due == 0, "a job probes"
    refuse(ledger, probe, ProviderSign.ANSWERED, DOWN, NOW + 700)
    assert ledger.agenda.counts(now=NOW + 702) == AgendaCounts(open=2, due=2, lag=2)
