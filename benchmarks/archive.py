"""Compares the archive step with a loop of requests.get to disk, with the same number of threads.

    python -m benchmarks.archive [png|jpeg|small ...]

The loop downloads an image, writes it and syncs the file. The step is complete: claim, guarded
download, checks, storage with syncs, manifest and record. The host of the images answers at the
speed of a content network. Goal: at least 0.85 of the loop, with 8 threads and with 16.

`small` measures the processor time of the step for an image of 64 x 64 pixels, whose host is fast.
Goal: at most 1.4 ms.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import requests

from benchmarks import origin
from orchestrator.cli.ports import free_port
from orchestrator.cli.stack import Stack
from orchestrator.jobs.model import FollowUpStatus, Image, Outcome, Step
from orchestrator.jobs.request import JobRequest
from orchestrator.place_shares import PlaceShares
from orchestrator.runtime import ARCHIVE_SHARE_WAIT_SECONDS, DOWNLOADS_PER_THREAD, Runtime
from orchestrator.settings.settings import Settings
from orchestrator.step_loop import StepLoop
from orchestrator.step_threads import StepThreads
from orchestrator.steps.archive import archive
from workers.executor import StepExecutor

GOAL = 0.85
ROUNDS = 3
IMAGES = 120
KINDS = ("png", "jpeg")
THREADS = (8, 16)
#: The images of 64 x 64 pixels in a round, and the threads that archive them.
SMALL_IMAGES, SMALL_THREADS = 1000, 16
#: The most processor time for one of them. ms.
SMALL_GOAL_MS = 1.4
#: All archives of a round must have ended by then. Seconds.
MAX_SECONDS = 300.0


@dataclass(frozen=True)
class Rate:
    """A measured run: items per second, and the processor time of this process per item, ms."""

    per_second: float
    cpu_ms: float


def run(what: Sequence[str] = (*KINDS, "small")) -> bool:
    """Measure the step and the loop alternately. Print the medians and their spread."""
    with Stack(processes=()) as stack:
        port = free_port()
        stack.start("origin", [sys.executable, "-m", "benchmarks.origin", str(port)])
        stack.wait_for("origin", f"http://127.0.0.1:{port}/0.png")
        os.environ.update({k: v for k, v in stack.env.items() if k.startswith("ORCHESTRATOR_")})
        runtime = Runtime.from_settings(Settings.from_env())
        print(
            f"Archive: {ROUNDS} rounds of {IMAGES} images; their host takes"
            f" {origin.FIRST_BYTE_SECONDS * 1000:.0f} ms,"
            f" then {origin.BYTES_PER_SECOND / 1e6:g} MB/s"
        )
        reached = [
            _compare(runtime, port, kind, threads) >= GOAL
            for kind in KINDS
            for threads in THREADS
            if kind in what
        ]
        if "small" in what:
            reached.append(_small(runtime, port) <= SMALL_GOAL_MS)
    print(f"  goals: a ratio of at least {GOAL}; at most {SMALL_GOAL_MS} ms for a small image\n")
    return all(reached)


def _compare(runtime: Runtime, port: int, kind: str, threads: int) -> float:
    folder = runtime.settings.data_dir / "bare"
    folder.mkdir(exist_ok=True)
    links = [f"http://127.0.0.1:{port}/{number}.{kind}" for number in range(IMAGES)]
    rates: dict[str, list[Rate]] = {"bare loop": [], "archive": []}
    for _ in range(ROUNDS):
        jobs = [_succeeded(runtime, link) for link in links]
        rates["bare loop"].append(_bare_rate(links, folder, threads))
        rates["archive"].append(_archive_rate(runtime, jobs, threads))
        assert all(_archived(runtime, job_id) for job_id in jobs)
    return _report(f"{kind} of {len(origin.picture(kind)) / 1e6:.2f} MB, {threads} threads", rates)


def _small(runtime: Runtime, port: int) -> float:
    """Return the median of the processor time for a small image, ms."""
    links = [f"http://127.0.0.1:{port}/{number}.small" for number in range(SMALL_IMAGES)]
    rates = []
    for _ in range(ROUNDS):
        jobs = [_succeeded(runtime, link) for link in links]
        rates.append(_archive_rate(runtime, jobs, SMALL_THREADS))
        assert all(_archived(runtime, job_id) for job_id in jobs)
    times = [rate.cpu_ms for rate in rates]
    print(
        f"  64 x 64 pixels, {SMALL_THREADS} threads: {_spread(times)} ms of processor time,"
        f" {_spread([rate.per_second for rate in rates], 0)} /s"
    )
    return median(times)


def _bare_rate(links: Sequence[str], folder: Path, threads: int) -> Rate:
    """Download all links in threads."""
    with ThreadPoolExecutor(threads) as pool:
        return _rate(lambda: list(pool.map(lambda link: _bare(link, folder), links)), len(links))


def _archive_rate(runtime: Runtime, jobs: Sequence[str], threads: int) -> Rate:
    """Archive all jobs, as a worker with this number of threads does it."""
    places = ceil(DOWNLOADS_PER_THREAD * threads)
    worker = replace(
        runtime,
        archive_threads=StepThreads(places, "archive"),
        archive_shares=PlaceShares(places, max_wait=ARCHIVE_SHARE_WAIT_SECONDS),
    )
    loop = StepLoop()
    lane = StepExecutor(
        lambda _, job_id: archive(worker, job_id),
        stopping=lambda: False,
        places=len(jobs),
        loop=loop,
    )

    def work() -> None:
        lane.offer(Step.ARCHIVE, jobs)
        assert not lane.drain(MAX_SECONDS)

    rate = _rate(work, len(jobs))
    loop.stop()
    return rate


def _rate(work: Callable[[], object], items: int) -> Rate:
    began, cpu = perf_counter(), process_time()
    work()
    seconds, cpu = perf_counter() - began, process_time() - cpu
    return Rate(items / seconds, 1000 * cpu / items)


def _bare(link: str, folder: Path) -> None:
    """Download one image in the simplest way, and sync its file."""
    with (
        requests.get(link, stream=True, timeout=30) as answer,
        (folder / link.rpartition("/")[2]).open("wb") as file,
    ):
        file.writelines(answer.iter_content(256 * 1024))
        file.flush()
        os.fsync(file.fileno())


def _succeeded(runtime: Runtime, link: str) -> str:
    """Return a succeeded job with an image to archive."""
    now = runtime.clock()
    request = JobRequest("evolink", "nano-banana-2-lite", {"prompt": "A lighthouse at dusk"})
    job_id = runtime.ledger.create(request, now=now, deadline_at=now + 3_600_000).job_id
    runtime.ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=60_000)
    outcome = Outcome.succeeded((Image(link, now + 86_400_000),))
    runtime.ledger.settle_attempt(job_id, 1, f"task-{job_id}", outcome, now=now)
    return job_id


def _archived(runtime: Runtime, job_id: str) -> bool:
    job = runtime.ledger.get(job_id)
    return bool(job and job.archive and job.archive.status is FollowUpStatus.DONE)


def _report(what: str, rates: dict[str, list[Rate]]) -> float:
    pairs = zip(rates["archive"], rates["bare loop"], strict=True)
    ratios = [ours.per_second / bare.per_second for ours, bare in pairs]
    text = ", ".join(
        f"{name} {median(each.per_second for each in values):.0f} /s with"
        f" {median(each.cpu_ms for each in values):.1f} ms of processor time"
        for name, values in rates.items()
    )
    print(f"  {what}: {text}, ratio {_spread(ratios)}")
    return median(ratios)


def _spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the median of values, and their smallest and largest."""
    low, high = min(values), max(values)
    return f"{median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    sys.exit(0 if run(sys.argv[1:] or (*KINDS, "small")) else 1)
