"""Logs: one line per event, with job id, provider and attempt. JSON when nobody watches.

Events are named in the past tense (`job_settled`), so a search for a name finds every one. Nothing
secret is ever passed in: no API key, no token, no callback URL, no prompt.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import orjson
import structlog


def configure(level: int = logging.INFO) -> None:
    """Set up structlog for this process: to standard error, coloured on a terminal."""
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if sys.stderr.isatty():
        factory: Any = structlog.PrintLoggerFactory(sys.stderr)
        renderer: Any = structlog.dev.ConsoleRenderer()
        shared.remove(structlog.processors.format_exc_info)
    else:
        factory = structlog.BytesLoggerFactory(sys.stderr.buffer)
        renderer = structlog.processors.JSONRenderer(serializer=_dump)
    _configure_libraries(shared)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )


def _configure_libraries(shared: list[Any]) -> None:
    """What libraries warn of, by the standard logging, in the same form."""
    terminal = sys.stderr.isatty()
    last: Any = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
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
    return structlog.get_logger() if structlog.is_configured() else _AS_LIBRARY


def _dump(event: Any, default: Any = repr, **_: Any) -> bytes:
    return orjson.dumps(event, default=default)


_AS_LIBRARY = structlog.wrap_logger(
    logging.getLogger("orchestrator"),
    processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
    wrapper_class=structlog.stdlib.BoundLogger,
)
