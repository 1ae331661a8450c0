"""The web application, built once in a process and used with the runtime of each test.

Building it takes 60 ms, most of them for the OpenAPI document. That is longer than most tests.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast
from unittest.mock import patch

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from orchestrator import log
from orchestrator.dashboard.shared_parts import SharedParts
from orchestrator.dashboard.views import PARTS
from orchestrator.runtime import Runtime
from webhooks.app import create_app

_current = threading.local()


class _CurrentRuntime:
    """Has the attributes of the runtime of this thread's last request."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_current.runtime, name)


class _RuntimeClient(FlaskClient):
    """Sends requests to an application with one runtime."""

    def __init__(self, app: Flask, runtime: Runtime, *, cookies: bool) -> None:
        super().__init__(app, app.response_class, use_cookies=cookies)
        self._runtime = runtime

    def open(self, *args: Any, **options: Any) -> TestResponse:
        if _current.__dict__.get("served") is not self._runtime:
            self.application.extensions[PARTS] = SharedParts()  # those were of another installation
        _current.runtime = _current.served = self._runtime
        return super().open(*args, **options)


@dataclass(frozen=True)
class WebApp:
    """The application of the web process with one runtime."""

    runtime: Runtime

    def app(self) -> Flask:
        """Return the application. It works with this runtime until another test asks for it."""
        settings = self.runtime.settings
        assert settings.api_keys, "without API keys there is no application"
        assert settings.spool_dir is None, "a spool belongs to one application: use create_app"
        _current.runtime = self.runtime
        return _application()

    def test_client(self, *, cookies: bool = False) -> FlaskClient:
        return _RuntimeClient(self.app(), self.runtime, cookies=cookies)


@cache
def _application() -> Flask:
    """Return the application of this process."""
    # Refused callbacks of one test must not use up the log lines of the next test.
    unlimited = partial(log.RateLimitedLog, max_lines=1_000_000)
    with patch("orchestrator.log.RateLimitedLog", unlimited):
        return create_app(cast(Runtime, _CurrentRuntime()))
