"""Builds the Flask application from the receiver, the API and the dashboard."""

from __future__ import annotations

from flask import Flask

from orchestrator import api, dashboard
from orchestrator.callbacks.drain import SpoolDrainer
from orchestrator.callbacks.spool import Spool
from orchestrator.runtime import Runtime
from orchestrator.steps.acceptance import record_spooled
from webhooks import path_prefix, receiver


def create_app(runtime: Runtime) -> Flask:
    """Return the application of the web process.

    With a spool, its drainer starts with the first spooled callback.

    Raises:
        ConfigError: no API keys are set.
    """
    app = Flask("orchestrator", static_folder=None)
    folder = runtime.settings.spool_dir
    drainer = SpoolDrainer(runtime, Spool(folder), record_spooled) if folder else None
    app.extensions["drainer"] = drainer
    receiver.install(app, receiver.Receiver(runtime, drainer))
    api.mount(app, runtime)
    dashboard.mount(app, runtime)
    path_prefix.install(app, lambda: runtime.settings.public_url)
    return app
