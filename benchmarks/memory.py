"""Measures the memory of a job in Redis beyond its request, in each state.

The prompts have many lengths, because Redis rounds each block of memory up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from redis import Redis

from benchmarks.report import Report
from orchestrator.cli.embedded_redis import embedded_redis
from orchestrator.clock import DAY_MS
from orchestrator.jobs.model import Copy, Cost, FollowUpStatus, Image, Outcome, Step
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import Lease, Ledger, codec, keys
from orchestrator.ledger.identifiers import folder

#: Jobs of each state.
JOBS = 3000
#: The shortest and the longest prompt. Characters.
PROMPTS = {"prompts of 100 to 500": (100, 500), "prompts of 1000 to 3000": (1000, 3000)}
#: The goal for a job of each state. Bytes.
MAX_BYTES = 1000
#: The time of the first job. ms.
START_MS = 1_796_000_000_000
COST = Cost(1.6, "credits")
#: Parts of the memory that a busy server frees late, or that are not data.
LATE = ("mem_aof_buffer", "mem_clients_normal", "mem_overhead_db_hashtable_rehashing")


def run(jobs: int = JOBS) -> Report:
    """Measure jobs that stay in a state, each state on a server of its own."""
    report = Report("memory", f"{jobs} jobs in each state, on Redis with our settings")
    for prompts, lengths in PROMPTS.items():
        sizes = {name: [_measure(make, jobs, *lengths)] for name, make in STATES.items()}
        report.add(f"memory of a job beyond its request, {prompts} characters", "B", sizes)
        for name, [size] in sizes.items():
            report.goal(f"bytes of a job: {name}, {prompts}", size, MAX_BYTES, at_least=False)
    return report


def queued(ledger: Ledger, request: JobRequest, now: int) -> str:
    """Create a job that waits for its submission. Return its id."""
    return ledger.create(request, now=now, deadline_at=now + DAY_MS // 24).job_id


def running(ledger: Ledger, request: JobRequest, now: int) -> str:
    """Create a job whose task runs."""
    job_id = queued(ledger, request, now)
    ledger.claim(job_id, Step.SUBMIT, now=now + 5, lease_ms=45_000)
    ledger.accepted(job_id, 1, _task(job_id), now=now + 800, due_at=now + 30_000, cost=COST)
    return job_id


def archived(ledger: Ledger, request: JobRequest, now: int) -> str:
    """Create a job whose only image is archived."""
    job_id, ended = running(ledger, request, now), now + 9000
    url = f"https://files.example.com/outputs/2026/11/{job_id[-16:]}/image-0.png?sig={job_id[-20:]}"
    outcome = Outcome.succeeded((Image(url, ended + DAY_MS),), COST)
    ledger.settle_attempt(job_id, 1, _task(job_id), outcome, now=ended)
    lease = ledger.follow_ups.claim(job_id, Step.ARCHIVE, now=ended + 20, lease_ms=45_000)
    assert isinstance(lease, Lease)
    stem = f"{folder(job_id)}/0"
    copy = Copy(
        *(f"{stem}.png", (job_id[4:] * 3)[:64], 1_250_321, 1024, 1024, "image/png"),
        *(ended + 600, f"{stem}.thumb.webp"),
    )
    images = tuple(replace(image, copy=copy) for image in lease.job.images)
    done = FollowUpStatus.DONE
    ledger.follow_ups.done(lease, Step.ARCHIVE, done, now=ended + 620, tries=1, images=images)
    return job_id


Make = Callable[[Ledger, JobRequest, int], str]
STATES: dict[str, Make] = {"queued": queued, "running": running, "archived": archived}


def _task(job_id: str) -> str:
    """Return the id of a provider task. It is as long as those of EvoLink."""
    return f"task-unified-{START_MS // 1000}-{job_id[-20:]}"


def _measure(make: Make, jobs: int, shortest: int, longest: int) -> float:
    requests = [
        JobRequest("evolink", "nano-banana-2-lite", options={"prompt": "x" * length})
        for length in (shortest + (longest - shortest) * i // jobs for i in range(jobs))
    ]
    with (
        tempfile.TemporaryDirectory() as name,
        embedded_redis(Path(name)) as url,
        Redis.from_url(url, decode_responses=True) as redis,
    ):
        ledger = Ledger.from_url(url)
        make(ledger, requests[0], START_MS)  # makes what all jobs share
        before = _used(redis)
        for number, request in enumerate(requests):
            make(ledger, request, START_MS + number)
        used = _used(redis) - before
    return (used - sum(len(codec.dumps(each.stored())) for each in requests)) / jobs


def _used(redis: Redis) -> int:
    """Return the memory of the data, after a recorder has written all changes. Bytes."""
    redis.xtrim(keys.changes(0), maxlen=0, approximate=False)
    memory: Any = redis.info("memory")
    return int(memory["used_memory"]) - sum(int(memory.get(part, 0)) for part in LATE)
