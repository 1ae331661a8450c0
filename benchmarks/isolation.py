"""Measures what a provider that hangs costs the other providers.

Two stacks run the same jobs of three providers in turns. In the second stack, 200 jobs of HiAPI
hang in every call until its time limit. Goals: the other providers' throughput is at least 0.9 of
that in the first stack, no sweep is late, and `/readyz` stays ready.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

import requests

from benchmarks.report import Report
from orchestrator.cli.stack import Stack
from orchestrator.clock import now_ms
from orchestrator.jobs.model import Status, Step
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import Ledger
from orchestrator.messages import Broker, Nudger
from orchestrator.providers import BUILT_IN

GOAL = 0.9
ROUNDS = 3
#: Jobs of each provider in a round.
JOBS = 100
HANGING_JOBS = 200
#: A sweep is late when none ended for this time. Seconds.
LATE_SECONDS = 5.0
#: The time limit of a call: short, so that the calls of HiAPI end and hang again. Seconds.
CALL_SECONDS = "10"
#: The provider that hangs, and a model of each other provider.
HANGING = "hiapi"
MODELS = {name: next(iter(p.models)) for name, p in BUILT_IN.items() if name != HANGING}


@dataclass
class _Watch:
    """Samples the sweeps and `/readyz` of a stack until it is closed."""

    stack: Stack
    ledger: Ledger
    longest_gap_ms: int = 0
    not_ready: int = 0
    closed: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Sample in a thread until the exit."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self.closed.set()
            thread.join()

    def _run(self) -> None:
        while not self.closed.wait(0.2):
            gap = self.ledger.installation.time() - (self.ledger.installation.last_sweep() or 0)
            self.longest_gap_ms = max(self.longest_gap_ms, gap)
            ready = requests.get(f"{self.stack.web_url}/readyz", timeout=10)
            self.not_ready += ready.status_code != 200


def run() -> Report:
    """Measure both stacks in turns, and print the ratio."""
    alone, beside = [], []
    with ExitStack() as closing:
        port = closing.enter_context(_silent_server())
        first = _stack(closing)
        second = _stack(closing, HIAPI_BASE_URL=f"http://127.0.0.1:{port}")
        ledger = Ledger.from_url(second.env["ORCHESTRATOR_REDIS_URL"])
        for stack in (first, second):
            _round(stack)  # meets cold processes
        _create(second, {"hiapi": "Nano-Banana-2"}, HANGING_JOBS)
        _wait(lambda: ledger.overview.counts().get(Status.SUBMITTING, 0) > 0)
        watch = _Watch(second, ledger)
        with watch.watching():
            for _ in range(ROUNDS):
                alone.append(_round(first))
                beside.append(_round(second))
    return _report(alone, beside, watch)


def _report(alone: list[float], beside: list[float], watch: _Watch) -> Report:
    report = Report(
        "isolation", f"{ROUNDS} rounds of {JOBS} jobs of each of {len(MODELS)} providers"
    )
    hanging = f"beside {HANGING_JOBS} jobs that hang"
    report.add("settled jobs", "/s", {"alone": alone, hanging: beside})
    report.goal(f"{hanging}, to alone:", median(beside) / median(alone), GOAL)
    gap = watch.longest_gap_ms / 1000
    report.goal("seconds without a sweep:", gap, LATE_SECONDS, at_least=False)
    report.goal("/readyz was not ready, times:", watch.not_ready, 0, at_least=False)
    return report


@contextmanager
def _silent_server() -> Iterator[int]:
    """A port whose connections are accepted by the system and never answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=HANGING_JOBS) as server:
        yield int(server.getsockname()[1])


def _stack(closing: ExitStack, **settings: str) -> Stack:
    times = {"ORCHESTRATOR_READ_TIMEOUT_SECONDS": CALL_SECONDS, "ORCHESTRATOR_DRAIN_SECONDS": "0"}
    times |= {f"{name.upper()}_POLL_SECONDS": "0.2" for name in MODELS}  # not the wait is measured
    return closing.enter_context(Stack(task_seconds=0.1, settings={**times, **settings}))


def _round(stack: Stack) -> float:
    """Run jobs of every other provider. Return the settled jobs per second."""
    ledger = Ledger.from_url(stack.env["ORCHESTRATOR_REDIS_URL"])
    before, began = _settled(ledger), perf_counter()
    _create(stack, MODELS, JOBS)
    number = JOBS * len(MODELS)
    _wait(lambda: _settled(ledger) >= before + number)
    return number / (perf_counter() - began)


def _settled(ledger: Ledger) -> int:
    counts = ledger.overview.counts()
    return counts.get(Status.SUCCEEDED, 0) + counts.get(Status.FAILED, 0)


def _create(stack: Stack, models: dict[str, str], jobs: int) -> None:
    """Create jobs of each model and nudge them."""
    ledger = Ledger.from_url(stack.env["ORCHESTRATOR_REDIS_URL"])
    nudger = Nudger(Broker(stack.env["ORCHESTRATOR_REDIS_URL"]).send)
    for provider, model in models.items():
        for _ in range(jobs):
            wanted, now = JobRequest(provider, model, {"prompt": "A lighthouse at dusk"}), now_ms()
            job_id = ledger.create(wanted, now=now, deadline_at=now + 3_600_000).job_id
            nudger.nudge(Step.SUBMIT, [job_id], provider)
    nudger.close()


def _wait(reached: Callable[[], bool]) -> None:
    """Wait until a function returns True.

    Raises:
        TimeoutError: it does not within ten minutes.
    """
    tick, ends = threading.Event(), perf_counter() + 600
    while not reached():
        if perf_counter() > ends:
            raise TimeoutError("the jobs do not end")
        tick.wait(0.02)
