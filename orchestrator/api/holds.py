"""Holding an answer until something changes, without a thread.

A route that has nothing final to say yet asks for a hold, and returns the answer as it is now. The
server (`webhooks/front.py`) keeps the request and frees the thread. When the channel reports a
change and `over` is true, or when the time has passed, the server asks the application again with
the same request. So a key, a tenant and an error are treated in one place. A server without holds
sends the first answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import request

#: The key of the hold in the WSGI environment.
ENVIRON_KEY = "orchestrator.hold"


@dataclass(frozen=True, slots=True)
class Hold:
    """What an answer waits for.

    Attributes:
        channel: the Redis channel that announces the change.
        over: returns whether there is something new to answer. It is called in a thread.
        seconds: the longest time.
    """

    channel: str
    over: Callable[[], bool]
    seconds: float


def hold(channel: str, over: Callable[[], bool], seconds: float) -> None:
    """Ask the server to hold the answer to the current request. See `Hold`."""
    request.environ[ENVIRON_KEY] = Hold(channel, over, seconds)


def taken_from(environ: dict[str, Any]) -> Hold | None:
    """Return the hold that a route asked for, and remove it."""
    asked: Hold | None = environ.pop(ENVIRON_KEY, None)
    return asked
