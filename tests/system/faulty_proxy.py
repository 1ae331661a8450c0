"""An HTTP proxy between a client and us that loses, refuses and cuts what a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from enum import Enum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

import requests

#: Headers that the proxy writes itself.
_OWN_HEADERS = ("connection", "content-length", "transfer-encoding", "host")


class Fault(Enum):
    """What happens to a request."""

    #: It is answered 429, and we never get it.
    REFUSED_429 = 429
    #: It is answered 503, and we never get it.
    REFUSED_503 = 503
    #: The connection ends when the provider has the task, and nobody answers.
    CUT_IN_MID_WAIT = "cut in mid wait"
    #: The connection ends in the place of our answer.
    ANSWER_LOST = "answer lost"
    #: Our answer is replaced by 500.
    ANSWERED_500 = 500


class FaultyProxy(AbstractContextManager["FaultyProxy"]):
    """Passes requests on to `target`.

    Args:
        target: our URL.
        has_task: returns whether the provider has a task for a prompt.
    """

    def __init__(self, target: str, has_task: Callable[[str], bool]) -> None:
        self._target = target
        self._has_task = has_task
        self._plans: dict[str, list[Fault]] = {}
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                proxy._serve(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def plan(self, prompt: str, faults: Sequence[Fault]) -> None:
        """Say what happens to the first requests with a prompt. Further ones are passed on."""
        self._plans[prompt] = list(faults)

    def left(self, prompt: str) -> list[Fault]:
        """Return the faults that have not happened."""
        return self._plans[prompt]

    def _next(self, body: bytes) -> tuple[str, Fault | None]:
        with self._lock:
            [prompt] = [each for each in self._plans if each.encode() in body]
            faults = self._plans[prompt]
            return prompt, faults.pop(0) if faults else None

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        prompt, fault = self._next(body)
        if fault in (Fault.REFUSED_429, Fault.REFUSED_503):
            _answer(handler, int(fault.value), {"Retry-After": "1"}, b"{}")
            return
        headers = {n: v for n, v in handler.headers.items() if n.lower() not in _OWN_HEADERS}
        url = f"{self._target}{handler.path}"
        if fault is Fault.CUT_IN_MID_WAIT:
            self._leave_early(handler.path, headers, body, prompt)
            handler.close_connection = True
            return
        reply = requests.post(url, headers=headers, data=body, timeout=300)
        if fault is Fault.ANSWER_LOST:
            handler.close_connection = True
        elif fault is Fault.ANSWERED_500:
            _answer(handler, 500, {}, b"{}")
        else:
            _answer(handler, reply.status_code, dict(reply.headers), reply.content)

    def _leave_early(self, path: str, headers: dict[str, str], body: bytes, prompt: str) -> None:
        """Send a request, and end its connection when the provider has the task."""
        tick = threading.Event()
        with closing(HTTPConnection(urlsplit(self._target).netloc, timeout=300)) as connection:
            connection.request("POST", path, body, headers)
            while not self._has_task(prompt):
                tick.wait(0.02)


def _answer(
    handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        if name.lower() not in _OWN_HEADERS:
            handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
