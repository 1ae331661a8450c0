"""Compares the provider calls of one worker process with bare pooled calls of `requests`.

The jobs are due before the worker runs, so the rate is that of a backlog, such as after missed
callbacks. The bare calls run on THREADS threads of this process and do nothing with the answers.
While a backlog of polls drains, new jobs are enqueued, and their wait for submission is measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from threading import Event
from time import perf_counter, process_time

import requests

from benchmarks import stub_provider
from benchmarks.processes import cpu_seconds, wait_for
from benchmarks.product import MODELS, Product
from benchmarks.report import Report, progress, ratios
from benchmarks.stub_provider import Behaviour, Provider
from orchestrator.clock import now_ms
from orchestrator.jobs.model import Step
from orchestrator.messages import Broker, Nudger

ROUNDS = 3
#: Calls of a round.
JOBS = 1500
#: Threads of the bare calls.
THREADS = 32
#: The polls of a round, times this, are the backlog that new jobs meet.
BACKLOG_ROUNDS = 5
#: The time from the submission of a new job to the next new job. Seconds.
NEW_JOB_SECONDS = 0.1
#: How many times the rate of bare calls; the longest median wait of a new job in seconds.
MIN_RATIO, MAX_WAIT_SECONDS = 1.2, 0.5
#: A round must end in this time. Seconds.
MAX_SECONDS = 120.0
POLLS, SUBMISSIONS = "polls", "submissions"


@dataclass(frozen=True)
class Round:
    """The result of a round: calls per second, and the CPU time of a call in us."""

    rate: float
    cpu_us: float


class _Worker:
    """One worker process, and the jobs that it has to do."""

    def __init__(self, product: Product, provider: Provider) -> None:
        self._product, self._provider = product, provider
        self._pid = product.stack.running["worker"].pid

    def polls(self, jobs: int) -> Round:
        """Drain due polls. Each answer settles its job."""
        with self._product.paused_worker():
            self._run_jobs(jobs)
        return self._measure(jobs, "queries")

    def submissions(self, jobs: int) -> Round:
        """Drain due submissions."""
        with self._product.paused_worker():
            for _ in range(jobs):
                self._product.create("A lighthouse at dusk")
        return self._measure(jobs, "answered")

    def waits(self, jobs: int) -> list[float]:
        """Return how long new jobs wait for their submission while polls drain. Seconds."""
        with self._product.paused_worker():
            self._run_jobs(jobs)
        ends = self._provider.figures().queries + jobs
        nudger = Nudger(Broker(self._product.stack.env["ORCHESTRATOR_REDIS_URL"]).send)
        waits: list[float] = []
        while self._provider.figures().queries < ends:
            prompt, began = f"New job {len(waits)}", perf_counter()
            nudger.nudge(Step.SUBMIT, [self._product.create(prompt)], "hiapi")
            wait_for("a new job", partial(self._sent, prompt), MAX_SECONDS)
            waits.append(perf_counter() - began)
            Event().wait(NEW_JOB_SECONDS)
        nudger.close()
        return waits

    def _sent(self, prompt: str) -> bool:
        return prompt in self._provider.paid()

    def _run_jobs(self, jobs: int) -> None:
        """Create running jobs whose polls are due."""
        for _ in range(jobs):
            job_id, now = self._product.create("A lighthouse at dusk"), now_ms()
            self._product.ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=60_000)
            self._product.ledger.accepted(job_id, 1, f"task-{job_id}", now=now, due_at=now)

    def _measure(self, jobs: int, figure: str) -> Round:
        """Return the rate of the middle 80% of the calls, and the CPU time of all."""
        before = getattr(self._provider.figures(), figure)
        cpu = cpu_seconds(self._pid)
        first = self._wait(figure, before + int(jobs * 0.1))
        last = self._wait(figure, before + int(jobs * 0.9))
        self._wait(figure, before + jobs)
        used = cpu_seconds(self._pid) - cpu
        return Round(jobs * 0.8 / (last - first), used / jobs * 1e6)

    def _wait(self, figure: str, wanted: int) -> float:
        """Wait until a figure of the provider is reached. Return the time (seconds)."""

        def reached() -> bool:
            return int(getattr(self._provider.figures(), figure)) >= wanted

        wait_for(f"the {figure}", reached, MAX_SECONDS)
        return perf_counter()


def run(jobs: int = JOBS, rounds: int = ROUNDS) -> Report:
    """Measure bare calls and those of the worker in turns."""
    names = [f"{whose} {what}" for what in (POLLS, SUBMISSIONS) for whose in ("bare", "ours:")]
    results: dict[str, list[Round]] = {name: [] for name in names}
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        provider, _ = closing.enter_context(stub_provider.running(folder))
        provider.behave(Behaviour(callbacks=False))
        product = closing.enter_context(
            Product(folder / "product", provider, processes=("worker", "beat"))
        )
        worker = _Worker(product, provider)
        players = [_Bare(provider).polls, worker.polls, _Bare(provider).submissions]
        for play in (*players, worker.submissions):
            play(100)
        for number in range(1, rounds + 1):
            for name, play in zip(names, (*players, worker.submissions), strict=True):
                results[name].append(play(jobs))
                progress(f"round {number}: {name}: {results[name][-1].rate:.0f} /s")
        waits = worker.waits(BACKLOG_ROUNDS * jobs)
    return _report(results, waits, f"{rounds} rounds of {jobs} calls, one worker process")


class _Bare:
    """Calls of `requests` with a pooled session, in threads of this process."""

    def __init__(self, provider: Provider) -> None:
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=THREADS))
        self._session.headers["Authorization"] = "Bearer sandbox"
        self._url = f"{provider.url}/v1/tasks"

    def polls(self, jobs: int) -> Round:
        """Query one task again and again."""
        return self._play(lambda _: self._session.get(f"{self._url}/task-1", timeout=30), jobs)

    def submissions(self, jobs: int) -> Round:
        """Send one body again and again."""
        body = {"model": MODELS["hiapi"], "input": {"prompt": "A lighthouse at dusk"}}
        return self._play(lambda _: self._session.post(self._url, json=body, timeout=30), jobs)

    def _play(self, call: Callable[[int], requests.Response], jobs: int) -> Round:
        with ThreadPoolExecutor(THREADS) as pool:
            began, cpu = perf_counter(), process_time()
            for answer in pool.map(call, range(jobs)):
                answer.raise_for_status()
            return Round(jobs / (perf_counter() - began), (process_time() - cpu) / jobs * 1e6)


def _report(results: dict[str, list[Round]], waits: list[float], title: str) -> Report:
    report = Report("calls", title)
    report.add("calls", "/s", {n: [r.rate for r in each] for n, each in results.items()})
    report.add("CPU of a call", "us", {n: [r.cpu_us for r in each] for n, each in results.items()})
    for what in (POLLS, SUBMISSIONS):
        ours, bare = results[f"ours: {what}"], results[f"bare {what}"]
        ratio = ratios([r.rate for r in ours], [r.rate for r in bare])
        report.add("ours to bare", "x", {what: ratio})
        if what == POLLS:
            report.goal("polls, ours to bare:", median(ratio), MIN_RATIO)
    report.add("new jobs while a backlog of polls drains", "s", {"wait for submission": waits})
    report.goal("seconds until a new job is sent:", median(waits), MAX_WAIT_SECONDS, at_least=False)
    return report
