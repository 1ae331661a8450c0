"""Puts the receiver and the API into one Flask application."""

from __future__ import annotations

from flask import Flask

from orchestrator import api
from orchestrator.runtime import Runtime
from webhooks import receiver


def create_app(parts: Runtime) -> Flask:
    """The web process.

    Raises:
        ConfigError: no API keys are set.
    """
    app = Flask("orchestrator", static_folder=None)
    app.register_blueprint(receiver.blueprint(parts))
    api.mount(app, parts)
    return app
