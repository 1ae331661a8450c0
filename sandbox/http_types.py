"""How a view controls the connection that it answers on."""

import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flask import Response, request

#: Key of the `ResponseControl` in the WSGI environment.
RESPONSE_CONTROL = "sandbox.control"

#: Interval of the check whether the client is still connected. Seconds.
CLIENT_CHECK_SECONDS = 0.1


@dataclass(frozen=True)
class ResponseBody:
    """A body that is sent in pieces. Its length may differ from the announced length."""

    pieces: Iterable[bytes]
    #: Value of Content-Length, in bytes. None sends no Content-Length and closes the connection.
    length: int | None
    #: True closes the connection after the body.
    close: bool = True


@dataclass
class ResponseControl:
    """Instructions of a view to the server.

    The server creates it and the view fills it in, because Flask copies the environment.
    """

    #: Sent instead of the response's own body.
    body: ResponseBody | None = None
    #: True closes the connection without an answer.
    close_without_answer: bool = False
    #: True when an earlier request came over the same connection.
    is_reused: bool = False
    #: Status of an interim answer that precedes the response.
    interim_status: int | None = None
    #: Time that the header takes, byte by byte. Seconds.
    header_seconds: float = 0.0
    #: Headers that are sent as they are, in Latin-1.
    raw_headers: Mapping[str, str] = field(default_factory=dict)


class ConnectionClosedError(Exception):
    """A request that gets no answer."""


def stream_answer(body: ResponseBody, content_type: str) -> Response:
    """Return a 200 response with this body."""
    request.environ[RESPONSE_CONTROL].body = body
    return Response(content_type=content_type)


def send_interim(status: int) -> None:
    """Send an interim answer with this status before the answer."""
    request.environ[RESPONSE_CONTROL].interim_status = status


def send_raw_header(name: str, value: str) -> None:
    """Send a header that Flask would correct. Its characters are bytes in Latin-1."""
    request.environ[RESPONSE_CONTROL].raw_headers = {name: value}


def send_header_slowly(seconds: float) -> None:
    """Send the header of the answer byte by byte in this time."""
    request.environ[RESPONSE_CONTROL].header_seconds = seconds


def is_reused_connection() -> bool:
    """Return True when an earlier request came over the same connection."""
    return bool(request.environ[RESPONSE_CONTROL].is_reused)


def close_without_answer() -> Response:
    """Close the connection without an answer."""
    request.environ[RESPONSE_CONTROL].close_without_answer = True
    return Response()


def wait_for_client(seconds: float, stopping: threading.Event) -> bool:
    """Wait before the answer.

    Returns:
        False when the client disconnected or the sandbox stops. The wait ends at that moment.
    """
    connection = request.environ.get("werkzeug.socket")
    end = time.monotonic() + seconds
    while (remaining := end - time.monotonic()) > 0:
        if stopping.wait(min(remaining, CLIENT_CHECK_SECONDS)) or _is_disconnected(connection):
            return False
    return True


def _is_disconnected(connection: socket.socket | None) -> bool:
    if connection is None:
        return False
    try:
        # select() fails for file descriptors above 1024, so the check peeks at the socket.
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
