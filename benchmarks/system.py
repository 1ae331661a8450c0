"""What a benchmark needs of a system that it measures."""

from __future__ import annotations

from typing import Protocol, Self

from benchmarks.load import NewJob
from benchmarks.product import JobKind


class System(Protocol):
    """A system that takes jobs over HTTP. It runs between enter and exit."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def port(self) -> int:
        """The port that takes the requests."""

    def pids(self) -> dict[str, int]:
        """Return the processes whose CPU time counts. Their children count with them."""

    def jobs(self, count: int, kind: JobKind) -> list[NewJob]:
        """Return new jobs. Each has a prompt of its own."""

    def completed(self, kind: JobKind) -> list[int]:
        """Return how many jobs have come to each end that belongs to this kind."""

    def ended(self) -> int:
        """Return how many jobs have a stored success."""

    def reported(self) -> int:
        """Return how many jobs failed, and were reported as perhaps paid."""

    def kill_app(self) -> None:
        """SIGKILL the processes that a person writes."""

    def start_app(self) -> None:
        """Start them again, and wait until they answer."""
