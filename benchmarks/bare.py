"""Starts a hand-written WSGI application as the web server of the Procfile starts the product."""

from __future__ import annotations

from orchestrator.cli.stack import Stack, free_port, procfile

#: Threads of each web process.
THREADS = 8


def start(stack: Stack, application: str) -> int:
    """Start an application of `benchmarks` in the environment of a stack. Return its port."""
    port = free_port()
    command = procfile()["web"].replace("webhooks.server:app", f"benchmarks.{application}:app")
    command = command.replace("--interface rsgi", f"--interface wsgi --blocking-threads {THREADS}")
    stack.start(application, ["/bin/sh", "-c", f"PORT={port}; exec {command}"])
    stack.wait_for(application, f"http://127.0.0.1:{port}/static/none", status=404)
    return port
