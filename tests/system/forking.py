"""A program that uses the Python API, forks, and uses it in the parent and in every child.

It is run by test_forks. Each process writes one line: what went wrong, or nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from threading import Event, Thread

import orchestrator
from orchestrator.heartbeat import Heartbeat
from orchestrator.runtime import default_runtime

CHILDREN, ROUNDS = 8, 40
#: A child that hangs ends after this time. Seconds.
LIMIT_SECONDS = 120


def enqueue(name: str) -> str:
    fields = {"provider": "hiapi", "model": "Nano-Banana-2", "prompt": "A lighthouse"}
    return orchestrator.enqueue(**fields, metadata={"name": name}).id


def is_job(job_id: str, name: str) -> bool:
    job = orchestrator.get(job_id)
    return job is not None and (job.id, job.request.metadata) == (job_id, {"name": name})


def work(name: str, job_id: str, start: int) -> int:
    """Read this process's job and make others; the number of wrong answers."""
    signal.alarm(LIMIT_SECONDS)
    os.read(start, 1)
    wrong, made = 0, []
    for number in range(ROUNDS):
        wrong += not is_job(job_id, name)
        if number % 10 == 0:
            made.append(enqueue(f"{name}-{number}"))
            wrong += not is_job(made[-1], f"{name}-{number}")
    default_runtime().nudger.close(LIMIT_SECONDS)
    os.write(1, f"{name} {wrong} {','.join(made)}\n".encode())
    return wrong


def main() -> int:
    names = [f"process-{number}" for number in range(CHILDREN + 1)]
    jobs = {name: enqueue(name) for name in names}
    assert orchestrator.get(jobs[names[0]])
    runtime = default_runtime()
    heartbeat = Heartbeat(runtime, "intake")
    heartbeat.beat()
    begin, held, released = os.pipe(), Event(), Event()
    # Another thread holds every lock at the moment of the fork, and does not exist in the child.

    def hold() -> None:
        with ExitStack() as locks:
            for lock in (
                runtime.nudger._changed,
                runtime.broker._in_use,
                runtime.retry_queue._lock,
                runtime.host_limiter.shares._lock,
                runtime.archive_shares._lock,
            ):
                locks.enter_context(lock)
            held.set()
            released.wait(LIMIT_SECONDS)

    holder = Thread(target=hold)
    holder.start()
    held.wait()
    children = []
    for name in names[1:]:
        child = os.fork()
        if child == 0:
            heartbeat.stop()  # it has none of its own
            os._exit(work(name, jobs[name], begin[0]) != 0)
        children.append(child)
    released.set()
    holder.join()
    os.write(begin[1], b"x" * (CHILDREN + 1))
    wrong = work(names[0], jobs[names[0]], begin[0])
    failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
    heard = [process.pid for process in runtime.ledger.processes.known()]
    return bool(failed or wrong or heard != [os.getpid()])


if __name__ == "__main__":
    sys.exit(main())
