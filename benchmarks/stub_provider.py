"""A fast provider in a process of its own: `python -m benchmarks.stub_provider PORT`.

It speaks the forms of EvoLink and HiAPI. A task costs it about 0.1 ms of CPU. It calls back over
kept connections, and repeats a callback until it is accepted.

POST /control sets how it behaves from now on (`Behaviour`). GET /figures tells what happened.
GET /paid tells how often each prompt was paid.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from PIL import Image

from benchmarks.processes import Processes, wait_for
from orchestrator.cli.ports import free_port

#: Connections for callbacks to one port.
CALLBACK_CONNECTIONS = 32
#: The wait before a callback is repeated. Seconds.
REPEAT_SECONDS = 0.25
#: The side of the image. Pixels.
SIDE = 64


@dataclass
class Behaviour:
    """What the provider does.

    Attributes:
        latency_seconds: from the whole request of a submission to its answer.
        task_seconds: from this answer to the callback.
        callbacks: whether tasks end, with a callback.
        images: whether a task succeeds with an image. Otherwise it fails for its content.
    """

    latency_seconds: float = 0.0
    task_seconds: float = 0.0
    callbacks: bool = True
    images: bool = False


@dataclass
class Figures:
    """What has happened since the start.

    Attributes:
        submissions: arrived submissions.
        answered: submissions that were answered.
        accepted_callbacks: callbacks that were answered with 2xx.
        repeated_callbacks: callbacks that were not, and are repeated.
        notifications: messages to /notify.
        downloads: images that were sent.
        queries: queries of tasks, which are answered in the form of HiAPI.
    """

    submissions: int = 0
    queries: int = 0
    answered: int = 0
    accepted_callbacks: int = 0
    repeated_callbacks: int = 0
    notifications: int = 0
    downloads: int = 0


@dataclass(frozen=True)
class Form:
    """The documents of one provider.

    Attributes:
        read: returns the prompt and the callback URL of a submission.
        accepted: returns the answer to it, with the id of the task.
        ended: returns the callback. With an image the task succeeded; else its prompt was refused.
    """

    read: Callable[[dict[str, Any]], tuple[str, str]]
    accepted: Callable[[str], dict[str, Any]]
    ended: Callable[[str, str | None], dict[str, Any]]


def _evolink_task(task_id: str, status: str, **more: object) -> dict[str, Any]:
    return {
        "created": 1757165031,
        "id": task_id,
        "model": "nano-banana-2-lite",
        "object": "image.generation.task",
        "progress": 0,
        "status": status,
        "task_info": {"can_cancel": False, "estimated_time": 30},
        "type": "image",
        "usage": {"billing_rule": "per_call", "credits_reserved": 1.6, "user_group": "default"},
        **more,
    }


def _evolink_ended(task_id: str, image: str | None) -> dict[str, Any]:
    if image:
        return _evolink_task(task_id, "completed", results=[image])
    error = {"code": "content_policy_violation", "message": "The prompt was refused."}
    return _evolink_task(task_id, "failed", error=error)


def _hiapi_ended(task_id: str, image: str | None) -> dict[str, Any]:
    if image:
        return {"taskId": task_id, "status": "success", "output": [{"url": image, "type": "image"}]}
    error = {"code": "TASK_FAILED", "message": "The prompt was refused."}
    return {"taskId": task_id, "status": "fail", "error": error}


#: By the path of a submission. EvoLink has no idempotency keys. HiAPI has.
FORMS = {
    b"/v1/images/generations": Form(
        lambda request: (request["prompt"], request.get("callback_url", "")),
        lambda task_id: _evolink_task(task_id, "pending"),
        _evolink_ended,
    ),
    b"/v1/tasks": Form(
        lambda request: (request["input"]["prompt"], request.get("callback", {}).get("url", "")),
        lambda task_id: {"code": 200, "message": "success", "data": {"taskId": task_id}},
        _hiapi_ended,
    ),
}


class Provider:
    """The provider as another process sees it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def behave(self, behaviour: Behaviour) -> None:
        """Set the behaviour."""
        requests.post(f"{self.url}/control", json=asdict(behaviour), timeout=10)

    def figures(self) -> Figures:
        """Return what has happened since the start."""
        return Figures(**requests.get(f"{self.url}/figures", timeout=10).json())

    def paid(self) -> dict[str, int]:
        """Return how often each prompt was paid."""
        answer: dict[str, int] = requests.get(f"{self.url}/paid", timeout=10).json()
        return answer


@contextmanager
def running(folder: Path) -> Iterator[tuple[Provider, int]]:
    """Run the provider. Yield it with its process id."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.stub_provider", str(port)]
    with Processes(folder) as processes:
        started = processes.start("provider", command)
        provider = Provider(port)
        wait_for("the stub provider", lambda: _answers(provider))
        yield provider, started.pid


def _answers(provider: Provider) -> bool:
    try:
        return provider.figures().submissions == 0
    except requests.RequestException:
        return False


class _Server:
    """The state of the provider."""

    def __init__(self, port: int) -> None:
        self.behaviour, self.figures = Behaviour(), Figures()
        self.paid: Counter[str] = Counter()
        self.image = _picture()
        self._port = port
        self._callers: dict[int, _Caller] = {}

    def submitted(self, form: Form, body: bytes, connection: _Connection) -> None:
        """Accept a task. Answer, and then call back."""
        prompt, callback_url = form.read(json.loads(body))
        self.paid[prompt] += 1
        self.figures.submissions += 1
        task = _Task(form, f"task-{self.figures.submissions:012}", callback_url)
        _later(self.behaviour.latency_seconds, self._accepted, task, connection)

    def _accepted(self, task: _Task, connection: _Connection) -> None:
        self.figures.answered += 1
        connection.answer(_document(task.form.accepted(task.id)))
        if self.behaviour.callbacks and task.callback_url:
            _later(self.behaviour.task_seconds, self._call_back, task)

    def _call_back(self, task: _Task) -> None:
        image = f"http://127.0.0.1:{self._port}/images/{task.id}.png"
        ended = task.form.ended(task.id, image if self.behaviour.images else None)
        url = urlsplit(task.callback_url)
        assert url.port
        caller = self._callers.setdefault(url.port, _Caller(url.port, self.figures))
        caller.send(_post(url.path, _document(ended)))


@dataclass(frozen=True)
class _Task:
    form: Form
    id: str
    callback_url: str


def _later(seconds: float, do: Callable[..., None], *arguments: object) -> None:
    """Call a function after some time, or at once."""
    if seconds:
        asyncio.get_running_loop().call_later(seconds, do, *arguments)
    else:
        do(*arguments)


class _Connection(asyncio.Protocol):
    """One connection of a client. Requests are answered in their order."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, rest = self._got.partition(b"\r\n\r\n")
        length = _content_length(head)
        if found and len(rest) >= length:
            self._got = rest[length:]
            self._handle(head, rest[:length])

    def _handle(self, head: bytes, body: bytes) -> None:
        server = self._server
        method, path, _ = head.split(b" ", 2)
        if path in FORMS:
            server.submitted(FORMS[path], body, self)
        elif path.startswith(b"/images/"):
            server.figures.downloads += 1
            self.answer(server.image, b"image/png")
        elif path.startswith(b"/v1/tasks/"):
            server.figures.queries += 1
            task = _hiapi_ended(path.rpartition(b"/")[2].decode(), None)
            self.answer(_document({"code": 200, "message": "success", "data": task}))
        elif path == b"/notify":
            server.figures.notifications += 1
            self.answer(b"{}")
        elif path == b"/control" and method == b"POST":
            server.behaviour = Behaviour(**json.loads(body))
            self.answer(b"{}")
        else:
            self.answer(_document(server.paid if path == b"/paid" else asdict(server.figures)))

    def answer(self, body: bytes, kind: bytes = b"application/json") -> None:
        """Send a whole answer, unless the client has gone."""
        if not self._transport.is_closing():
            head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
            self._transport.write(head % (kind, len(body)) + body)


class _Caller:
    """Sends callbacks to one port over kept connections."""

    def __init__(self, port: int, figures: Figures) -> None:
        self._port, self._figures = port, figures
        self._waiting: deque[bytes] = deque()
        self._idle: list[_CallbackConnection] = []
        self._open = 0

    def send(self, message: bytes) -> None:
        """Send a callback as soon as a connection is free."""
        self._waiting.append(message)
        if self._idle:
            self._idle.pop().send(self._waiting.popleft())
        elif self._open < CALLBACK_CONNECTIONS:
            self._open += 1
            asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.create_connection(
                    lambda: _CallbackConnection(self), "127.0.0.1", self._port
                )
            except OSError:
                await asyncio.sleep(REPEAT_SECONDS)
            else:
                return

    def free(self, connection: _CallbackConnection) -> None:
        """Use a connection for the next callback."""
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def answered(self, message: bytes, status: int) -> None:
        """Count an answer. Repeat the callback unless it was accepted."""
        if 200 <= status < 300:
            self._figures.accepted_callbacks += 1
        else:
            self._repeat(message)

    def lost(self, connection: _CallbackConnection, message: bytes | None) -> None:
        """Forget a closed connection. Repeat the callback that it carried."""
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if message is not None:
            self._repeat(message)

    def _repeat(self, message: bytes) -> None:
        self._figures.repeated_callbacks += 1
        asyncio.get_running_loop().call_later(REPEAT_SECONDS, self.send, message)


class _CallbackConnection(asyncio.Protocol):
    def __init__(self, caller: _Caller) -> None:
        self._caller = caller
        self._message: bytes | None = None
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._caller.free(self)

    def send(self, message: bytes) -> None:
        self._message = message
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, rest = self._got.partition(b"\r\n\r\n")
        if not found or self._message is None or not _complete(head, rest):
            return
        message, self._message, self._got = self._message, None, b""
        self._caller.answered(message, int(head[9:12]))
        self._caller.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._caller.lost(self, self._message)


def _complete(head: bytes, rest: bytes) -> bool:
    """Return whether an answer is whole. Its body has a length, is chunked, or is absent."""
    if b"transfer-encoding: chunked" in head.lower():
        return rest.endswith(b"0\r\n\r\n")
    return len(rest) >= _content_length(head)


def _content_length(head: bytes) -> int:
    found = head.lower().partition(b"content-length:")[2]
    return int(found.partition(b"\r")[0] or 0)


def _post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _document(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _picture() -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB").save(out, "PNG")
    return out.getvalue()


async def _serve(port: int) -> None:
    state = _Server(port)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(state), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
