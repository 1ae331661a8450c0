"""Compares the archive step with a loop of requests.get to disk, with the same number of threads.

The loop downloads an image, writes it and syncs the file. The step is complete: claim, guarded
download, checks, storage with syncs, manifest and record. The host of the images answers at the
speed of a content network. For an image of 64 x 64 pixels, whose host is fast, the processor time
of the step is measured.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from math import ceil
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import requests

from benchmarks import origin
from benchmarks.report import Report, progress, ratios
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

#: The rate of the step, as a part of that of the loop.
GOAL = 0.85
ROUNDS = 3
#: Images of a round.
IMAGES = 80
KINDS = ("png", "jpeg")
BARE, OURS = "bare loop", "archive step"
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


def run(rounds: int = ROUNDS) -> Report:
    """Measure the step and the loop alternately, and then the step with small images."""
    title = (
        f"{rounds} rounds of {IMAGES} images; their host takes"
        f" {origin.FIRST_BYTE_SECONDS * 1000:.0f} ms, then {origin.BYTES_PER_SECOND / 1e6:g} MB/s"
    )
    report = Report("archive", title)
    with Stack(processes=()) as stack:
        port = free_port()
        stack.start("origin", [sys.executable, "-m", "benchmarks.origin", str(port)])
        stack.wait_for("origin", f"http://127.0.0.1:{port}/0.png")
        os.environ.update({k: v for k, v in stack.env.items() if k.startswith("ORCHESTRATOR_")})
        runtime = Runtime.from_settings(Settings.from_env())
        for kind, threads in product(KINDS, THREADS):
            links = [f"http://127.0.0.1:{port}/{number}.{kind}" for number in range(IMAGES)]
            what = f"{kind} of {len(origin.picture(kind)) / 1e6:.2f} MB, {threads} threads"
            _add(report, what, _compare(runtime, links, threads, rounds))
        links = [f"http://127.0.0.1:{port}/{number}.small" for number in range(SMALL_IMAGES)]
        _add_small(report, [_archive_rate(runtime, links, SMALL_THREADS) for _ in range(rounds)])
        runtime.timings.flush()  # Redis stops now
    return report


def _compare(
    runtime: Runtime, links: list[str], threads: int, rounds: int
) -> dict[str, list[Rate]]:
    """Measure the loop and the step alternately."""
    folder = runtime.settings.data_dir / "bare"
    folder.mkdir(exist_ok=True)
    rates: dict[str, list[Rate]] = {BARE: [], OURS: []}
    for number in range(1, rounds + 1):
        rates[BARE].append(_bare_rate(links, folder, threads))
        rates[OURS].append(_archive_rate(runtime, links, threads))
        progress(f"round {number}, {threads} threads: {rates[OURS][-1].per_second:.0f} /s")
    return rates


def _add(report: Report, what: str, rates: dict[str, list[Rate]]) -> None:
    """Add the rates and the processor times to the report, and the goal."""
    per_second = {name: [rate.per_second for rate in each] for name, each in rates.items()}
    report.add(what, "/s", per_second)
    cpu = {name: [rate.cpu_ms for rate in each] for name, each in rates.items()}
    report.add(f"{what}: processor time of an image", "ms", cpu)
    ratio = ratios(per_second[OURS], per_second[BARE])
    report.add(f"{what}: ratio", "x", {"archive step to bare loop": ratio})
    report.goal(f"archive step to bare loop, {what}:", median(ratio), GOAL)


def _add_small(report: Report, rates: list[Rate]) -> None:
    what, cpu = f"64x64 pixels, {SMALL_THREADS} threads", [rate.cpu_ms for rate in rates]
    report.add(what, "/s", {OURS: [rate.per_second for rate in rates]})
    report.add(f"{what}: processor time of an image", "ms", {OURS: cpu})
    text = "processor time of a small image in ms:"
    report.goal(text, median(cpu), SMALL_GOAL_MS, at_least=False)


def _bare_rate(links: Sequence[str], folder: Path, threads: int) -> Rate:
    """Download all links in threads."""
    with ThreadPoolExecutor(threads) as pool:
        return _rate(lambda: list(pool.map(lambda link: _bare(link, folder), links)), len(links))


def _archive_rate(runtime: Runtime, links: Sequence[str], threads: int) -> Rate:
    """Archive a job for each link, as a worker with this number of threads does it."""
    jobs = [_succeeded(runtime, link) for link in links]
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
    assert all(_archived(runtime, job_id) for job_id in jobs)
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
