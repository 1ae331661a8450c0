from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import structlog

from sandbox.server import Sandbox
from sandbox.settings import Settings
from tests.sandbox.kit import KEY, SECRET, Client, Clock, Receiver

#: starts a sandbox of its own for one test
Start = Callable[..., Client]


@pytest.fixture(scope="package", autouse=True)
def quiet() -> Iterator[None]:
    """Keep the sandbox's logs out of the test report: its threads log when they please."""
    before = structlog.get_config()
    structlog.configure(processors=[_drop])
    yield
    structlog.configure(**before)


def _drop(*_: object) -> str:
    raise structlog.DropEvent


@pytest.fixture(scope="package")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="package")
def shared(clock: Clock) -> Iterator[Client]:
    """One quick sandbox for all tests that need nothing special."""
    with Sandbox(_settings(), clock) as sandbox:
        client = Client(sandbox.url)
        with client.session:
            yield client


@pytest.fixture
def client(shared: Client, clock: Clock) -> Iterator[Client]:
    """The shared sandbox, as empty as a new one."""
    clock.ahead = 0.0
    shared.delete("/control/tasks")
    shared.delete("/control/faults")
    shared.delete("/control/inbox")
    yield shared
    clock.ahead = 0.0


@pytest.fixture
def start(clock: Clock) -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(**settings: Any) -> Client:
            sandbox = stack.enter_context(Sandbox(_settings(**settings), clock))
            client = Client(sandbox.url)
            stack.enter_context(client.session)
            return client

        yield begin


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(params=["hiapi", "evolink"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _settings(**changes: Any) -> Settings:
    return Settings(
        **{
            "port": 0,
            "api_key": KEY,
            "hiapi_webhook_secret": SECRET,
            "task_seconds": 0.03,
            "allow_http": True,
            "callback_retry_seconds": (0.01, 0.02, 0.04),
            **changes,
        }
    )
