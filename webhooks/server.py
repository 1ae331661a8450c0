"""The application that each worker of the web server loads: `webhooks/__main__.py` starts them."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial

from uvicorn.config import STARTUP_FAILURE

from orchestrator import garbage_collection, log, tracing
from orchestrator.api import MAX_BODY_BYTES, plain_enqueue
from orchestrator.api.incoming import base64_size
from orchestrator.heartbeat import Heartbeat
from orchestrator.runtime import Runtime, default_runtime
from orchestrator.settings.environment import ConfigError
from webhooks import path_prefix
from webhooks.app import create_app
from webhooks.connection import MAX_CONNECTIONS
from webhooks.front import Front
from webhooks.loop_watch import LoopWatch
from webhooks.receiver import MAX_LONG_BYTES, PREFIX

#: The files and connections that a process wants to have open at once.
MAX_OPEN_FILES = 65_536


def front(runtime: Runtime, at_end: Callable[[], None] = lambda: None) -> Front:
    """Return the ASGI application of the web process. `at_end` is called at its clean end.

    Raises:
        ConfigError: no API keys are set.
    """
    flask_app = create_app(runtime)
    if flask_app.extensions["drainer"]:
        flask_app.extensions["drainer"].start()  # an earlier process may have left files
    files = base64_size(runtime.settings.max_upload_bytes)
    longest = max(MAX_LONG_BYTES, MAX_BODY_BYTES + files)
    return Front(
        flask_app,
        max_body_bytes=longest + 64 * 1024,
        # The others are for callbacks and for files.
        max_held=min(_allow_open_files(), MAX_CONNECTIONS) // 2,
        subscribe=runtime.ledger.outcomes.subscription,
        at_start=lambda loop: LoopWatch(loop).start(),
        at_end=at_end,
        is_short=partial(_is_short, runtime),
        own_path=partial(_own_path, runtime),
    )


def _is_short(runtime: Runtime, method: str, path: str) -> bool:
    """Return whether a request is an enqueue or a callback, and waits for nothing but Redis."""
    if method != "POST" or runtime.ledger.connections.is_silent:
        return False
    return path == plain_enqueue.PATH or path.startswith(PREFIX)


def _own_path(runtime: Runtime, path: str) -> str:
    """Return the path of a request without that of the public URL."""
    return path_prefix.without(path_prefix.path_of(runtime.settings.public_url), path)


def _allow_open_files() -> int:
    """Raise the limit of open files, as far as the system allows it. Return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


def _stop_after_parent() -> None:
    """Stop when the process that started this one is gone. It holds the port otherwise."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


log.configure()
tracing.configure()
try:
    heartbeat = Heartbeat(default_runtime(), "web")
    app = front(default_runtime(), heartbeat.stop)
except ConfigError as error:
    sys.stderr.write(f"orchestrator: {error}\n")
    sys.exit(STARTUP_FAILURE)  # it would fail again

threading.Thread(target=_stop_after_parent, name="parent", daemon=True).start()
heartbeat.start()
garbage_collection.tune()
