"""Compares the archive step with a loop of requests.get to disk, with the same number of threads.

The step is complete: claim, guarded download, decoding, thumbnail, storage with sync, manifest and
record. The host of the images answers at the speed of a content network. Without it, only decoding
would be measured. Goal: at least 0.7 of the loop.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter

import requests

from benchmarks import origin
from orchestrator.cli.stack import Stack, free_port
from orchestrator.jobs.model import FollowUpStatus, Image, Outcome, Step
from orchestrator.jobs.request import JobRequest
from orchestrator.runtime import Runtime
from orchestrator.settings.settings import Settings
from orchestrator.steps.archive import archive

GOAL = 0.7
ROUNDS = 3
IMAGES = 160
KINDS = ("png", "jpeg")
#: The number of threads with a goal.
THREADS = 8
#: With more threads, two cores cannot decode fast enough. This is reported without a goal.
MANY_THREADS = 16


def run() -> bool:
    """Measure both alternately for each kind of image. Print the median of the ratios."""
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
        reached = [_compare(runtime, port, kind, THREADS) >= GOAL for kind in KINDS]
        for kind in KINDS:
            _compare(runtime, port, kind, MANY_THREADS)
    print(f"  goal: with {THREADS} threads a ratio of at least {GOAL}\n")
    return all(reached)


def _compare(runtime: Runtime, port: int, kind: str, threads: int) -> float:
    folder = runtime.settings.data_dir / "bare"
    folder.mkdir(exist_ok=True)
    links = [f"http://127.0.0.1:{port}/{number}.{kind}" for number in range(IMAGES)]
    rates: dict[str, list[float]] = {"bare loop": [], "archive": []}
    for _ in range(ROUNDS):
        jobs = [_succeeded(runtime, link) for link in links]
        rates["bare loop"].append(_rate(lambda link: _bare(link, folder), links, threads))
        rates["archive"].append(_rate(lambda job_id: archive(runtime, job_id), jobs, threads))
        assert all(_archived(runtime, job_id) for job_id in jobs)
    return _report(f"{kind} of {len(origin.picture(kind)) / 1e6:.2f} MB, {threads} threads", rates)


def _rate(do: Callable[[str], None], items: Sequence[str], threads: int) -> float:
    """Return the items per second."""
    began = perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(do, items))
    return len(items) / (perf_counter() - began)


def _bare(link: str, folder: Path) -> None:
    """Download one image in the simplest way."""
    with (
        requests.get(link, stream=True, timeout=30) as answer,
        (folder / link.rpartition("/")[2]).open("wb") as file,
    ):
        file.writelines(answer.iter_content(256 * 1024))


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


def _report(what: str, rates: dict[str, list[float]]) -> float:
    ratio = median(
        ours / bare for ours, bare in zip(rates["archive"], rates["bare loop"], strict=True)
    )
    rate = {name: median(values) for name, values in rates.items()}
    text = ", ".join(f"{name} {per_second:.0f} /s" for name, per_second in rate.items())
    print(f"  {what}: {text}, ratio {ratio:.2f}")
    return ratio
