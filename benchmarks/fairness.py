"""Measures what a tenant with very many due jobs costs another tenant with one.

The ledger runs on a Redis of its own. A provider takes two attempts at once, so each job waits for
a place. The busy tenant has FEW, and then MANY due jobs. The same is measured for archives.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

from benchmarks.report import Report
from orchestrator.cli.embedded_redis import embedded_redis
from orchestrator.jobs.model import ErrorCode, Image, JobError, Outcome, SettledBy, Step
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import Lease, Ledger, ProviderLimits
from orchestrator.ledger.creation import NewJob

#: Due jobs of the busy tenant.
FEW, MANY = 1_000, 50_000
#: The places of the provider.
PLACES = 2
#: The most places that become free before the other tenant's job starts.
GOAL_PLACES = 2
#: A sweep over MANY due jobs may take this many times as long as one over FEW.
GOAL_RATIO = 1.5
#: Sweeps of a measurement.
SWEEPS = 200
#: Jobs that are created in one round trip.
PAGE_JOBS = 500
NOW, LEASE_MS, HOUR_MS = 1_800_000_000_000, 60_000, 3_600_000
REQUEST = JobRequest("hiapi", "Nano-Banana-2", {"prompt": "A lighthouse at dusk"})


def run() -> Report:
    """Measure due jobs, and then archives."""
    report = Report("fairness", f"a tenant with {MANY:,} due jobs, and a tenant with one")
    with tempfile.TemporaryDirectory() as folder, embedded_redis(Path(folder)) as url:
        ledger = Ledger.from_url(url, limits={"hiapi": ProviderLimits(max_in_flight=PLACES)})
        _create(ledger, FEW, "busy")
        few = _shortest_seconds(lambda: _due_jobs(ledger))
        _create(ledger, MANY - FEW, "busy")
        many = _shortest_seconds(lambda: _due_jobs(ledger))
        running = [_start(ledger) for _ in range(PLACES)]
        other = _create(ledger, 1, "other")
        places = _places_until(ledger, running, other)
    _add(report, "jobs", few, many)
    report.goal("the other tenant starts with free place", places, GOAL_PLACES, at_least=False)
    _archives(report)
    return report


def _archives(report: Report) -> None:
    """Measure the archives of both tenants."""
    with tempfile.TemporaryDirectory() as folder, embedded_redis(Path(folder)) as url:
        ledger = Ledger.from_url(url)
        _succeed(ledger, FEW, "busy")
        few = _shortest_seconds(lambda: _due_archives(ledger))
        _succeed(ledger, MANY - FEW, "busy")
        many = _shortest_seconds(lambda: _due_archives(ledger))
        other = _succeed(ledger, 1, "other")
        slots = _due_archives(ledger).index(other) + 1
    _add(report, "archives", few, many)
    report.goal("the other tenant's archive has slot", slots, GOAL_PLACES, at_least=False)


def _add(report: Report, what: str, few: float, many: float) -> None:
    times = {f"{FEW:,} due {what}": [few * 1e6], f"{MANY:,} due {what}": [many * 1e6]}
    report.add("shortest sweep", "us", times)
    text = f"a sweep over {MANY:,} to one over {FEW:,} due {what}:"
    report.goal(text, many / few, GOAL_RATIO, at_least=False)


def _succeed(ledger: Ledger, number: int, tenant: str) -> str:
    """Settle jobs, which are due to be archived. Return the id of the last one."""
    success = Outcome.succeeded((Image("https://images.example/0.png"),))
    for job_id in _created(ledger, number, tenant):
        lease = ledger.claim(job_id, Step.SUBMIT, now=NOW, lease_ms=LEASE_MS)
        assert isinstance(lease, Lease)
        ledger.settle(lease, success, SettledBy.SUBMIT, now=NOW)
    return job_id


def _due_archives(ledger: Ledger) -> list[str]:
    return ledger.follow_ups.due(0, Step.ARCHIVE, now=NOW, limit=PLACES)


def _create(ledger: Ledger, number: int, tenant: str) -> str:
    """Create due jobs. Return the id of the last one."""
    return deque(_created(ledger, number, tenant), maxlen=1).pop()


def _created(ledger: Ledger, number: int, tenant: str) -> Iterator[str]:
    """Create due jobs, many in a round trip. Yield their ids."""
    new = NewJob(REQUEST, NOW + HOUR_MS, tenant, limits=None, reserve={})
    for first in range(0, number, PAGE_JOBS):
        page = [new] * min(PAGE_JOBS, number - first)
        yield from (made.job_id for made in ledger.batches.create_jobs(page, now=NOW))


def _shortest_seconds(sweep: Callable[[], object]) -> float:
    """Return the shortest time of a sweep."""
    times = []
    for _ in range(SWEEPS):
        began = perf_counter()
        sweep()
        times.append(perf_counter() - began)
    return min(times)  # other work on the machine only adds


def _due_jobs(ledger: Ledger) -> list[tuple[str, Step]]:
    return ledger.agenda.due(0, now=NOW, limit=PLACES)


def _start(ledger: Ledger) -> Lease:
    """Start the job that the sweep lists."""
    [(job_id, _), *_] = _due_jobs(ledger)
    claim = ledger.claim(job_id, Step.SUBMIT, now=NOW, lease_ms=LEASE_MS)
    assert isinstance(claim, Lease)
    return claim


def _places_until(ledger: Ledger, running: list[Lease], job_id: str) -> int:
    """End running jobs one by one. Return the number of the free place that the job gets."""
    failed = Outcome.failed(JobError(ErrorCode.UNKNOWN, "no"))
    for number, lease in enumerate(running, 1):
        ledger.settle(lease, failed, SettledBy.SUBMIT, now=NOW)
        if _start(ledger).job.id == job_id:
            return number
    return len(running) + 1
