"""What the sandbox's tests work with: a client, a callback receiver, a movable clock."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, TypeVar

import requests

KEY = "test-key"
SECRET = "whsec_0123456789abcdef"
PAYLOADS = Path(__file__).parent / "payloads"

#: by provider: where it takes submissions, the model asked for, and whether options go into `input`
SUBMIT = {
    "hiapi": ("/v1/tasks", "Nano-Banana-2", True),
    "evolink": ("/v1/images/generations", "nano-banana-2-lite", False),
    "uniall": ("/v1/images/tasks", "NanoBanana2-1K", False),
    "aigptimage": ("/api/v1/jobs/createTask", "nano-banana-2-text-to-image", True),
}
#: by provider: where it shows a task, up to the task's id
QUERY = {
    "hiapi": "/v1/tasks/",
    "evolink": "/v1/tasks/",
    "uniall": "/v1/images/tasks/",
    "aigptimage": "/api/v1/jobs/recordInfo?taskId=",
}

#: seconds; only a broken sandbox waits so long
PATIENCE = 10.0

T = TypeVar("T")


def wait_until(look: Callable[[], T]) -> T:
    """Look until what is seen is true, and return it."""
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not (seen := look()):
        assert time.monotonic() < deadline, "waited in vain"
        pause.wait(0.005)
    return seen


@dataclass
class Clock:
    """The real time, moved forward at will."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass(frozen=True)
class Received:
    """One callback as it came in."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float


@dataclass
class Receiver:
    """A callback receiver: answers 200, or with the statuses it was told, in order."""

    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    #: when set, each request waits here before it is answered
    gate: threading.Barrier | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str = "/callbacks/hiapi/job_1.1/AbCdEf") -> str:
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def wait_for(self, count: int) -> list[Received]:
        """Everything received, once it is at least so much."""
        wait_until(lambda: len(self.received) >= count)
        return list(self.received)

    def _take(self, received: Received) -> int:
        with self._lock:
            self.received.append(received)
            return self.answers.pop(0) if self.answers else 200

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = dict(self.headers.items())
                if receiver.gate is not None:
                    receiver.gate.wait(PATIENCE)
                status = receiver._take(Received(self.path, headers, body, time.time()))
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@dataclass
class Client:
    """Talks to one sandbox over HTTP."""

    url: str
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {KEY}"

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=PATIENCE, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.session.post(self.url + path, timeout=PATIENCE, **options)

    def put(self, path: str, **options: Any) -> requests.Response:
        return self.session.put(self.url + path, timeout=PATIENCE, **options)

    def delete(self, path: str) -> requests.Response:
        return self.session.delete(self.url + path, timeout=PATIENCE)

    def submit(
        self,
        provider: str,
        prompt: str = "A red cube",
        callback: str | None = None,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> requests.Response:
        """Submit to any provider by the same words; `fields` go where its options go."""
        path, model, nested = SUBMIT[provider]
        given: dict[str, Any] = {"prompt": prompt, **fields}
        body = {"model": model, "input": given} if nested else {"model": model, **given}
        if callback is not None and provider == "hiapi":
            body["callback"] = {"url": callback, "when": "final"}
        elif callback is not None:
            body["callback_url"] = callback
        return self.post(f"/{provider}{path}", json=body, headers=headers)

    def submitted(self, provider: str, prompt: str = "A red cube", **options: Any) -> str:
        """Submit and return the provider's task id."""
        answer = self.submit(provider, prompt, **options)
        assert answer.status_code == 200, answer.text
        return task_id(answer)

    def query(self, provider: str, task: str) -> dict[str, Any]:
        """The task as a query shows it, without the envelope."""
        answer = self.get(f"/{provider}{QUERY[provider]}{task}")
        assert answer.status_code == 200, answer.text
        seen: dict[str, Any] = answer.json()
        return seen if provider == "evolink" else seen["data"]

    def finished(self, provider: str, task: str) -> dict[str, Any]:
        """The task once it is terminal."""
        ends = {"success", "fail", "completed", "succeeded", "failed", "cancelled"}
        return (
            wait_until(lambda: seen if state(seen := self.query(provider, task)) in ends else None)
            or {}
        )

    def tasks(self, **query: str) -> list[dict[str, Any]]:
        """What the control API knows of every task."""
        seen: list[dict[str, Any]] = self.get("/control/tasks", params=query).json()
        return seen

    def task(self, task: str) -> dict[str, Any]:
        """What the control API knows of one task."""
        return next(seen for seen in self.tasks() if seen["id"] == task)

    def callbacks(self, task: str, count: int) -> list[dict[str, Any]]:
        """The callbacks sent for a task, once there are so many."""
        wait_until(lambda: len(self.task(task)["callbacks"]) >= count)
        sent: list[dict[str, Any]] = self.task(task)["callbacks"]
        return sent


def task_id(answer: requests.Response) -> str:
    """The task's id in any provider's submit answer."""
    body = answer.json()
    if "data" in body:
        return str(body["data"]["taskId"])
    return str(body["id"] if "id" in body else body["task_id"])


def state(seen: Mapping[str, Any]) -> str:
    """The status in any provider's task, in that provider's word."""
    return str(seen["state"] if "state" in seen else seen["status"])


def links(seen: Mapping[str, Any]) -> list[str]:
    """The image links in any provider's task."""
    if "output" in seen:
        return [output["url"] for output in seen["output"]]
    if "resultJson" in seen:
        return list(json.loads(seen["resultJson"])["resultUrls"])
    if "result_url" in seen:
        return list(seen["metadata"].get("result_urls", filter(None, [seen["result_url"]])))
    return list(seen.get("results", []))
