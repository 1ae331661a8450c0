"""Compares enqueuing with a bare flask-smorest route, and a batch of 100 with single jobs.

The bare route checks the same body by the same schema, and stores nothing. It runs in granian, and
has as many processes. Redis syncs each write before it answers.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import bare, load
from benchmarks.completions import CLIENTS
from benchmarks.load import NewJob
from benchmarks.processes import cpu_seconds
from benchmarks.product import Product
from benchmarks.report import Report, progress, ratios
from benchmarks.stub_provider import Provider

ROUNDS = 3
#: Jobs of a round, and jobs of a batch.
JOBS, BATCH_JOBS = 3000, 100
#: How many times the rate of the bare route, and of single jobs.
MIN_RATIO, MIN_BATCH_RATIO = 1.5, 5.0
BARE, OURS, BATCH = "bare flask-smorest route", "ours", f"ours, batches of {BATCH_JOBS}"


@dataclass(frozen=True)
class Round:
    """The result of a round: jobs per second, and CPU time of web and Redis for a job in us."""

    rate: float
    cpu_us: float


def run(jobs: int = JOBS, rounds: int = ROUNDS) -> Report:
    """Measure all three in turns."""
    results: dict[str, list[Round]] = {BARE: [], OURS: [], BATCH: []}
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        product = closing.enter_context(Product(folder, Provider(1), processes=("web",)))
        ours, redis = product.pids()["web"], product.pids()["redis"]
        port = bare.start(product.stack, "bare_enqueue")
        other = product.stack.running["bare_enqueue"].pid
        players: dict[str, Callable[[int], Round]] = {
            BARE: lambda count: _play(port, [other], _requests(product.jobs(count)), count),
            OURS: lambda count: _play(
                product.port, [ours, redis], _requests(product.jobs(count)), count
            ),
            BATCH: lambda count: _play(
                product.port, [ours, redis], _batches(product.jobs(count)), count
            ),
        }
        for player in players.values():
            player(BATCH_JOBS)
        for number in range(1, rounds + 1):
            for name, player in players.items():
                results[name].append(player(jobs))
                progress(f"round {number}: {name}: {results[name][-1].rate:.0f} jobs/s")
    return _report(results, f"{rounds} rounds of {jobs} jobs, {CLIENTS} clients")


def _play(port: int, pids: list[int], requests: list[bytes], jobs: int) -> Round:
    before = sum(cpu_seconds(pid) for pid in pids)
    result = load.run(port, requests, min(CLIENTS, len(requests)))
    assert set(result.statuses) == {202}, result.statuses
    cpu = sum(cpu_seconds(pid) for pid in pids) - before
    return Round(result.rate * jobs / len(requests), cpu / jobs * 1e6)


def _requests(jobs: list[NewJob]) -> list[bytes]:
    return [load.request(job.path, job.body, job.headers) for job in jobs]


def _batches(jobs: list[NewJob]) -> list[bytes]:
    bodies = [json.loads(job.body) for job in jobs]
    return [
        load.request(
            "/v1/jobs/batch",
            json.dumps({"jobs": bodies[first : first + BATCH_JOBS]}).encode(),
            jobs[0].headers,
        )
        for first in range(0, len(bodies), BATCH_JOBS)
    ]


def _report(results: dict[str, list[Round]], title: str) -> Report:
    report = Report("enqueue", title)
    rates = {name: [each.rate for each in rounds] for name, rounds in results.items()}
    report.add("enqueued jobs", "/s", rates)
    report.add("CPU of a job", "us", {n: [r.cpu_us for r in each] for n, each in results.items()})
    to_bare, to_single = ratios(rates[OURS], rates[BARE]), ratios(rates[BATCH], rates[OURS])
    report.add("ratios", "x", {f"ours to the {BARE}": to_bare, "batches to single": to_single})
    report.goal(f"ours to the {BARE}:", median(to_bare), MIN_RATIO)
    report.goal("batches to single jobs:", median(to_single), MIN_BATCH_RATIO)
    return report
