"""Helpers of the sandbox's tests: a client, a receiver of callbacks and a movable clock."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import requests

from sandbox.faults import Faults
from sandbox.registry import PROVIDERS
from sandbox.state import SandboxState
from sandbox.tasks import Task, TaskCharge

KEY = "test-key"
HIAPI_SECRET = "whsec_0123456789abcdef"
PAYLOADS = Path(__file__).parent / "payloads"

EMULATED = {provider.name: provider for provider in PROVIDERS}
#: Those whose query shows the whole task. The others have tests of their own.
EVERY_PROVIDER = [name for name, each in EMULATED.items() if not each.queries_status]

#: How long a test waits for a condition. Only a broken sandbox needs so long. Seconds.
TIMEOUT_SECONDS = 60.0

T = TypeVar("T")


def wait_until(condition: Callable[[], T]) -> T:
    """Wait until the condition is true, and return its value."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not become true"
        pause.wait(0.005)
    return value


def connection_threads() -> set[threading.Thread]:
    """The threads that serve a connection of a sandbox in this process."""
    return {thread for thread in threading.enumerate() if "process_request" in thread.name}


@dataclass
class MovableClock:
    """The real time plus `ahead` seconds."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass(frozen=True)
class ReceivedCallback:
    """One callback that was received."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float


@dataclass
class CallbackReceiver:
    """A receiver of callbacks. It answers with `answers` in order, and then with 200."""

    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    received: list[ReceivedCallback] = field(default_factory=list)
    #: If set, every request waits here before its answer.
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

    def wait_for(self, count: int) -> list[ReceivedCallback]:
        """Wait for this number of callbacks and return all of them."""
        wait_until(lambda: len(self.received) >= count)
        return list(self.received)

    def _take(self, callback: ReceivedCallback) -> int:
        with self._lock:
            self.received.append(callback)
            return self.answers.pop(0) if self.answers else 200

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class CallbackRequestHandler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = dict(self.headers.items())
                if receiver.gate is not None:
                    receiver.gate.wait(TIMEOUT_SECONDS)
                status = receiver._take(ReceivedCallback(self.path, headers, body, time.time()))
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        return CallbackRequestHandler


@dataclass
class SandboxClient:
    """A client of one sandbox over HTTP."""

    url: str
    #: The state of the sandbox, when it runs in this process.
    state: SandboxState | None = None
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {KEY}"

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, self.url + path, timeout=TIMEOUT_SECONDS, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> requests.Response:
        return self.request("PUT", path, **options)

    def delete(self, path: str) -> requests.Response:
        return self.request("DELETE", path)

    def fetch(self, link: str, method: str = "GET", **options: Any) -> requests.Response:
        """Request an image link on its own connection, because the sandbox may close it."""
        options["headers"] = {"Connection": "close", **options.get("headers", {})}
        return self.session.request(method, link, timeout=TIMEOUT_SECONDS, **options)

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection of its own."""
        parts = urlsplit(self.url)
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)

    @contextmanager
    def open_submission(
        self, provider: str, prompt: str, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPConnection]:
        """Send a submission and do not read its answer. Wait until its task exists."""
        path, body = submission(provider, prompt)
        connection = self.connect()
        own = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), {**own, **(headers or {})})
        try:
            wait_until(self.tasks)
            yield connection
        finally:
            connection.close()

    def submit(
        self,
        provider: str,
        prompt: str = "A red cube",
        callback: str | None = None,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> requests.Response:
        """Submit to any provider. `fields` are its options."""
        path, body = submission(provider, prompt, callback, **fields)
        return self.post(path, json=body, headers=headers)

    def submitted(self, provider: str, prompt: str = "A red cube", **options: Any) -> str:
        """Submit and return the provider's task id."""
        answer = self.submit(provider, prompt, **options)
        assert answer.ok, answer.text
        return task_id(answer)

    def query(self, provider: str, task: str) -> dict[str, Any]:
        """Return the task as a query shows it, without the envelope."""
        answer = self.get(f"/{provider}{EMULATED[provider].query_path}{task}")
        assert answer.status_code == 200, answer.text
        view: dict[str, Any] = answer.json()
        shown: dict[str, Any] = view.get("data", view)
        return shown

    def finished(self, provider: str, task: str) -> dict[str, Any]:
        """Wait until the task is terminal and return it as a query shows it."""
        final = {"success", "fail", "completed", "succeeded", "failed", "cancelled", "canceled"}

        def view() -> dict[str, Any] | None:
            view = self.query(provider, task)
            return view if status(view) in final else None

        if self.state is not None:
            wait_until(partial(self._has_ended, self.state, task))
        return wait_until(view) or {}

    @staticmethod
    def _has_ended(state: SandboxState, task_id: str) -> bool:
        """Return whether a task has its outcome, or is forgotten. A query takes 20 times longer."""
        task = state.store.get(task_id)
        return task is None or task.outcome is not None

    def run(self, provider: str, prompt: str = "A red cube", **options: Any) -> dict[str, Any]:
        """Submit, wait for the end, and return the task as a query shows it."""
        return self.finished(provider, self.submitted(provider, prompt, **options))

    def tasks(self, **query: str) -> list[dict[str, Any]]:
        """Return every task as the control API shows it."""
        tasks: list[dict[str, Any]] = self.get("/control/tasks", params=query).json()
        return tasks

    def task(self, task: str) -> dict[str, Any]:
        """Return one task as the control API shows it."""
        return next(view for view in self.tasks() if view["id"] == task)

    def charged(self, provider: str) -> int:
        """Return the number of charged tasks."""
        return int(self.get("/control/ledger").json().get(provider, {"tasks": 0})["tasks"])

    def callbacks(self, task: str, count: int) -> list[dict[str, Any]]:
        """Wait for this number of callbacks of a task and return them."""
        wait_until(lambda: len(self.task(task)["callbacks"]) >= count)
        callbacks: list[dict[str, Any]] = self.task(task)["callbacks"]
        return callbacks


def submission(
    provider: str, prompt: str, callback: str | None = None, **fields: Any
) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of a submission."""
    emulated = EMULATED[provider]
    options: dict[str, Any] = {"prompt": prompt, **fields}
    nested = "input" in emulated.example
    body = {**emulated.example, **({"input": options} if nested else options)}
    if callback is not None:
        holder = body
        for name in emulated.callback_field[:-1]:
            holder = holder.setdefault(name, {})
        holder[(emulated.callback_field or ("callback_url",))[-1]] = callback
    return f"/{provider}{emulated.submit_path}", body


def task_id(answer: requests.Response) -> str:
    """Return the task id in any provider's submit answer."""
    body = answer.json()
    if "data" in body:
        return str(body["data"]["taskId"])
    return str(body["id"] if "id" in body else body["task_id"])


def status(view: Mapping[str, Any]) -> str:
    """Return the status in any provider's task, in that provider's words."""
    return str(view["state"] if "state" in view else view["status"])


def links(view: Mapping[str, Any]) -> list[str]:
    """Return the image links in any provider's task."""
    if "output" in view:
        outputs = [view["output"]] if isinstance(view["output"], str) else view["output"] or []
        return [each if isinstance(each, str) else each["url"] for each in outputs]
    if "resultJson" in view:
        return list(json.loads(view["resultJson"])["resultUrls"])
    if "result_url" in view:
        return list(view["metadata"].get("result_urls", filter(None, [view["result_url"]])))
    return list(view.get("results", []))


def stored_task(name: str, provider: str = "hiapi") -> Task:
    """Return a running task for a store."""
    return Task(
        id=name,
        provider=provider,
        model="x",
        prompt="x",
        callback_url=None,
        charge=TaskCharge(1.0, "credits"),
        pictures=(),
        link_base="",
        faults=Faults(),
        idempotency_key=None,
        created_at=0.0,
        run_seconds=1.0,
        link_ttl_seconds=1.0,
    )


def run_together(count: int, action: Callable[[int], None]) -> None:
    """Run an action in this number of threads at the same time."""
    threads = [threading.Thread(target=action, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
