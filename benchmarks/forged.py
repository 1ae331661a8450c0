"""Measures what forged callbacks cost the real callbacks and the web process.

It is not part of `python -m benchmarks`, because it has no goal and takes longer. Run it alone:

    python -m benchmarks.forged [--forged 100000] [--jobs 200]

The same jobs run once without the attack and once with it. The latency of a real callback is
measured at its sender.
"""

from __future__ import annotations

import argparse
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import perf_counter

import requests

from benchmarks import load
from benchmarks.number_arguments import one_or_more
from orchestrator.callbacks.address import CallbackAddress
from orchestrator.cli.stack import Stack
from orchestrator.clock import now_ms
from orchestrator.jobs.model import Status, Step
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import Ledger, identifiers
from orchestrator.settings.settings import Settings

HEADERS = {"Content-Type": "application/json"}
BODY = b'{"id":"task-1","status":"completed","results":["https://forged.example.com/0.png"]}'
#: The number of different forged callbacks. They are sent repeatedly.
KINDS = 2000


@dataclass(frozen=True)
class Observation:
    """The result of the real callbacks: sorted latencies (ms), and answers by status."""

    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def summary(self) -> str:
        """Return one line."""
        p99 = self.latencies[int(len(self.latencies) * 0.99)]
        return (
            f"median {median(self.latencies):6.1f} ms   p99 {p99:6.1f} ms"
            f"   worst {self.latencies[-1]:6.1f} ms   {dict(self.statuses)}"
        )


class AttackTarget:
    """A web process under attack, and real jobs that wait for their callbacks."""

    def __init__(self, stack: Stack, settings: Settings) -> None:
        self._stack = stack
        self._settings = settings
        self._ledger = Ledger.from_url(stack.env["ORCHESTRATOR_REDIS_URL"])

    def memory(self) -> float:
        """Return the resident memory of the web processes. MiB."""
        pids = _family(self._stack.running["web"].pid)
        pages = sum(int(_proc(pid, "statm").split()[1]) for pid in pids)
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def log_lines(self) -> int:
        """Return the number of log lines."""
        return self._stack.log("web").count("\n")

    def forgeries(self, job_id: str) -> list[bytes]:
        """Return forged callbacks: with wrong, swapped or short tokens, or for unknown jobs."""
        path = self._path(job_id)
        rest, _, token = path.rpartition("/")
        other = self._path(identifiers.new_job_id(0, now_ms())).rpartition("/")[2]
        paths = [
            f"{rest}/{secrets.token_urlsafe(32)}",
            f"{rest}/{other}",
            f"{rest}/{token[:-1]}",
            path.replace("evolink", "hiapi"),
            f"/callbacks/evolink/{identifiers.new_job_id(0, now_ms())}.1/{token}",
            f"/callbacks/evolink/nonsense/{token}",
        ]
        bodies = (BODY, b"{", BODY * 50)
        made = (
            load.request(path, body, HEADERS)
            for path, body in zip(cycle(paths), cycle(bodies), strict=False)
        )
        return list(islice(made, KINDS))

    def running(self) -> str:
        """Create a job that waits for its callback."""
        now = now_ms()
        wanted = JobRequest("evolink", "nano-banana-2-lite", {"prompt": "A lighthouse at dusk"})
        job_id = self._ledger.create(wanted, now=now, deadline_at=now + 3_600_000).job_id
        self._ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=60_000)
        self._ledger.accepted(job_id, 1, f"task-{job_id}", now=now, due_at=now + 3_600_000)
        return job_id

    def status(self, job_id: str) -> Status:
        """Return the status of a job."""
        job = self._ledger.get(job_id)
        assert job is not None
        return job.status

    def deliver(self, jobs: list[str], seen: Observation) -> None:
        """Send the real callback of each job, one after another, on its own connection."""
        for job_id in jobs:
            body = BODY.replace(b"task-1", f"task-{job_id}".encode())
            begun = perf_counter()
            url = f"{self._stack.web_url}{self._path(job_id)}"
            answer = requests.post(url, data=body, headers=HEADERS, timeout=60)
            seen.latencies.append((perf_counter() - begun) * 1000)
            seen.statuses[answer.status_code] += 1
        seen.latencies.sort()

    def _path(self, job_id: str) -> str:
        url = CallbackAddress("evolink", job_id, 1).url(self._settings)
        return url[url.index("/callbacks") :]


def attack(port: int, forgeries: list[bytes], number: int) -> load.Load:
    """Send forged callbacks over many connections."""
    return load.run(port, list(islice(cycle(forgeries), number)))


def run(forged: int, jobs: int) -> None:
    """Measure and print."""
    with Stack(("web",)) as stack:
        os.environ.update({k: v for k, v in stack.env.items() if k.startswith("ORCHESTRATOR_")})
        target = AttackTarget(stack, Settings.from_env())
        victim = target.running()
        forgeries = target.forgeries(victim)
        attack(stack.web_port, forgeries, 500)
        quiet, loud = Observation(), Observation()
        target.deliver([target.running() for _ in range(jobs)], quiet)
        real = [target.running() for _ in range(jobs)]
        before, lines = target.memory(), target.log_lines()
        with ThreadPoolExecutor(1) as pool:
            came = pool.submit(attack, stack.web_port, forgeries, forged)
            target.deliver(real, loud)
            left = not came.done()
            result = came.result()
        print(f"{forged} forged callbacks over {load.CONNECTIONS} connections, {jobs} real ones")
        print(f"  forged   {result.rate:6.0f} /s   answers {dict(result.statuses)}")
        print(f"  real, without the attack   {quiet.summary()}")
        print(f"  real, under attack         {loud.summary()}")
        print(f"  the attack outlasted them: {'yes' if left else 'no'}")
        print(f"  memory   {before:.0f} MiB before, {target.memory():.0f} MiB after")
        print(f"  log      {target.log_lines() - lines} lines")
        print(f"  the job that was forged at is {target.status(victim)}")


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in _proc(pid, f"task/{pid}/children").split():
        yield from _family(int(child))


def _proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text("utf-8")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--forged", type=one_or_more, default=100_000)
    arguments.add_argument("--jobs", type=one_or_more, default=200)
    chosen = arguments.parse_args()
    run(chosen.forged, chosen.jobs)
