"""Logs: one line per event with job id, provider and attempt. JSON when stderr is not a terminal.

Event names are in the past tense (`job_settled`). The field `reason` holds the cause. No secret is
ever passed in: no API key, no token, no callback URL, no prompt.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from time import monotonic
from typing import Any

import orjson
import structlog

from orchestrator.forks import renew_in_children
from orchestrator.plain_text import escaped, escaped_json, masked

#: The most log lines of one kind per second.
MAX_LINES_PER_SECOND = 5


class _Lines:
    """Writes each line to stderr in one system call, without a lock between threads."""

    def __init__(self, *_: Any) -> None:
        """Ignore the logger's name."""

    def msg(self, line: bytes) -> None:
        """Write one line. A closed stderr loses it."""
        with suppress(OSError):
            os.write(2, line + b"\n")

    debug = info = warning = error = exception = critical = msg


def configure(level: int = logging.INFO) -> None:
    """Set up the logs of this process: to stderr, coloured on a terminal."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        _stamp,
    ]
    if sys.stderr.isatty():
        factory: Any = structlog.PrintLoggerFactory(sys.stderr)
        renderer: Any = _console_renderer
    else:
        factory = _Lines
        renderer = structlog.processors.JSONRenderer(serializer=_dump)
    _configure_libraries(shared)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    _bound.cache_clear()


def _configure_libraries(shared: list[Any]) -> None:
    """Write the warnings of libraries in the same form."""
    last: Any = structlog.processors.JSONRenderer(serializer=lambda e, **_: _dump(e).decode())
    if sys.stderr.isatty():
        last = _console_renderer
    handler = logging.StreamHandler()
    handler.addFilter(_without_body)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def get() -> Any:
    """Return the process's logger, or the standard logger `orchestrator` in another program."""
    return _bound() if structlog.is_configured() else _AS_LIBRARY


def reset() -> None:
    """Undo `configure`."""
    structlog.reset_defaults()
    _bound.cache_clear()


@cache
def _bound() -> Any:
    return structlog.get_logger().bind()


class RateLimitedLog:
    """Logs an event that outsiders can cause: a few lines per second of each kind, then a count.

    The line `<event>_unlogged` reports the other events within a second. `counts` holds all events.

    Args:
        event: the name of the event.
        max_lines: lines of one kind per second.
    """

    def __init__(
        self,
        event: str,
        max_lines: int = MAX_LINES_PER_SECOND,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._event = event
        self._max_lines = max_lines
        self._clock = clock
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without unlogged events, also in the child of a fork: its parent logs them."""
        self._lock = threading.Lock()
        self._second_start = self._clock()
        self._seen: Counter[str] = Counter()
        self._unlogged: Counter[str] = Counter()
        self._timer: threading.Timer | None = None

    def warning(self, kind: str, **fields: Any) -> None:
        """Log the event. There are few kinds, and outsiders cannot choose them."""
        with self._lock:
            self.counts[kind] += 1
            if self._clock() - self._second_start >= 1:
                self._second_start = self._clock()
                self._seen.clear()
            self._seen[kind] += 1
            if self._seen[kind] > self._max_lines:
                self._unlogged[kind] += 1
                self._flush_soon()
                return
        get().warning(self._event, **fields)

    def flush(self) -> None:
        """Log the counts of the events that were not logged."""
        with self._lock:
            unlogged, self._unlogged, self._timer = self._unlogged, Counter(), None
        for kind, number in unlogged.items():
            get().warning(f"{self._event}_unlogged", kind=kind, number=number)

    def _flush_soon(self) -> None:
        if self._timer is None:
            timer = threading.Timer(1.0, self.flush)
            timer.daemon = True
            try:
                timer.start()
            except RuntimeError:
                return  # there are too many threads; the next event tries again
            self._timer = timer
            atexit.unregister(self.flush)
            atexit.register(self.flush)


def _stamp(_: Any, __: str, event: Any) -> Any:
    event["timestamp"] = datetime.now(UTC)
    return event


def _dump(event: Any, default: Any = repr, **_: Any) -> bytes:
    # A dataclass is written as its repr, which leaves out prompts and secrets.
    options = orjson.OPT_UTC_Z | orjson.OPT_PASSTHROUGH_DATACLASS
    line = orjson.dumps(event, default=default, option=options).decode()
    return escaped_json(masked(line)).encode()


def _console_renderer(logger: Any, name: str, event: Any) -> str:
    """Return a line for a terminal. A traceback has no values of variables: they hold secrets."""
    return str(_COLOURED(logger, name, {key: _printable(value) for key, value in event.items()}))


def _printable(value: Any) -> Any:
    if isinstance(value, bool | int | float | None):
        return value
    return escaped(masked(str(value)), keep="\n")


def _without_body(record: logging.LogRecord) -> bool:
    """Shorten a line of Celery that repeats a whole message, because its body may hold prompts."""
    template = str(record.msg)
    if record.name.startswith("celery.worker") and "body" in template:
        cause = record.args[0] if isinstance(record.args, tuple) and record.args else None
        named = f" ({type(cause).__name__})" if isinstance(cause, Exception) else ""
        record.msg = f"{template.partition('%')[0].partition('.')[0].strip(': ')}{named}"
        record.args, record.exc_info = (), None
    return True


#: A plain traceback: structlog's own one shows the values of all variables when rich is installed.
_COLOURED = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


_AS_LIBRARY = structlog.wrap_logger(
    logging.getLogger("orchestrator"),
    processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
    wrapper_class=structlog.stdlib.BoundLogger,
)
