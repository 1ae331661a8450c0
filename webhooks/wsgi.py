"""What the web server loads: `granian --interface wsgi webhooks.wsgi:app`."""

from __future__ import annotations

import sys

from orchestrator import log
from orchestrator.runtime import default_runtime
from orchestrator.settings.environment import ConfigError
from webhooks import body_limit
from webhooks.app import create_app

log.configure()
try:
    app = create_app(default_runtime())
except ConfigError as error:
    sys.exit(f"orchestrator: {error}")

body_limit.start_cutting()
if app.extensions["drainer"]:
    app.extensions["drainer"].start()  # a process before this one may have left something
