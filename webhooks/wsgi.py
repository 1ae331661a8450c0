"""The entry point of the web server: `granian --interface wsgi webhooks.wsgi:app`."""

from __future__ import annotations

import sys

from orchestrator import log
from orchestrator.runtime import default_runtime
from orchestrator.settings.environment import ConfigError
from webhooks import idle_connections
from webhooks.app import create_app

log.configure()
try:
    app = create_app(default_runtime())
except ConfigError as error:
    sys.exit(f"orchestrator: {error}")

idle_connections.start_closing()
if app.extensions["drainer"]:
    app.extensions["drainer"].start()  # an earlier process may have left files
