"""Tasks that belong to several attempts are found in little memory."""

from __future__ import annotations

import tracemalloc

from orchestrator.jobs.model import Status
from orchestrator.ledger.snapshots import JobFacts, TaskOfAttempt
from orchestrator.operations.task_index import TaskIndex, digest_of


def of_task(number: int, task_id: str) -> JobFacts:
    attempts = (TaskOfAttempt("hiapi", task_id),)
    return JobFacts(f"job-{number}", Status.RUNNING, "default", {}, attempts, old=False)


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
    tracemalloc.start()
    for number in range(20_000):
        index.add(of_task(0, f"task-{number}"))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert used < 20_000 * 16
