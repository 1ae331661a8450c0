"""Starts a hand-written WSGI application in granian, with as many processes as the product."""

from __future__ import annotations

import sys

from orchestrator.cli.ports import free_port
from orchestrator.cli.processes import DEFAULTS
from orchestrator.cli.stack import Stack
from webhooks.connection import MAX_CONNECTIONS

#: Threads of each web process.
THREADS = 8


def start(stack: Stack, application: str) -> int:
    """Start an application of `benchmarks` in the environment of a stack. Return its port."""
    port = free_port()
    options = {
        "--interface": "wsgi",
        "--blocking-threads": THREADS,
        "--http": "1",
        "--host": "127.0.0.1",
        "--port": port,
        "--workers": stack.env.get("WEB_CONCURRENCY") or DEFAULTS["WEB_CONCURRENCY"],
        "--backlog": MAX_CONNECTIONS,
        "--backpressure": MAX_CONNECTIONS,
    }
    pairs = [str(part) for option in options.items() for part in option]
    target = f"benchmarks.{application}:app"
    stack.start(application, [sys.executable, "-m", "granian", *pairs, "--no-ws", target])
    stack.wait_for(application, f"http://127.0.0.1:{port}/static/none", status=404)
    return port
