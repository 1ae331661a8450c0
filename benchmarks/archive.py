"""Archiving, against a bare loop of requests.get to disk, with the same number of threads.

Ours is the whole step: claim, guarded download, a look at every pixel, thumbnail, storage (synced),
manifest, record. The images' host answers like a content network. Goal: at least 0.7 of the loop.
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
from orchestrator.archive.step import archive
from orchestrator.cli.stack import Stack, free_port
from orchestrator.config import Settings
from orchestrator.jobs import FollowUpStatus, Image, JobRequest, Outcome, Step
from orchestrator.runtime import Runtime

GOAL = 0.7
ROUNDS = 2
IMAGES = 160
THREADS = 16
KINDS = ("png", "jpeg")


def run() -> bool:
    """Measure both in turns, for each kind of image; print the median of the rounds' ratios."""
    with Stack(processes=()) as stack:
        port = free_port()
        stack.start("origin", [sys.executable, "-m", "benchmarks.origin", str(port)])
        stack.wait_for("origin", f"http://127.0.0.1:{port}/0.png")
        os.environ.update({k: v for k, v in stack.env.items() if k.startswith("ORCHESTRATOR_")})
        parts = Runtime.from_settings(Settings.from_env())
        print(
            f"Archive: {ROUNDS} rounds of {IMAGES} images, {THREADS} threads; the host takes"
            f" {origin.FIRST_BYTE * 1000:.0f} ms, then {origin.RATE / 1e6:g} MB/s"
        )
        reached = [_compare(parts, port, kind) for kind in KINDS]
        return all(reached)


def _compare(parts: Runtime, port: int, kind: str) -> bool:
    folder = parts.settings.data_dir / "bare"
    folder.mkdir(exist_ok=True)
    links = [f"http://127.0.0.1:{port}/{number}.{kind}" for number in range(IMAGES)]
    rates: dict[str, list[float]] = {"bare loop": [], "archive": []}
    for _ in range(ROUNDS):
        jobs = [_succeeded(parts, link) for link in links]
        rates["bare loop"].append(_rate(lambda link: _bare(link, folder), links))
        rates["archive"].append(_rate(lambda job_id: archive(parts, job_id), jobs))
        assert all(_archived(parts, job_id) for job_id in jobs)
    return _report(kind, len(origin.picture(kind)), rates)


def _rate(do: Callable[[str], None], things: Sequence[str]) -> float:
    """Things done a second."""
    began = perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(do, things))
    return len(things) / (perf_counter() - began)


def _bare(link: str, folder: Path) -> None:
    """What one would write first."""
    with (
        requests.get(link, stream=True, timeout=30) as answer,
        (folder / link.rpartition("/")[2]).open("wb") as file,
    ):
        file.writelines(answer.iter_content(256 * 1024))


def _succeeded(parts: Runtime, link: str) -> str:
    """A job whose image is to be archived."""
    now = parts.clock()
    wanted = JobRequest("evolink", "nano-banana-2-lite", {"prompt": "A lighthouse at dusk"})
    job_id = parts.ledger.create(wanted, now=now, deadline_at=now + 3_600_000).job_id
    parts.ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=60_000)
    outcome = Outcome.succeeded((Image(link, now + 86_400_000),))
    parts.ledger.settle_attempt(job_id, 1, f"task-{job_id}", outcome, now=now)
    return job_id


def _archived(parts: Runtime, job_id: str) -> bool:
    job = parts.ledger.get(job_id)
    return bool(job and job.archive and job.archive.status is FollowUpStatus.DONE)


def _report(kind: str, size: int, rates: dict[str, list[float]]) -> bool:
    ratio = median(
        ours / bare for ours, bare in zip(rates["archive"], rates["bare loop"], strict=True)
    )
    rate = {name: median(found) for name, found in rates.items()}
    told = ", ".join(f"{name} {per_second:.0f} /s" for name, per_second in rate.items())
    print(f"  {kind} of {size / 1e6:.2f} MB: {told}, ratio {ratio:.2f}, goal: at least {GOAL}")
    return ratio >= GOAL
