"""Both clients against a script of answers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import httpx

from orchestrator_client import AsyncClient, Client

KEY = "orch_secret-key"
URL = "https://images.example.com/orchestrator"
JOB = {
    "id": "job_1",
    "status": "queued",
    "tenant": "shop",
    "provider": "hiapi",
    "model": "Nano-Banana-2",
    "request": {"prompt": "a private prompt"},
    "metadata": {"order": "a private order"},
    "created_at": "2026-11-30T00:53:20.000Z",
    "updated_at": "2026-11-30T00:53:20.000Z",
    "deadline_at": "2026-11-30T01:53:20.000Z",
    "a_new_field": 1,
}
DONE = {**JOB, "status": "succeeded", "settled_at": "2026-11-30T00:53:26.120Z"}


def answer(status: int, body: Any = None, **headers: str) -> httpx.Response:
    """An answer with JSON. `Retry_After` is the header `Retry-After`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=body, headers=named)


class Script(httpx.MockTransport):
    """Gives each request the next answer, or raises it. The last one is for all that follow."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)
        super().__init__(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(found, Exception):
            raise found
        if not found.is_closed:
            return found
        # A client keeps its own state in an answer.
        return httpx.Response(found.status_code, headers=found.headers, content=found.content)


class Caller:
    """Calls a method of one of the clients.

    Args:
        asynchronous: whether it is `AsyncClient`.
    """

    def __init__(self, *, asynchronous: bool) -> None:
        self._asynchronous = asynchronous

    def __call__(self, script: Script, name: str, *values: Any, **named: Any) -> Any:
        """Return what a method returns; of `list`, the jobs."""
        if self._asynchronous:
            return asyncio.run(self._awaited(script, name, *values, **named))
        with Client(URL, KEY, transport=script) as client:
            result = getattr(client, name)(*values, **named)
            return list(result) if isinstance(result, Iterator) else result

    async def _awaited(self, script: Script, name: str, *values: Any, **named: Any) -> Any:
        async with AsyncClient(URL, KEY, transport=script) as client:
            result = getattr(client, name)(*values, **named)
            if inspect.isasyncgen(result):
                return [each async for each in result]
            return await result
