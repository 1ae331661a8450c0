"""The watch of the event loop of a web process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import closing
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from tests.support.fakes import environment
from webhooks import loop_watch
from webhooks.loop_watch import MAX_UNANSWERED, LoopWatch

#: The application of a web process. Its event loop stands still when it has started.
STUCK = """
import asyncio, threading
from webhooks import loop_watch
loop_watch.CHECK_SECONDS = 0.1
from webhooks.server import app

async def receive():
    return {}

async def send(message):
    threading.Event().wait()

asyncio.run(app({"type": "lifespan"}, receive, send))
"""


@pytest.mark.server
def test_a_process_whose_event_loop_stands_still_says_where_and_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nowhere = "http://127.0.0.1:1"
    environment(monkeypatch, nowhere, ORCHESTRATOR_REDIS_URL="redis://127.0.0.1:1/0")
    command = [sys.executable, "-P", "-c", STUCK]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    [line] = [line for line in ran.stderr.splitlines() if "process_stuck" in line]
    assert (ran.returncode, "in send" in line) == (1, True)


def test_only_a_loop_that_never_answers_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[int] = []
    monkeypatch.setattr(loop_watch, "os", SimpleNamespace(_exit=ends.append))
    with closing(asyncio.new_event_loop()) as loop, capture_logs() as lines:
        watch = LoopWatch(loop)
        for _ in range(3):  # it goes on together with the log, as after a pipe was full
            for _ in range(MAX_UNANSWERED + 1):
                watch.check()
            loop.run_until_complete(asyncio.sleep(0))
        assert ([line["event"] for line in lines], ends) == (["process_stuck"] * 3, [])

        for _ in range(MAX_UNANSWERED + 2):
            watch.check()
        assert ends == [1]
