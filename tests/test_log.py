"""An event that outsiders cause at will: few lines, and every one counted."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
import structlog

from orchestrator.log import MAX_LINES_PER_SECOND, RateLimitedLog
from tests.ledger import kit
from tests.support import fork_server
from tests.support.fakes import Clock

Lines = list[Any]


@pytest.fixture
def lines() -> Iterator[Lines]:
    with structlog.testing.capture_logs() as logs:
        yield logs


@pytest.fixture
def clock() -> Clock:
    return Clock(0)


@pytest.fixture
def flood(clock: Clock) -> Iterator[RateLimitedLog]:
    flood = RateLimitedLog("refused", clock=lambda: clock() / 1000)
    yield flood
    silence(flood)


def silence(flood: RateLimitedLog) -> None:
    """Let it tell nothing by itself any more."""
    if flood._timer:
        flood._timer.cancel()
    atexit.unregister(flood.flush)


def test_few_are_written_as_they_are(flood: RateLimitedLog, lines: Lines) -> None:
    flood.warning("404", provider="hiapi", why="not found")

    [line] = lines
    assert line == {
        "event": "refused",
        "log_level": "warning",
        "provider": "hiapi",
        "why": "not found",
    }


def test_many_are_written_as_few_lines_and_a_number(flood: RateLimitedLog, lines: Lines) -> None:
    for _ in range(1000):
        flood.warning("404")
    flood.flush()

    assert [line["event"] for line in lines] == ["refused"] * MAX_LINES_PER_SECOND + [
        "refused_unlogged"
    ]
    assert (lines[-1]["kind"], lines[-1]["number"]) == ("404", 1000 - MAX_LINES_PER_SECOND)


def test_one_kind_does_not_hide_another(flood: RateLimitedLog, lines: Lines) -> None:
    for _ in range(100):
        flood.warning("404")
    flood.warning("401", why="wrong")

    assert lines[-1]["why"] == "wrong"


def test_every_second_begins_anew(flood: RateLimitedLog, clock: Clock, lines: Lines) -> None:
    for _ in range(3):
        for _ in range(100):
            flood.warning("404")
        clock.forward(1)
    flood.flush()

    assert len(lines) == 3 * MAX_LINES_PER_SECOND + 1
    assert lines[-1]["number"] == 300 - 3 * MAX_LINES_PER_SECOND


def test_no_number_is_told_twice(flood: RateLimitedLog, lines: Lines) -> None:
    for _ in range(100):
        flood.warning("404")
    flood.flush()
    flood.flush()

    assert [line["event"] for line in lines].count("refused_unlogged") == 1


def test_the_number_is_told_by_itself(flood: RateLimitedLog, lines: Lines) -> None:
    for _ in range(MAX_LINES_PER_SECOND + 1):
        flood.warning("404")

    kit.eventually(lambda: any(line["event"] == "refused_unlogged" for line in lines))


def test_from_all_threads_none_is_lost(lines: Lines) -> None:
    flood = RateLimitedLog("refused")
    with ThreadPoolExecutor(8) as pool:
        for _ in range(4000):
            pool.submit(flood.warning, "404")
    silence(flood)
    flood.flush()

    written = [line["event"] for line in lines].count("refused")
    held = sum(line["number"] for line in lines if line["event"] == "refused_unlogged")
    assert flood.counts["404"] == written + held == 4000


# Secrets and text from outside -----------------------------------------------------------------

#: Writes lines with secrets in variables, and with text from outside.
PROGRAM = """
import logging
from orchestrator import log
from orchestrator.jobs.request import JobRequest
log.configure()
def fail(password, request):
    local_secret = "value-of-" + "a-variable"
    raise ValueError("the reason")
try:
    request = JobRequest("hiapi", "m", {"prompt": "prompt-of-" + "a-job"})
    fail("password-in-" + "an-argument", request)
except ValueError:
    log.get().exception("step_crashed", job="job_1")
    logging.getLogger("a.library").exception("library_crashed")
url = "redis://u:pass" + "word@h/0"
log.get().warning("refused", request=request, url=url)
log.get().warning("refused", reason="a\\x1b[2J\\u202e\\x9bb\\nforged")
logging.getLogger("a.library").warning("x\\x1b[2J at " + url)
template = "Received unregistered task of type %s.\\nThe message body was:\\n%s"
logging.getLogger("celery.worker.consumer.consumer").error(
    template, KeyError("a.task"), "prompt-of-" + "a-message"
)
"""
SECRETS = [
    "value-of-a-variable",
    "password-in-an-argument",
    "prompt-of-a-job",
    "prompt-of-a-message",
    "u:password",
]


def output(*, terminal: bool) -> str:
    """Return what the program writes to stderr."""
    reader, writer = os.openpty() if terminal else os.pipe()
    env = {**os.environ, "COLUMNS": "200"}
    process = fork_server.start(["-c", PROGRAM], environment=env, stderr=writer)
    os.close(writer)
    text = b""
    with suppress(OSError):  # the end of a terminal
        while data := os.read(reader, 65536):
            text += data
    os.close(reader)
    assert process.wait() == 0
    return text.decode()


@pytest.mark.server
@pytest.mark.parametrize("terminal", [True, False])
def test_no_line_shows_a_secret_or_controls_a_terminal(*, terminal: bool) -> None:
    text = output(terminal=terminal)

    assert [secret for secret in SECRETS if secret in text] == []
    for event in ("step_crashed", "library_crashed", "the reason", "refused", "unregistered task"):
        assert event in text
    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    assert "\x9b" not in text
    assert not any(line.startswith("forged") for line in text.splitlines())
