"""A Redis client that records the script calls of a ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis import Redis

from orchestrator.ledger import codec


def comparable(answer: list[Any]) -> list[Any]:
    """Return an answer with the fields of a job as a mapping. Redis may give them in any order."""
    return [codec.pairs(part) if _is_fields(part) else part for part in answer]


def _is_fields(part: Any) -> bool:
    """Return whether a part of an answer is a hash. The lines of a timeline have blanks."""
    return isinstance(part, list) and not any(" " in name for name in part[::2])


class RecordingClient:
    """A client that records its script calls, and can repeat the last one.

    redis-py repeats a call in the same way when the answer was lost.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        #: Runs the last script again, with the same arguments.
        self.repeat: Callable[[], Any] = lambda: None
        self.answer: Any = None
        #: Runs after each script.
        self.after_script: Callable[[], None] = lambda: None
        #: Every call: the script's digest or source, the number of keys, the keys, the arguments.
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def evalsha(self, *call: Any) -> Any:
        return self._run(lambda: self._client.evalsha(*call), call)

    def eval(self, *call: Any) -> Any:
        return self._run(lambda: self._client.eval(*call), call)

    def _run(self, command: Callable[[], Any], call: tuple[Any, ...]) -> Any:
        self.answer = command()
        self.repeat = lambda: self._run(command, call)
        self.calls.append(call)
        self.after_script()
        return self.answer
