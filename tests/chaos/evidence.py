"""What was seen of a run; everything that the judge goes by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.chaos.killer import Death, Restart
from tests.chaos.plan import Order


@dataclass(frozen=True, slots=True)
class Breach:
    """One promise that was not kept, whose it was, and why."""

    promise: str
    whose: str
    why: str


@dataclass(frozen=True, slots=True)
class Archive:
    """What lies in the archive's folder; paths begin there."""

    #: the SHA-256 of each file
    files: Mapping[str, str] = field(default_factory=dict)
    #: each job.json; None if it cannot be read
    manifests: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    #: when each half-written file was last written to, Unix seconds
    halves: Sequence[float] = ()
    #: downloads that are left
    downloads: Sequence[str] = ()


@dataclass
class Evidence:
    """Everything that was seen of a run, as JSON-ready data. `lease` in seconds."""

    orders: Sequence[Order]
    #: job ids by order number, as the API answered
    accepted: Mapping[int, set[str]]
    #: every job that the API lists
    jobs: Mapping[str, dict[str, Any]]
    #: the timeline of each
    events: Mapping[str, list[dict[str, Any]]]
    #: the sandbox' tasks, each charged
    tasks: Sequence[dict[str, Any]]
    #: how many tasks the sandbox' own accounts say
    charged: int
    #: `<job id>.<attempt>` that `orchestrator list --unconfirmed` names
    at_risk: set[str]
    lease: float
    changed: Sequence[str] = ()
    odd: Sequence[str] = ()
    ended: Sequence[str] = ()
    restarts: Sequence[Restart] = ()
    #: what `orchestrator verify --json` told; None if it told nothing
    verification: Mapping[str, Any] | None = None
    #: how long a dead worker's notification stays its own, seconds
    notify_lease: float = 25.0
    #: every kill
    deaths: Sequence[Death] = ()
    #: messages that a process could not send to the broker: which process, and when (Unix seconds)
    dropped: Sequence[tuple[str, float]] = ()
    #: what came to the sandbox' inboxes
    inbox: Sequence[dict[str, Any]] = ()
    #: the rows of the usage report by provider
    usage: Sequence[Mapping[str, Any]] = ()
    archive: Archive = field(default_factory=Archive)
    #: images as the sandbox draws them, by their links, in the words of the API: `sha256`, ...
    originals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _tasks: defaultdict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def __post_init__(self) -> None:
        for task in self.tasks:
            self._tasks[task["prompt"]].append(task)

    def tasks_of(self, order: Order) -> list[dict[str, Any]]:
        """What the provider made, and charged, for an order."""
        return self._tasks[order.prompt]

    def job_of(self, order: Order) -> dict[str, Any] | None:
        """The job of an order, if there is exactly one."""
        ids = self.accepted.get(order.number, set())
        return self.jobs.get(next(iter(ids))) if len(ids) == 1 else None

    def named(self, job_id: str, event: str) -> list[dict[str, Any]]:
        """The events of that name in a job's timeline."""
        return [seen for seen in self.events.get(job_id, []) if seen["event"] == event]

    def settled(self) -> Iterator[tuple[Order, dict[str, Any]]]:
        """Each job that has its outcome, with its order."""
        for job in self.jobs.values():
            if job["settled_at"] is not None:
                yield self.orders[job["metadata"]["number"]], job

    def died(self, since: float, until: float, *victims: str) -> int:
        """How many of these were killed, or away, between two times (Unix seconds)."""
        return sum(d.victim in victims and d.at <= until and d.back >= since for d in self.deaths)

    def unknown(self) -> Iterator[tuple[Order, dict[str, Any]]]:
        """Charged tasks that no attempt of their job is bound to, with their order."""
        for order in self.orders:
            job = self.job_of(order)
            known = {a["task_id"] for a in job["attempts"]} if job else set()
            for task in self.tasks_of(order):
                if task["id"] not in known:
                    yield order, task


def unix(time: str) -> float:
    """A time of the API or the sandbox, in Unix seconds."""
    return datetime.fromisoformat(time).timestamp()
