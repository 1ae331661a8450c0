"""Calls of the API, and when they are repeated. Nothing here does I/O.

An operation is a generator. It yields a `Call` and receives the answer, or yields a `Pause` and
receives None, or yields `DiskWork` and receives its result. `Client` and `AsyncClient` run the same
operations.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, TypeVar

import httpx

from orchestrator_client import parsing
from orchestrator_client.errors import ConnectionFailed, UnexpectedAnswer, error_kind

Result = TypeVar("Result")

#: Answers after which a call may work a moment later.
PASSING = frozenset({429, 500, 502, 503, 504})
#: The call certainly did not arrive after these errors.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
#: The first and the longest pause before a repetition. Seconds.
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 8.0
#: A server that asks for a longer pause than this gets no repetition. Seconds.
MAX_RETRY_AFTER_SECONDS = 60.0


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        parts: the parts of a form; None sends `json`.
        timeout: the time for an answer beyond the usual one. Seconds.
        sink: receives the body of a success.
        safe: it changes nothing, whatever the method says.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    parts: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 0.0
    sink: BinaryIO | None = None
    safe: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether the call does the same when it arrives twice."""
        return self.method == "GET" or self.safe or "Idempotency-Key" in self.headers


@dataclass(frozen=True)
class Pause:
    """Wait. Seconds."""

    seconds: float


@dataclass(frozen=True)
class DiskWork:
    """A function that waits for the disk. `AsyncClient` calls it in a thread."""

    action: Callable[[], Any]


Operation = Generator[Call | Pause | DiskWork, Any, Result]
Parser = Callable[[Mapping[str, Any]], Result]


@dataclass(frozen=True)
class Calls:
    """Makes calls, and repeats those that are safe to repeat.

    Args:
        max_retries: repetitions of one call.
    """

    max_retries: int

    def answer(self, call: Call) -> Operation[httpx.Response]:
        """Return a successful answer.

        Raises:
            ApiError: the API refused the call.
            ConnectionFailed: no answer came.
        """
        for number in range(self.max_retries + 1):
            last = number == self.max_retries
            try:
                response: httpx.Response = yield call
            except httpx.RequestError as error:
                if last or not (call.repeatable or isinstance(error, NOT_SENT)):
                    raise ConnectionFailed(f"{call.method} {call.path}: {_reason(error)}") from None
                yield Pause(_pause(number))
                continue
            if response.is_success:
                return response
            wanted = retry_after(response) or 0.0
            again = call.repeatable and response.status_code in PASSING
            if last or not again or wanted > MAX_RETRY_AFTER_SECONDS:
                raise _refusal(response)
            yield Pause(wanted + _pause(number))
        raise AssertionError("the last repetition returns or raises")

    def read(self, call: Call, parse: Parser[Result]) -> Operation[Result]:
        """Return what a successful answer holds, as `answer` does.

        Raises:
            UnexpectedAnswer: it holds something else.
        """
        response = yield from self.answer(call)
        return parsed(response, parse)


def parsed(response: httpx.Response, parse: Parser[Result]) -> Result:
    """Return what an answer holds.

    Raises:
        UnexpectedAnswer: it holds something else.
    """
    try:
        return parse(response.json())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UnexpectedAnswer(
            f"the answer to {response.request.method} {response.request.url.path} is not of an"
            " image orchestrator; check base_url"
        ) from None


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds of `Retry-After`, which is a number or a date; None without one."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (at.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _pause(number: int) -> float:
    """Return the pause after the try of this number, from 0. Its jitter spreads many clients."""
    longest: float = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**number)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311  # not a secret


def _reason(error: httpx.RequestError) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _refusal(response: httpx.Response) -> Exception:
    status = response.status_code
    try:
        document = response.json()
    except (ValueError, RecursionError):  # a proxy answered, for example with a page
        document = None
    fields = document if isinstance(document, dict) else {}
    problem = parsing.problem({"title": response.reason_phrase, **fields, "status": status})
    request_id = response.headers.get("X-Request-ID")
    kind = error_kind(problem)
    return kind(problem, request_id=request_id, retry_after=retry_after(response))
