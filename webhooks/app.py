"""Builds the Flask application from the receiver and the API."""

from __future__ import annotations

from http import HTTPStatus

from flask import Flask, Response

from orchestrator import api
from orchestrator.callbacks.drain import SpoolDrainer
from orchestrator.callbacks.spool import Spool
from orchestrator.runtime import Runtime
from orchestrator.steps.acceptance import record_spooled
from webhooks import receiver
from webhooks.body_limit import BodyReadLimiter


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
    app.register_blueprint(receiver.blueprint(runtime, drainer))
    api.mount(app, runtime)
    app.after_request(_close_after_unread_body)
    app.wsgi_app = BodyReadLimiter(app.wsgi_app)  # type: ignore[method-assign]
    return app


def _close_after_unread_body(response: Response) -> Response:
    """Close the connection after 413: the rest of the body is not read as another request."""
    if response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        response.headers["Connection"] = "close"
    return response
