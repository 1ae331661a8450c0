"""Provider tasks: their request, their outcome and their charge."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .faults import Faults
from .pictures import PictureSpec

#: Largest number of stored tasks. The oldest is dropped first, so a benchmark can run long.
MAX_TASKS = 100_000


class TaskStatus(StrEnum):
    """The status of a task, in terms common to all providers."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class TaskCharge:
    """The price of a task. It is charged when the task is created."""

    amount: float
    unit: str


@dataclass(frozen=True)
class TaskOutcome:
    """How a task ended."""

    status: TaskStatus
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class Callback:
    """One callback request that was sent, and its answer."""

    at: float
    kind: str
    url: str
    status: int | None
    error: str | None


@dataclass(kw_only=True)
class Task:
    """One task at one provider. Times are Unix seconds."""

    id: str
    provider: str
    model: str
    prompt: str
    callback_url: str | None
    charge: TaskCharge
    pictures: tuple[PictureSpec, ...]
    #: Scheme and host of the client's request. Image links start with them.
    link_base: str
    faults: Faults
    idempotency_key: str | None
    created_at: float
    run_seconds: float
    link_ttl_seconds: float
    #: More fields that only its provider shows.
    notes: Mapping[str, str] = field(default_factory=dict)
    outcome: TaskOutcome | None = None
    finished_at: float | None = None
    refunded: bool = False
    submissions: int = 1
    callbacks: list[Callback] = field(default_factory=list)
    #: Number of requests for each image link, by the number of the picture.
    image_requests: Counter[int] = field(default_factory=Counter)
    #: Number of queries that a fault has counted, by the fault.
    queries: Counter[str] = field(default_factory=Counter)

    @property
    def status(self) -> TaskStatus:
        """The status of the task."""
        return self.outcome.status if self.outcome else TaskStatus.RUNNING

    def progress(self, now: float) -> float:
        """Return the progress from 0 to 1. It is below 1 until the task has an outcome."""
        if self.outcome:
            return 1.0
        return min((now - self.created_at) / self.run_seconds, 0.99) if self.run_seconds else 0.99

    def links(self) -> list[str]:
        """Return the image links of a success."""
        return [
            f"{self.link_base}/files/{self.id}-{number}.{picture.extension}"
            for number, picture in enumerate(self.pictures)
        ]

    def links_expire_at(self) -> float | None:
        """Return the time when the links expire, or None while the task runs."""
        return None if self.finished_at is None else self.finished_at + self.link_ttl_seconds


@dataclass
class Account:
    """The charges of one provider. Refunds are counted but not subtracted."""

    tasks: int = 0
    amount: float = 0.0
    unit: str | None = None
    refunded: int = 0
    refunded_amount: float = 0.0


@dataclass(frozen=True)
class TaskLoad:
    """The submissions of one provider that met its limit of tasks in flight."""

    #: Tasks in flight now.
    in_flight: int = 0
    #: Most tasks that were in flight at once.
    most_in_flight: int = 0
    #: Submissions that created a task.
    accepted: int = 0
    #: Submissions above the limit.
    refused: int = 0


class TaskStore:
    """Every task, and the ledger of their charges."""

    def __init__(self, max_tasks: int = MAX_TASKS) -> None:
        self._tasks: dict[str, Task] = {}
        self._accounts: dict[str, Account] = {}
        self._running: Counter[str] = Counter()
        self._most_running: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._max_tasks = max_tasks
        self._lock = threading.Lock()

    def add(self, task: Task, max_running_tasks: int | None = None) -> bool:
        """Store and charge a new task.

        Args:
            task: The new task.
            max_running_tasks: Most tasks of its provider that may run. None has no limit.

        Returns:
            False when the limit is reached. The task is then counted, but not stored or charged.
        """
        with self._lock:
            if max_running_tasks is not None and self._running[task.provider] >= max_running_tasks:
                self._refused[task.provider] += 1
                return False
            self._tasks[task.id] = task
            running = self._running[task.provider] = self._running[task.provider] + 1
            self._most_running[task.provider] = max(self._most_running[task.provider], running)
            if len(self._tasks) > self._max_tasks:
                dropped = self._tasks.pop(next(iter(self._tasks)))
                self._running[dropped.provider] -= dropped.outcome is None
            account = self._accounts.setdefault(task.provider, Account())
            account.tasks += 1
            account.amount += task.charge.amount
            account.unit = task.charge.unit
            return True

    def finish(self, task: Task, outcome: TaskOutcome, now: float) -> bool:
        """Set the outcome of a task. Return False when it has one or was forgotten."""
        with self._lock:
            if task.outcome or task.id not in self._tasks:
                return False
            task.finished_at = now
            task.outcome = outcome
            self._running[task.provider] -= 1
            if outcome.status is not TaskStatus.SUCCEEDED:
                task.refunded = True
                account = self._accounts[task.provider]
                account.refunded += 1
                account.refunded_amount += task.charge.amount
            return True

    def count_submission(self, task: Task) -> None:
        """Count one more request for this task."""
        with self._lock:
            task.submissions += 1

    def count_image_request(self, task: Task, number: int) -> int:
        """Count a request for one of its images and return the new count."""
        with self._lock:
            task.image_requests[number] += 1
            return task.image_requests[number]

    def count_query(self, task: Task, fault: str) -> int:
        """Count a query for a fault and return the new count."""
        with self._lock:
            task.queries[fault] += 1
            return task.queries[fault]

    def add_callback(self, task: Task, callback: Callback) -> None:
        """Store a callback that was sent."""
        with self._lock:
            task.callbacks.append(callback)

    def get(self, task_id: str, provider: str | None = None) -> Task | None:
        """Return the task with this id, if it belongs to this provider."""
        task = self._tasks.get(task_id)
        return task if task and provider in (None, task.provider) else None

    def newest_first(self, provider: str | None = None) -> Iterator[Task]:
        """Return every task, or every task of one provider."""
        with self._lock:
            tasks = list(self._tasks.values())
        return (task for task in reversed(tasks) if provider in (None, task.provider))

    def accounts(self) -> dict[str, Account]:
        """Return the charges by provider."""
        with self._lock:
            return dict(self._accounts)

    def load(self, provider: str) -> TaskLoad:
        """Return how many tasks one provider has, had and refused."""
        with self._lock:
            account = self._accounts.get(provider, Account())
            return TaskLoad(
                in_flight=self._running[provider],
                most_in_flight=self._most_running[provider],
                accepted=account.tasks,
                refused=self._refused[provider],
            )

    def clear(self) -> None:
        """Forget every task, every charge and every refusal."""
        with self._lock:
            self._tasks.clear()
            self._accounts.clear()
            self._running.clear()
            self._most_running.clear()
            self._refused.clear()
