"""Puts the receiver and the API into one Flask application."""

from __future__ import annotations

from flask import Flask

from orchestrator import api
from orchestrator.runtime import Runtime
from orchestrator.spool import Spool
from webhooks import receiver
from webhooks.drain import Drainer
from webhooks.patience import Patience


def create_app(parts: Runtime) -> Flask:
    """The web process. With a spool, its drainer starts with the first callback that is spooled.

    Raises:
        ConfigError: no API keys are set.
    """
    app = Flask("orchestrator", static_folder=None)
    folder = parts.settings.spool_dir
    drainer = Drainer(parts, Spool(folder)) if folder else None
    app.extensions["drainer"] = drainer
    app.register_blueprint(receiver.blueprint(parts, drainer))
    api.mount(app, parts)
    app.wsgi_app = Patience(app.wsgi_app)  # type: ignore[method-assign]
    return app
