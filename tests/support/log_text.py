"""What the loggers of the standard library write, as one text.

pytest's own `caplog` is off: it costs a millisecond in each test.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def log_text(level: int = logging.WARNING) -> Iterator[io.StringIO]:
    """Record what is logged from a level on. The text is complete at any time."""
    text, root = io.StringIO(), logging.getLogger()
    handler, before = logging.StreamHandler(text), root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield text
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
