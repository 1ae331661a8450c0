"""Holding an answer until something changes, without a thread.

A route that has nothing final to say yet asks for a hold, and returns the answer as it is now. The
server (`webhooks/front.py`) keeps the request and frees the thread. When the channel reports a
change and `over` is true, or when the time has passed, the server asks the application again with
the same request. So a key, a tenant and an error are treated in one place. A server without holds
sends the first answer.

A route may keep a state for that second time. It does not get the body of the request again then.
A stream of events begins with the hold. What the application answers in the end is its rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import request

#: The keys of the hold, and of the state of an earlier hold, in the WSGI environment.
ENVIRON_KEY, STATE_KEY = "orchestrator.hold", "orchestrator.held_state"


@dataclass(frozen=True, slots=True)
class EventStream:
    """A stream of server-sent events whose beginning is sent while the answer is held.

    Attributes:
        headers: of the answer. Its status is 200.
        keep_alive: bytes without a meaning, such as a comment. So nobody takes the stream for dead.
        interval_seconds: the time between two of them.
    """

    headers: tuple[tuple[str, str], ...]
    keep_alive: bytes
    interval_seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """What an answer waits for.

    Attributes:
        channel: the Redis channel that announces the change.
        over: returns whether there is something new to answer. It is called in a thread.
        seconds: the longest time. That of the first hold of a request counts.
        state: what the route gets when the application is asked again; None: the body.
        stream: the stream that begins now; None: the answer is sent at once when it is final.
    """

    channel: str
    over: Callable[[], bool]
    seconds: float
    state: Any = None
    stream: EventStream | None = None


def hold(
    channel: str,
    over: Callable[[], bool],
    seconds: float,
    *,
    state: Any = None,
    stream: EventStream | None = None,
) -> None:
    """Ask the server to hold the answer to the current request. See `Hold`."""
    request.environ[ENVIRON_KEY] = Hold(channel, over, seconds, state, stream)


def state() -> Any:
    """Return the state that the route kept when it held the answer to this request, or None."""
    return request.environ.get(STATE_KEY)


def taken_from(environ: dict[str, Any]) -> Hold | None:
    """Return the hold that a route asked for, and remove it."""
    asked: Hold | None = environ.pop(ENVIRON_KEY, None)
    return asked
