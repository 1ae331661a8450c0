"""Finds provider tasks that belong to several attempts, in a few bytes for each task."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from hashlib import blake2b
from itertools import pairwise

from orchestrator.ledger.snapshots import JobFacts

#: Digests are sorted in this many parts, so that sorting needs little memory.
_PARTS = 256

#: A provider and the id of a task there.
Task = tuple[str, str]


class TaskIndex:
    """The tasks of many attempts. A task takes 8 bytes: a digest.

    Args:
        wanted: the tasks whose attempts `attempt_of` returns.
    """

    def __init__(self, wanted: Iterable[Task]) -> None:
        self._attempts: dict[Task, str | None] = dict.fromkeys(wanted)
        self._digests = [array("Q") for _ in range(_PARTS)]

    def add(self, job: JobFacts) -> None:
        """Add the tasks of a job."""
        for task, attempt in tasks_of(job):
            digest = digest_of(task)
            self._digests[digest % _PARTS].append(digest)
            if task in self._attempts and self._attempts[task] is None:
                self._attempts[task] = attempt

    def attempt_of(self, task: Task) -> str | None:
        """Return the first attempt of a wanted task: job id, dot, number. None: it has none."""
        return self._attempts.get(task)

    def repeated(self) -> tuple[int, set[int]]:
        """Return the number of tasks, and the digests that were added more than once.

        Two tasks may have one digest, so look at the tasks themselves.
        """
        number, repeated = 0, set[int]()
        for part in self._digests:
            ordered = sorted(part)
            number += len(set(ordered))
            repeated.update(a for a, b in pairwise(ordered) if a == b)
        return number, repeated


def tasks_of(job: JobFacts) -> Iterable[tuple[Task, str]]:
    """Yield each task of a job, with its attempt."""
    for number, (provider, task_id) in enumerate(job.attempts, 1):
        if task_id:
            yield (provider, task_id), f"{job.id}.{number}"


def digest_of(task: Task) -> int:
    """Return the digest of a task."""
    return int.from_bytes(blake2b("\n".join(task).encode(), digest_size=8).digest())
