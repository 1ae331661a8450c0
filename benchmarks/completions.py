"""Measures whole jobs: enqueue over HTTP, submission, callback with a signed path, outcome.

The product runs as in the Procfile, on a Redis that syncs each write before it answers. The stub
provider, the load generator and all processes share the machine. CLIENTS connections send their
next request after an answer. The clock stops when the last job has come to its end.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks import load, stub_provider
from benchmarks.processes import cpu_seconds, wait_for
from benchmarks.product import PLAIN, JobKind, Product
from benchmarks.report import Report, progress, ratios
from benchmarks.stub_provider import Behaviour, Provider
from benchmarks.system import System

CLIENTS = 32
ROUNDS = 3
#: Jobs of a round.
JOBS = 2000
#: Jobs of each kind before the first round. They meet cold processes.
WARM_UP_JOBS = 200
#: All jobs of a round must have ended by then. Seconds.
MAX_ROUND_SECONDS = 120.0
#: CPU time of web, worker and Redis for a job. Microseconds.
MAX_CPU_US, MAX_CPU_WITH_IMAGE_US = 1600, 3000
#: The rate with a small image, as a part of the rate without.
MIN_IMAGE_RATIO = 0.5
PLAIN_NAME, IMAGE_NAME = "no image", "an image of 64x64 archived"
KINDS = {
    PLAIN_NAME: PLAIN,
    "no image, caller notified": JobKind(notify=True),
    "no image, provider without idempotency keys": JobKind("evolink"),
    IMAGE_NAME: JobKind(images=True),
}
#: Slow kinds get this part of the jobs, so that a round takes a similar time.
PARTS = {"no image, caller notified": 0.2}


@dataclass(frozen=True)
class Round:
    """The result of a round: jobs per second, and the CPU time of a job by process in us."""

    rate: float
    cpu_us: dict[str, float]

    @property
    def whole_cpu_us(self) -> float:
        """The CPU time of all processes for a job."""
        return sum(self.cpu_us.values())


def run(jobs: int = JOBS, rounds: int = ROUNDS) -> Report:
    """Measure the kinds of jobs alternately."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as closing:
        folder = Path(name)
        _spread(folder)
        provider, _ = closing.enter_context(stub_provider.running(folder))
        product = closing.enter_context(Product(folder / "product", provider))
        players = {
            name: shortened(partial(play, product, provider, kind), PARTS.get(name, 1))
            for name, kind in KINDS.items()
        }
        results = alternate(players, jobs, rounds)
    title = f"{rounds} rounds of {jobs} jobs (slow kinds fewer), {CLIENTS} clients"
    report = Report("completions", title)
    add(report, results)
    _add_goals(report, results)
    return report


def _spread(folder: Path) -> None:
    """Have ext4 put what is made in a folder far from files that were deleted lately.

    Without a journal, it looks at each of those before it makes a file beside them.
    """
    if chattr := shutil.which("chattr"):
        subprocess.run([chattr, "+T", folder], check=False, capture_output=True)


def alternate(
    players: Mapping[str, Callable[[int], Round]], jobs: int, rounds: int
) -> dict[str, list[Round]]:
    """Play the rounds of all in turns, after a warm-up."""
    for play in players.values():
        play(min(WARM_UP_JOBS, jobs))
    results: dict[str, list[Round]] = {name: [] for name in players}
    for number in range(1, rounds + 1):
        for name, play in players.items():
            results[name].append(play(jobs))
            progress(f"round {number}: {name}: {results[name][-1].rate:.0f} /s")
    return results


def shortened(whole: Callable[[int], Round], part: float) -> Callable[[int], Round]:
    """Return a player of a part of the jobs."""
    return lambda jobs: whole(max(10, int(jobs * part)))


def play(system: System, provider: Provider, kind: JobKind, jobs: int) -> Round:
    """Run jobs from their requests to their ends.

    Raises:
        TimeoutError: they do not end in time.
    """
    provider.behave(Behaviour(images=kind.images))
    made = system.jobs(jobs, kind)
    requests = [load.request(job.path, job.body, job.headers) for job in made]
    pids, wanted = system.pids(), [count + jobs for count in system.completed(kind)]
    cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
    began = perf_counter()
    result = load.run(system.port, requests, CLIENTS)
    assert set(result.statuses) <= {200, 202}, result.statuses
    wait_for("the jobs", lambda: system.completed(kind) >= wanted, MAX_ROUND_SECONDS)
    seconds = perf_counter() - began
    used = {name: cpu_seconds(pid) - cpu[name] for name, pid in pids.items()}
    return Round(jobs / seconds, {name: each / jobs * 1e6 for name, each in used.items()})


def add(report: Report, results: dict[str, list[Round]]) -> None:
    """Add the rates and the CPU times to a report."""
    report.add("completed jobs", "/s", {n: [r.rate for r in each] for n, each in results.items()})
    for name, rounds in results.items():
        parts = {p: [r.cpu_us[p] for r in rounds] for p in rounds[0].cpu_us}
        report.add(
            f"CPU of a job: {name}", "us", {**parts, "all": [r.whole_cpu_us for r in rounds]}
        )


def _add_goals(report: Report, results: dict[str, list[Round]]) -> None:
    plain, images = results[PLAIN_NAME], results[IMAGE_NAME]
    rate = ratios([r.rate for r in images], [r.rate for r in plain])
    report.add("ratios", "x", {"with an image to without": rate})
    report.goal("the rate with an image to that without", median(rate), MIN_IMAGE_RATIO)
    for name, rounds, limit in (
        (PLAIN_NAME, plain, MAX_CPU_US),
        (IMAGE_NAME, images, MAX_CPU_WITH_IMAGE_US),
    ):
        cpu = median(r.whole_cpu_us for r in rounds)
        report.goal(f"CPU of a job in us, {name}:", cpu, limit, at_least=False)
