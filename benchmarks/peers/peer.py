"""What all peers share: processes, requests, and how many jobs have come to their end."""

from __future__ import annotations

import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, Self

import requests

from benchmarks.load import NewJob
from benchmarks.processes import Processes, wait_for
from benchmarks.product import PLAIN, JobKind
from benchmarks.stub_provider import Provider
from orchestrator.cli.ports import free_port

APPS = Path(__file__).parent / "apps"


class Peer(ABC):
    """A peer, which runs between enter and exit.

    Args:
        folder: for data and logs.
        stub: every submission goes there.
    """

    #: The processes that a person writes. The test of kills kills them.
    app: ClassVar[Sequence[str]]
    #: The processes whose CPU time counts.
    measured: ClassVar[Sequence[str]]
    #: The path of the requests.
    path: ClassVar[str] = "/jobs"

    def __init__(self, folder: Path, stub: Provider) -> None:
        folder.mkdir(parents=True)
        self.folder, self.stub = folder, stub
        self.port = free_port()
        self.secret = secrets.token_hex(32)
        self.processes = Processes(folder)
        self._closing = ExitStack()
        self._number = 0

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.enter_context(self.processes)
            self.start(undo)
            self._closing = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @abstractmethod
    def start(self, closing: ExitStack) -> None:
        """Start everything, and wait until it answers."""

    @abstractmethod
    def start_app(self) -> None:
        """Start the processes of `app`, and wait until they answer."""

    @abstractmethod
    def completed(self, kind: JobKind = PLAIN) -> list[int]:
        """Return how many jobs have come to their end since the start."""

    @abstractmethod
    def ended(self) -> int:
        """Return how many jobs have an outcome that is stored."""

    def kill_app(self) -> None:
        """SIGKILL the processes of `app`."""
        for name in self.app:
            self.processes.kill(name)

    def pids(self) -> dict[str, int]:
        """Return the processes whose CPU time counts. Their children count with them."""
        return {name: self.processes.running[name].pid for name in self.measured}

    def reported(self) -> int:
        """Return how many jobs were reported as perhaps paid. No peer knows such a state."""
        return 0

    def jobs(self, count: int, kind: JobKind = PLAIN) -> list[NewJob]:
        """Return new jobs. Each has a prompt of its own."""
        headers = {"Content-Type": "application/json"}
        first, self._number = self._number, self._number + count
        return [NewJob(self.path, headers, _body(number)) for number in range(first, first + count)]

    def text(self, port: int, path: str) -> str:
        """Return the answer of a process."""
        return requests.get(f"http://127.0.0.1:{port}{path}", timeout=10).text

    def wait(self, what: str, port: int, path: str = "/") -> None:
        """Wait until a process answers.

        Raises:
            TimeoutError: it does not in time.
        """
        try:
            wait_for(what, lambda: self._answers(port, path))
        except TimeoutError as error:
            raise TimeoutError(f"{error}. Its last output:\n{self.processes.output()}") from None

    def _answers(self, port: int, path: str) -> bool:
        try:
            return bool(self.text(port, path)) or True
        except requests.RequestException:
            return False


def _body(number: int) -> bytes:
    job = {"id": f"job-{number:08}", "prompt": f"A lighthouse at dusk {number}"}
    return json.dumps(job).encode()
