"""A resolver for tests: it knows the names it is told, whose addresses may change each time."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from orchestrator.net import guard


class Names:
    """Answers in place of the system's resolver, in the guard's namespace alone.

    `names["cdn.example"] = ["8.8.8.8"], ["127.0.0.1"]` answers these in turn, and the last one
    ever after. `asked` lists the names that were resolved.
    """

    def __init__(self) -> None:
        self._answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []

    def __setitem__(self, name: str, answers: tuple[list[str], ...]) -> None:
        self._answers[name] = list(answers)

    def __call__(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        if host not in self._answers:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        left = self._answers[host]
        ips = left.pop(0) if len(left) > 1 else left[0]
        return [_answer(ip, port) for ip in ips]


def _answer(ip: str, port: int) -> tuple[Any, ...]:
    if ":" in ip:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (ip, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """What the guard resolves with."""
    stub = Names()
    monkeypatch.setattr(guard, "getaddrinfo", stub)
    return stub
