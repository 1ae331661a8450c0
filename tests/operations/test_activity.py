"""Figures over time: each job counts once by interval and provider; no interval is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.history.history import History
from orchestrator.jobs.model import Outcome, SettledBy, Status
from orchestrator.operations.activity import SPANS, activity
from tests.history.kit import with_history
from tests.operations.test_usage import PICTURES, record, work
from tests.support import job_states
from tests.support.fakes import Harness
from tests.support.providers import HINTING


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Iterator[Harness]:
    yield from with_history(start(), tmp_path)


@pytest.mark.parametrize("span", SPANS)
def test_every_job_of_the_span_is_counted_once(harness: Harness, span: str) -> None:
    jobs = work(harness)
    record(harness)

    figures = activity(harness.runtime, span, None)

    expected = [job for job in jobs if figures.since <= job.created_at <= harness.clock.now]
    assert figures.total.statuses == Counter(job.status.value for job in expected)
    assert sum(each.created for each in figures.intervals.values()) == len(expected)
    assert sum(each.created for each in figures.providers.values()) == len(expected)
    starts = list(figures.intervals)
    assert starts == list(range(starts[0], harness.clock.now + 1, SPANS[span][1]))
    for job in expected:
        of_job = figures.intervals[job.created_at // SPANS[span][1] * SPANS[span][1]]
        assert of_job.statuses[job.status] > 0


def test_the_figures_of_a_provider_are_those_of_its_jobs(harness: Harness) -> None:
    jobs = [job for job in work(harness) if job.provider == "evolink"]
    record(harness)

    figures = activity(harness.runtime, "week", None).providers["evolink"]

    succeeded = [job for job in jobs if job.status is Status.SUCCEEDED]
    failed = [job for job in jobs if job.status is Status.FAILED]
    assert figures.success_share == len(succeeded) / (len(succeeded) + len(failed))
    polled = [job for job in succeeded if job.settled_by == "poll"]
    assert figures.settled_by["poll"] == len(polled) > 0
    assert figures.missed_share == len(polled) / (len(polled) + figures.settled_by["callback"])
    longest = max(job.settled_at - job.created_at for job in jobs if job.settled_at)
    assert figures.seconds(1.0) == longest // 100 / 10


def test_a_tenant_sees_only_its_own_jobs(harness: Harness) -> None:
    work(harness)
    harness.enqueue(tenant="other")
    record(harness)

    assert activity(harness.runtime, "week", "other").total.created == 1


def test_a_poll_of_a_provider_without_callbacks_misses_none(harness: Harness) -> None:
    job_id = job_states.running(harness, "uniall")
    task, now = job_states.task_of(job_id), harness.clock.now
    outcome = Outcome.succeeded(PICTURES[:1])
    harness.ledger.settle_attempt(job_id, 1, task, outcome, now=now, by=SettledBy.POLL)
    record(harness)

    figures = activity(harness.runtime, "week", None).providers["uniall"]

    assert figures.settled_by["poll"] == 1
    assert (figures.missed, figures.missed_share) == (0, None)


def test_a_poll_after_a_callback_that_is_a_hint_misses_none(
    start: Callable[..., Harness], tmp_path: Path
) -> None:
    history = History(f"sqlite:///{tmp_path}/history.db")
    made = start(EVOLINK_CONFIRM_CALLBACKS="1")
    harness = made.with_runtime(open_history=lambda: history)
    outcome, hinting = Outcome.succeeded(PICTURES[:1]), [*HINTING, "evolink"]
    for provider in (*hinting, "hiapi"):
        job_id = job_states.running(harness, provider)
        task, now = job_states.task_of(job_id), harness.clock.now
        harness.ledger.settle_attempt(job_id, 1, task, outcome, now=now, by=SettledBy.POLL)
    record(harness)

    figures = activity(harness.runtime, "week", None)

    for provider in hinting:
        assert figures.providers[provider].missed_share is None
    assert figures.providers["hiapi"].missed_share == 1
    history.close()
