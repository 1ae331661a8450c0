"""What a view asks of the connection that it answers on."""

import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from flask import Response, request

#: where a `Wishes` stands in the WSGI environment
WISHES = "sandbox.wishes"

#: how often a wait looks whether anybody still waits for its end, in seconds
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Body:
    """A body that is sent piece by piece, whatever length was announced."""

    pieces: Iterable[bytes]
    #: for Content-Length; None announces none, and the end of the connection ends the body
    length: int | None
    #: whether the connection ends with it
    close: bool = True


@dataclass
class Wishes:
    """What a view asks of the server. Filled in, for Flask has a copy of the environment."""

    #: to be sent in place of the response's own
    body: Body | None = None
    #: the connection is closed unanswered
    vanish: bool = False


def send(body: Body, content_type: str) -> Response:
    """Answer 200 with such a body."""
    request.environ[WISHES].body = body
    return Response(content_type=content_type)


def vanish() -> Response:
    """Close the connection unanswered."""
    request.environ[WISHES].vanish = True
    return Response()


def wait(seconds: float, stopping: threading.Event) -> bool:
    """Wait before the answer; False as soon as the client went away or the sandbox stops."""
    connection = request.environ.get("werkzeug.socket")
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if stopping.wait(min(left, LOOK_SECONDS)) or _went_away(connection):
            return False
    return True


def _went_away(connection: socket.socket | None) -> bool:
    if connection is None:
        return False
    try:
        # Not by select: that does not take more than 1024 files.
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
