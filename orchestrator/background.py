"""Starts threads that the process can do without for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable

#: The reason in logs and errors.
TOO_MANY_THREADS = "the system allows no further thread now"


def start_thread(action: Callable[[], object], name: str) -> threading.Thread | None:
    """Start a thread that does not keep the process running.

    None: the system allows no further thread now. Whoever needs the thread asks again with its next
    work. A thread that was remembered without running would never be asked for again.
    """
    thread = threading.Thread(target=action, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
