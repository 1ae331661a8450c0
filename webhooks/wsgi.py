"""The entry point of the web server: `granian --interface wsgi webhooks.wsgi:app`."""

from __future__ import annotations

import signal
import sys

# A worker inherits granian's signal handler, which only notes the signal. Without this line, a
# worker that is stopped while it still imports would run until `--workers-kill-timeout`.
signal.signal(signal.SIGTERM, signal.SIG_DFL)

from orchestrator import log, tracing
from orchestrator.runtime import default_runtime
from orchestrator.settings.environment import ConfigError
from webhooks import idle_connections
from webhooks.app import create_app

log.configure()
tracing.configure()
try:
    app = create_app(default_runtime())
except ConfigError as error:
    sys.exit(f"orchestrator: {error}")

idle_connections.start_closing()
if app.extensions["drainer"]:
    app.extensions["drainer"].start()  # an earlier process may have left files
