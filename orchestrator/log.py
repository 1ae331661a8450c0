"""Logs: one line per event, with job id, provider and attempt. JSON when nobody watches.

Events are named in the past tense (`job_settled`), so a search for a name finds every one. Nothing
secret is ever passed in: no API key, no token, no callback URL, no prompt.
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

#: How many lines of one kind a flood may write in a second.
FLOOD_LINES = 5


class _Lines:
    """Writes each line to standard error in one system call, without a lock between threads."""

    def __init__(self, *_: Any) -> None:
        """Standard error, whoever asks."""

    def msg(self, line: bytes) -> None:
        """Write one line; a standard error that is closed loses it."""
        with suppress(OSError):
            os.write(2, line + b"\n")

    debug = info = warning = error = exception = critical = msg


def configure(level: int = logging.INFO) -> None:
    """Set up structlog for this process: to standard error, coloured on a terminal."""
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        _stamp,
    ]
    if sys.stderr.isatty():
        factory: Any = structlog.PrintLoggerFactory(sys.stderr)
        renderer: Any = structlog.dev.ConsoleRenderer()
        shared.remove(structlog.processors.format_exc_info)
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
    """What libraries warn of, by the standard logging, in the same form."""
    last: Any = structlog.processors.JSONRenderer(serializer=lambda e, **_: _dump(e).decode())
    if sys.stderr.isatty():
        last = structlog.dev.ConsoleRenderer()
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def get() -> Any:
    """The process' logger; inside somebody else's process, the standard logger `orchestrator`."""
    return _bound() if structlog.is_configured() else _AS_LIBRARY


def reset() -> None:
    """Back to a library's logging, as before `configure`."""
    structlog.reset_defaults()
    _bound.cache_clear()


@cache
def _bound() -> Any:
    return structlog.get_logger().bind()


class Flood:
    """An event that outsiders can cause at will: a few lines a second of each kind, then a number.

    What is held back is told in one line, `<event>_unlogged`, within a second. `counts` has all.

    Args:
        event: its name.
        most: how many lines of a kind are written in a second.
    """

    def __init__(
        self, event: str, most: int = FLOOD_LINES, clock: Callable[[], float] = monotonic
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._event = event
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._seen: Counter[str] = Counter()
        self._unlogged: Counter[str] = Counter()
        self._timer: threading.Timer | None = None

    def warning(self, kind: str, **fields: Any) -> None:
        """It happened. Kinds are few, and ours."""
        with self._lock:
            self.counts[kind] += 1
            if self._clock() - self._began >= 1:
                self._began = self._clock()
                self._seen.clear()
            self._seen[kind] += 1
            if self._seen[kind] > self._most:
                self._unlogged[kind] += 1
                self._tell_soon()
                return
        get().warning(self._event, **fields)

    def flush(self) -> None:
        """Tell what was held back."""
        with self._lock:
            unlogged, self._unlogged, self._timer = self._unlogged, Counter(), None
        for kind, number in unlogged.items():
            get().warning(f"{self._event}_unlogged", kind=kind, number=number)

    def _tell_soon(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(1.0, self.flush)
            self._timer.daemon = True
            self._timer.start()
            atexit.unregister(self.flush)
            atexit.register(self.flush)


def _stamp(_: Any, __: str, event: Any) -> Any:
    event["timestamp"] = datetime.now(UTC)
    return event


def _dump(event: Any, default: Any = repr, **_: Any) -> bytes:
    return orjson.dumps(event, default=default, option=orjson.OPT_UTC_Z)


_AS_LIBRARY = structlog.wrap_logger(
    logging.getLogger("orchestrator"),
    processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
    wrapper_class=structlog.stdlib.BoundLogger,
)
