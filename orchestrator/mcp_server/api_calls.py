"""Calls of our HTTP API for one agent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import anyio
import httpx2

#: The time to connect, and the time for an answer beyond a wait. Seconds.
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0
#: The pauses before a call is made again. Seconds.
PAUSES_SECONDS = (0.5, 1.5)
#: Answers after which the same call may work a moment later.
PASSING = frozenset({500, 502, 503, 504})
#: The largest answer that is read. Bytes.
MAX_ANSWER_BYTES = 16 * 1024 * 1024


class Refused(Exception):
    """The API refused a call. `problem` is its problem document (RFC 9457)."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(f"HTTP status {problem.get('status')}")
        self.problem = problem


class NoAnswer(Exception):
    """The API gave no answer, or none that can be read. The call may have arrived."""


@dataclass(frozen=True)
class Answer:
    """A successful answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the JSON of the body.

        Raises:
            NoAnswer: it is not JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError:
            raise NoAnswer("the answer is not of an image orchestrator") from None


@dataclass(frozen=True)
class ApiCalls:
    """The API as the owner of one key sees it.

    Args:
        http: a client with the base URL of the API.
        key: the key of the agent.
    """

    http: httpx2.AsyncClient
    key: str = field(repr=False)

    async def get(self, path: str, *, wait: float = 0.0, **query: Any) -> Any:
        """Return the JSON of a GET. `wait` is the time that the server may hold it, seconds.

        Raises:
            Refused: the API refused it.
            NoAnswer: no answer came.
        """
        params = {name: value for name, value in query.items() if value is not None}
        if wait:
            params["wait"] = f"{wait:.3f}"
        return (await self.call("GET", path, params=params, wait=wait, again=True)).json()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        key: str | None = None,
        wait: float = 0.0,
        again: bool = False,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Make a call, and return its successful answer.

        Args:
            method, path, params: of the request.
            body: is sent as JSON, unless it is None.
            key: the idempotency key.
            wait: the time that the server may hold the answer, seconds.
            again: whether the call may be repeated. One with an idempotency key always may.
            max_bytes: a larger answer is an error.

        Raises:
            Refused: the API refused it.
            NoAnswer: no answer came.
        """
        headers = {"Authorization": f"Bearer {self.key}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        content: dict[str, Any] = {} if body is None else {"json": body}
        timeout = httpx2.Timeout(ANSWER_SECONDS + wait, connect=CONNECT_SECONDS)
        for pause in (*(PAUSES_SECONDS if again or key is not None else ()), None):
            try:
                request = self.http.build_request(
                    method, path, params=params, headers=headers, timeout=timeout, **content
                )
                answer = await self._sent(request, max_bytes)
            except httpx2.RequestError as error:
                if pause is None:
                    raise NoAnswer(type(error).__name__) from None
            else:
                if answer.status < 300:
                    return answer
                if pause is None or answer.status not in PASSING:
                    raise Refused(_problem(answer))
            await anyio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def _sent(self, request: httpx2.Request, max_bytes: int) -> Answer:
        """Send a request, and read the answer.

        An image may be in a bucket, so a GET follows redirects. The key is not sent to another
        host. A POST that followed one would become a GET.
        """
        follow = request.method == "GET"
        response = await self.http.send(request, stream=True, follow_redirects=follow)
        try:
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > max_bytes:
                    raise NoAnswer(f"the answer has more than {max_bytes} bytes")
            return Answer(response.status_code, dict(response.headers), bytes(body))
        finally:
            await response.aclose()


def job_path(job_id: str) -> str:
    """Return the path of a job."""
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _problem(answer: Answer) -> dict[str, Any]:
    """Return the problem document of an answer. A proxy may have sent a page instead."""
    try:
        found = json.loads(answer.body)
    except ValueError:
        found = None
    known = found if isinstance(found, dict) else {"title": _title(answer.status)}
    request_id = answer.headers.get("x-request-id")
    return {**known, "status": answer.status, **({"request_id": request_id} if request_id else {})}


def _title(status: int) -> str:
    if status < 400:
        return "The server sends us to another address. Correct ORCHESTRATOR_MCP_API_URL"
    return "The server answered with an error"
