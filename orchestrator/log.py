"""Logs: one line per event, with job id, provider and attempt. JSON when nobody watches.

Events are named in the past tense (`job_settled`), so a search for a name finds every one. Nothing
secret is ever passed in: no API key, no token, no callback URL, no prompt.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson
import structlog


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
