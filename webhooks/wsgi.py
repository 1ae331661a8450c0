"""What the web server loads: `granian --interface wsgi webhooks.wsgi:app`."""

from __future__ import annotations

import sys

from orchestrator import log, runtime
from orchestrator.environment import ConfigError
from webhooks import patience
from webhooks.app import create_app

log.configure()
try:
    app = create_app(runtime.default())
except ConfigError as error:
    sys.exit(f"orchestrator: {error}")

patience.start_cutting()
if app.extensions["drainer"]:
    app.extensions["drainer"].start()  # a process before this one may have left something
