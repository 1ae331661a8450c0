"""Tasks that belong to several attempts are found in little memory."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

from orchestrator.jobs.model import Attempt, Job, Status
from orchestrator.jobs.request import JobRequest
from orchestrator.operations.task_index import TaskIndex, digest_of


def of_task(number: int, task_id: str) -> Job:
    request = JobRequest("hiapi", "Nano-Banana-2", {"prompt": "A red cube"})
    attempts = (Attempt(1, 0, task_id, "hiapi"),)
    return Job(f"job-{number}", Status.RUNNING, request, 0, 0, 0, attempts=attempts)


def test_a_task_of_two_jobs_is_found_among_many() -> None:
    index = TaskIndex([("hiapi", "task-7"), ("hiapi", "nobody's")])
    for number in range(1000):
        index.add(of_task(number, f"task-{number}"))
    index.add(of_task(2000, "task-7"))

    assert index.repeated() == (1000, {digest_of(("hiapi", "task-7"))})
    assert index.attempt_of(("hiapi", "task-7")) == "job-7.1"
    assert index.attempt_of(("hiapi", "nobody's")) is None
    assert digest_of(("hiapi", "task-7")) != digest_of(("evolink", "task-7"))


def test_a_task_takes_a_few_bytes() -> None:
    index = TaskIndex([])
    one = of_task(0, "task")
    tracemalloc.start()
    for number in range(20_000):
        index.add(replace(one, attempts=(replace(one.attempts[0], task_id=f"task-{number}"),)))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert used < 20_000 * 16
