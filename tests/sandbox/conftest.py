from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import structlog

from sandbox.server import Sandbox
from sandbox.settings import SandboxSettings
from tests.sandbox.kit import HIAPI_SECRET, KEY, CallbackReceiver, MovableClock, SandboxClient

#: Starts a sandbox for one test, with these settings.
Start = Callable[..., SandboxClient]


#: Whether all logs are dropped now.
_dropping: list[bool] = []


@pytest.fixture(scope="package", autouse=True)
def quiet() -> Iterator[None]:
    """Drop all logs. The threads of the shared sandbox also log between two tests."""
    _dropping.append(True)
    structlog.configure(processors=[_drop])
    yield
    _dropping.clear()
    structlog.reset_defaults()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Keep the logs dropped. tests/conftest.py resets their configuration after each test."""
    if _dropping:
        structlog.configure(processors=[_drop])


def _drop(*_: object) -> str:
    raise structlog.DropEvent


@pytest.fixture(scope="package")
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture(scope="package")
def shared(clock: MovableClock) -> Iterator[SandboxClient]:
    """One sandbox for all tests that need no settings of their own."""
    with Sandbox(_settings(), clock) as sandbox:
        client = SandboxClient(sandbox.url, sandbox.state)
        with client.session:
            yield client


@pytest.fixture
def client(shared: SandboxClient, clock: MovableClock) -> Iterator[SandboxClient]:
    """The shared sandbox without tasks, rules, notifications and inbox faults."""
    clock.ahead = 0.0
    shared.post("/forget", allow_redirects=False)
    yield shared
    clock.ahead = 0.0


@pytest.fixture
def start(clock: MovableClock) -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(**settings: Any) -> SandboxClient:
            sandbox = stack.enter_context(Sandbox(_settings(**settings), clock))
            client = SandboxClient(sandbox.url, sandbox.state)
            stack.enter_context(client.session)
            return client

        yield begin


@pytest.fixture
def receiver() -> Iterator[CallbackReceiver]:
    with CallbackReceiver() as receiver:
        yield receiver


def _settings(**changes: Any) -> SandboxSettings:
    return SandboxSettings(
        **{
            "port": 0,
            "api_key": KEY,
            "webhook_secrets": {"hiapi": HIAPI_SECRET},
            "task_seconds": 0.03,
            "allow_http": True,
            "callback_retry_seconds": (0.01, 0.02, 0.04),
            **changes,
        }
    )
