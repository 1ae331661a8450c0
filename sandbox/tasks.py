"""Provider tasks: what was asked, what became of them, and what they cost."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .faults import Faults
from .pictures import Picture

#: beyond this many the oldest are dropped, so that a long benchmark does not eat the memory
MAX_TASKS = 100_000


class Status(StrEnum):
    """Where a task stands, in words common to all providers."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Charge:
    """What a task cost when it was created."""

    amount: float
    unit: str


@dataclass(frozen=True)
class Outcome:
    """How a task ended."""

    status: Status
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
    charge: Charge
    pictures: tuple[Picture, ...]
    #: scheme and host the client reached us by; image links start with it
    link_base: str
    faults: Faults
    idempotency_key: str | None
    created_at: float
    runs_for: float
    links_live_for: float
    #: what else its provider shows of it, in that provider's words
    notes: Mapping[str, str] = field(default_factory=dict)
    outcome: Outcome | None = None
    finished_at: float | None = None
    refunded: bool = False
    submissions: int = 1
    callbacks: list[Callback] = field(default_factory=list)
    #: how often each picture's link was asked for, by the picture's number
    asked: Counter[int] = field(default_factory=Counter)

    @property
    def status(self) -> Status:
        """Where it stands."""
        return self.outcome.status if self.outcome else Status.RUNNING

    def progress(self, now: float) -> float:
        """How far it is, from 0 to 1; never 1 before it has an outcome."""
        if self.outcome:
            return 1.0
        return min((now - self.created_at) / self.runs_for, 0.99) if self.runs_for else 0.99

    def links(self) -> list[str]:
        """Where the pictures of a success can be fetched."""
        if "success_without_images" in self.faults:
            return []
        return [
            f"{self.link_base}/files/{self.id}-{number}.{picture.extension}"
            for number, picture in enumerate(self.pictures)
        ]

    def links_die_at(self) -> float | None:
        """When the links stop working; None while the task has not ended."""
        return None if self.finished_at is None else self.finished_at + self.links_live_for


@dataclass
class Account:
    """What one provider has charged so far. Refunds are counted, not subtracted."""

    tasks: int = 0
    amount: float = 0.0
    unit: str | None = None
    refunded: int = 0
    refunded_amount: float = 0.0


class TaskStore:
    """Every task there is, and the ledger of what was charged for them."""

    def __init__(self, max_tasks: int = MAX_TASKS) -> None:
        self._tasks: dict[str, Task] = {}
        self._accounts: dict[str, Account] = {}
        self._running: Counter[str] = Counter()
        self._max_tasks = max_tasks
        self._lock = threading.Lock()

    def add(self, task: Task, most_running: int | None = None) -> bool:
        """Keep a new task and charge for it; False when so many of its provider's run already."""
        with self._lock:
            if most_running is not None and self._running[task.provider] >= most_running:
                return False
            self._tasks[task.id] = task
            self._running[task.provider] += 1
            if len(self._tasks) > self._max_tasks:
                dropped = self._tasks.pop(next(iter(self._tasks)))
                self._running[dropped.provider] -= dropped.outcome is None
            account = self._accounts.setdefault(task.provider, Account())
            account.tasks += 1
            account.amount += task.charge.amount
            account.unit = task.charge.unit
            return True

    def finish(self, task: Task, outcome: Outcome, now: float) -> bool:
        """Give a task its outcome; False when it already had one or was forgotten."""
        with self._lock:
            if task.outcome or task.id not in self._tasks:
                return False
            task.finished_at = now
            task.outcome = outcome
            self._running[task.provider] -= 1
            if outcome.status is not Status.SUCCEEDED:
                task.refunded = True
                account = self._accounts[task.provider]
                account.refunded += 1
                account.refunded_amount += task.charge.amount
            return True

    def resubmitted(self, task: Task) -> None:
        """Count one more request that led to this task."""
        with self._lock:
            task.submissions += 1

    def asked(self, task: Task, number: int) -> int:
        """Count a request for one of its pictures, and say how many there were."""
        with self._lock:
            task.asked[number] += 1
            return task.asked[number]

    def called_back(self, task: Task, callback: Callback) -> None:
        """Record a callback that was sent."""
        with self._lock:
            task.callbacks.append(callback)

    def get(self, task_id: str, provider: str | None = None) -> Task | None:
        """The task of that id, if it is one of this provider's."""
        task = self._tasks.get(task_id)
        return task if task and provider in (None, task.provider) else None

    def newest_first(self, provider: str | None = None) -> Iterator[Task]:
        """Every task, or every task of one provider."""
        with self._lock:
            tasks = list(self._tasks.values())
        return (task for task in reversed(tasks) if provider in (None, task.provider))

    def accounts(self) -> dict[str, Account]:
        """The ledger, by provider."""
        with self._lock:
            return dict(self._accounts)

    def clear(self) -> None:
        """Forget every task and every charge."""
        with self._lock:
            self._tasks.clear()
            self._accounts.clear()
            self._running.clear()
