"""Signals that must wait a moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def signals_delayed() -> Iterator[None]:
    """Delay SIGINT and SIGTERM, so that every started process is recorded first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    delayed = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in delayed}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in received:
            signal.raise_signal(late)
