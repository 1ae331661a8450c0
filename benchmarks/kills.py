"""Kills the processes of each system twice while 200 jobs are in flight, and counts the harm.

The provider has no idempotency keys. Jobs arrive at a steady rate. A client repeats a request with
the same idempotency key until it is accepted. A job is paid twice when the provider got its prompt
twice. A job is lost when it was accepted and has no outcome at the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic

import requests

from benchmarks import stub_provider
from benchmarks.comparison import OURS, RESTATE
from benchmarks.load import NewJob
from benchmarks.peers.celery import Celery
from benchmarks.peers.dbos import DBOS, DBOSOnPostgres
from benchmarks.peers.installation import MissingPeer
from benchmarks.peers.restate import Restate
from benchmarks.product import JobKind, Product
from benchmarks.report import Report, progress
from benchmarks.stub_provider import Behaviour, Provider
from benchmarks.system import System

JOBS = 200
#: New jobs per second.
RATE = 40.0
#: The times of the kills, after the first job. Seconds.
KILLS_SECONDS = (2.0, 4.0)
#: The latency of a submission, and the time of a task. Tasks outlast the kills. Seconds.
LATENCY_SECONDS, TASK_SECONDS = 0.3, 5.0
#: A client repeats a request after this time. Seconds.
REPEAT_SECONDS = 0.2
#: A job of ours that may have been sent fails after this time. Seconds.
DEADLINE_SECONDS = 45
#: The end: no job has ended for this time. It is longer than the deadline, and longer than the
#: visibility time-out of Celery. Seconds.
QUIET_SECONDS = 50.0
#: A run is given up after this time. Seconds.
MAX_SECONDS = 180.0
KIND = JobKind("evolink", images=True)
#: Celery loses jobs, so it is watched the longest, and comes first.
SYSTEMS: dict[str, Callable[[Path, Provider], System]] = {
    "Celery by hand": Celery,
    OURS: partial(Product, deadline_seconds=DEADLINE_SECONDS),
    RESTATE: Restate,
    "DBOS on SQLite": DBOS,
    "DBOS on PostgreSQL": DBOSOnPostgres,
}


@dataclass(frozen=True)
class Harm:
    """What the kills of a system did.

    Attributes:
        paid_twice: jobs that the provider got more than once.
        lost: accepted jobs without an outcome.
        reported: jobs whose callers are told that the job may have been paid. Included in neither.
    """

    paid_twice: int
    lost: int
    reported: int


class Watched:
    """A system whose processes were killed. It may still work on its jobs."""

    def __init__(self, system: System, provider: Provider, jobs: int) -> None:
        self._system, self._provider, self._jobs = system, provider, jobs
        self._ended, self._changed_at = -1, monotonic()
        self._gives_up_at = monotonic() + MAX_SECONDS

    @property
    def is_over(self) -> bool:
        """Whether all jobs have ended, or none has for a long time."""
        quiet_at = min(self._changed_at + QUIET_SECONDS, self._gives_up_at)
        return self._ended >= self._jobs or monotonic() >= quiet_at

    def look(self) -> None:
        """Count the jobs that have ended."""
        ended = self._system.ended() + self._system.reported()
        if ended != self._ended:
            self._ended, self._changed_at = ended, monotonic()

    def harm(self) -> Harm:
        """Return what the kills did."""
        reported = self._system.reported()
        twice = sum(times > 1 for times in self._provider.paid().values())
        return Harm(twice, self._jobs - self._system.ended() - reported, reported)


def run(jobs: int = JOBS) -> Report:
    """Kill the processes of one system after the other. Then wait for all systems together."""
    title = f"{jobs} jobs in flight, all processes of the app killed {len(KILLS_SECONDS)} times"
    report = Report("kills", title)
    watched: dict[str, Watched] = {}
    with ExitStack() as closing:
        for name, make in SYSTEMS.items():
            progress(f"{name}: {jobs} jobs, and kills")
            try:
                watched[name] = _killed(closing, make, jobs)
            except (MissingPeer, TimeoutError) as error:
                report.missing.append(f"{name}: {error}")
            _look(watched.values())
        progress("waiting for all systems")
        while not all(each.is_over for each in watched.values()):
            _sleep_until(monotonic() + 0.2)
            _look(watched.values())
        harms = {name: watched[name].harm() for name in (OURS, *SYSTEMS) if name in watched}
    for group, field in (
        ("paid twice", "paid_twice"),
        ("lost", "lost"),
        ("neither: reported to the caller as perhaps paid", "reported"),
    ):
        report.add(group, "jobs", {n: [getattr(harm, field)] for n, harm in harms.items()})
    report.goal("ours, paid twice:", harms[OURS].paid_twice, 0, at_least=False)
    report.goal("ours, lost:", harms[OURS].lost, 0, at_least=False)
    return report


def _killed(closing: ExitStack, make: Callable[[Path, Provider], System], jobs: int) -> Watched:
    """Start a system, which `closing` ends. Give it jobs, and kill its processes meanwhile."""
    folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
    provider, _ = closing.enter_context(stub_provider.running(folder))
    system = closing.enter_context(make(folder / "system", provider))
    provider.behave(
        Behaviour(latency_seconds=LATENCY_SECONDS, task_seconds=TASK_SECONDS, images=True)
    )
    _enqueue_and_kill(system, jobs)
    return Watched(system, provider, jobs)


def _look(watched: Iterable[Watched]) -> None:
    for each in watched:
        each.look()


def _enqueue_and_kill(system: System, jobs: int) -> None:
    """Enqueue at a steady rate. Kill and start the processes in between."""
    port, began = system.port, monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        requested = [
            pool.submit(_enqueue, port, job, began + number / RATE)
            for number, job in enumerate(system.jobs(jobs, KIND))
        ]
        for seconds in KILLS_SECONDS:
            _sleep_until(began + seconds)
            system.kill_app()
            system.start_app()
        for each in requested:
            each.result()


def _enqueue(port: int, job: NewJob, at: float) -> None:
    """Send one request at a time (monotonic seconds), until it is accepted."""
    _sleep_until(at)
    headers = {**job.headers, "Idempotency-Key": f"kill-{hash(job.body)}"}
    url = f"http://127.0.0.1:{port}{job.path}"
    while not _accepted(url, job.body, headers):
        _sleep_until(monotonic() + REPEAT_SECONDS)


def _accepted(url: str, body: bytes, headers: dict[str, str]) -> bool:
    try:
        return requests.post(url, body, headers=headers, timeout=10).ok
    except requests.RequestException:
        return False


def _sleep_until(at: float) -> None:
    Event().wait(max(0.0, at - monotonic()))
