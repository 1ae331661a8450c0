"""Measures the time from the callback to the notification.

One job runs at a time on an idle machine. The time starts with the first byte of a signed callback,
and ends with the arrival of the notification at another port. Goal: 99 of 100 within 50 ms.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import perf_counter

import requests

from benchmarks.origin import picture
from benchmarks.report import Report
from orchestrator.callbacks.address import CallbackAddress
from orchestrator.cli.stack import Stack
from orchestrator.clock import now_ms
from orchestrator.jobs.model import Step
from orchestrator.jobs.request import JobRequest
from orchestrator.jsonio import dump
from orchestrator.ledger import Ledger
from orchestrator.settings.settings import Settings

GOAL = 50.0
JOBS = 400
#: The first jobs are not counted, because they meet cold processes.
WARM_UP = 20


class _Caller:
    """The receiver of the notification, and the host of the image."""

    def __init__(self) -> None:
        self.notified_at = 0.0
        self.notified = threading.Event()
        self.url = ""


@contextmanager
def _caller() -> Iterator[_Caller]:
    caller, image = _Caller(), picture("JPEG")

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            caller.notified_at = perf_counter()
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(204, b"")
            caller.notified.set()

        def do_GET(self) -> None:
            self._answer(200, image)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        caller.url = f"http://127.0.0.1:{server.server_port}"
        yield caller
        server.shutdown()


def run() -> Report:
    """Measure the percentiles."""
    with Stack() as stack, _caller() as caller, requests.Session() as provider:
        ledger = Ledger.from_url(stack.env["ORCHESTRATOR_REDIS_URL"])
        os.environ.update({k: v for k, v in stack.env.items() if k.startswith("ORCHESTRATOR_")})
        settings = Settings.from_env()
        times = [_one(ledger, settings, caller, provider) for _ in range(WARM_UP + JOBS)][WARM_UP:]
    times.sort()
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    report = Report("notify", f"{JOBS} jobs, one at a time, from the callback to the notification")
    report.add("time", "ms", {"p50": [p50], "p99": [p99], "longest": [times[-1]]})
    report.goal("p99 in ms:", p99, GOAL, at_least=False)
    return report


def _one(ledger: Ledger, settings: Settings, caller: _Caller, provider: requests.Session) -> float:
    """Return the time of one job in ms, after its image is archived."""
    job_id, url = _running(ledger, settings, caller)
    caller.notified.clear()
    began = perf_counter()
    provider.post(url, data=_body(f"task-{job_id}", caller), timeout=10)
    assert caller.notified.wait(10), "no notification"
    while not (job := ledger.get(job_id)) or not job.done:
        pass
    return (caller.notified_at - began) * 1000


def _running(ledger: Ledger, settings: Settings, caller: _Caller) -> tuple[str, str]:
    """Create a job that waits for its callback. Return it with its callback URL."""
    now = now_ms()
    wanted = JobRequest(
        "evolink",
        "nano-banana-2-lite",
        {"prompt": "A lighthouse at dusk"},
        notify_url=f"{caller.url}/notify",
    )
    job_id = ledger.create(wanted, now=now, deadline_at=now + 3_600_000).job_id
    ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=60_000)
    ledger.accepted(job_id, 1, f"task-{job_id}", now=now, due_at=now + 3_600_000)
    return job_id, CallbackAddress("evolink", job_id, 1).url(settings)


def _body(task_id: str, caller: _Caller) -> bytes:
    """Return a callback in the form of EvoLink."""
    task = {
        "id": task_id,
        "model": "nano-banana-2-lite",
        "object": "image.generation.task",
        "progress": 100,
        "results": [f"{caller.url}/image.jpg"],
        "status": "completed",
        "type": "image",
    }
    return dump(task)
