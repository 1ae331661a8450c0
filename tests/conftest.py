"""Fixtures of the whole suite: a clean environment, a real Redis, and ledgers on both kinds."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, cast

import execnet
import hypothesis
import pytest
from hypothesis.internal import charmap
from hypothesis.internal.conjecture import providers as hypothesis_providers
from hypothesis.internal.constants_ast import Constants
from redis import Redis
from redis.connection import Connection
from xdist.remote import Producer
from xdist.workermanage import WorkerController

from orchestrator import log
from orchestrator.cli.embedded_redis import embedded_redis
from orchestrator.ledger import Ledger
from orchestrator.providers import BUILT_IN
from orchestrator.runtime import default_runtime
from orchestrator.step_loop import StepLoop
from tests.support import fork_server
from tests.support.fakes import (
    Answer,
    Chance,
    Clock,
    FakeProvider,
    Harness,
    Nudges,
    environment,
    runtime,
    serving,
    unavailable_ledger,
)
from tests.support.importing import ForkedTestProcesses
from tests.support.scheduling import SharedProcessScheduling, positions

#: The first part of the name of each variable that the settings read.
OUR_PREFIXES = ("ORCHESTRATOR_", *(f"{name.upper()}_" for name in BUILT_IN))


#: The port of a Redis that a developer may use, and the default of our settings.
USUAL_PORT = 6379


# The settings of this installation are none of the tests'.
for _name in [name for name in os.environ if name.startswith(OUR_PREFIXES)]:
    del os.environ[_name]


# Python and pytest keep compiled modules for the next run and for the processes that tests start.
# Compiling the tests takes 10 s.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


# malloc keeps freed blocks of less than 32 MiB, in one arena for each thread. With images of 11 MiB
# that takes 200 MB. With this value of M_MMAP_THRESHOLD it returns blocks of 1 MiB to the system.
if sys.platform == "linux":
    ctypes.CDLL(None).mallopt(-3, 1024 * 1024)
    # M_ARENA_MAX: the servers of tests have hundreds of threads.
    ctypes.CDLL(None).mallopt(-8, 2)


# Hypothesis reads the constants of every module that is loaded. For our modules that takes 8 s and
# 200 MB in each process, and the tests do not need them.
assert callable(hypothesis_providers._get_local_constants)
hypothesis_providers._get_local_constants = Constants


_connect: Any = Connection._connect


def _connect_to_no_developer(connection: Connection) -> Any:
    if connection.port == USUAL_PORT:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "a test leaves a developer's Redis alone")
    return _connect(connection)


assert callable(_connect)
Connection._connect = cast(Any, _connect_to_no_developer)  # type: ignore[method-assign]


_intervals_from_codec = charmap.intervals_from_codec


def _small_codec(name: str) -> Any:
    if name != "ascii":
        raise AssertionError(
            f"a strategy for text looks for the characters of {name}, which takes 3 s and 200 MB:"
            " use tests.support.strategies.CHARACTERS"
        )
    return _intervals_from_codec(name)


assert callable(charmap.intervals_from_codec)
charmap.intervals_from_codec = cast(Any, _small_codec)


#: Folders whose tests need a server or processes.
SERVER_FOLDERS = {"chaos", "deployment", "history", "ledger", "net", "sandbox", "storage", "system"}
#: Databases of a Redis server, by default.
DATABASES = 16
#: Fixtures that start a server or a process.
SERVER_FIXTURES = {
    "browser",
    "fake_provider",
    "installed",
    "real_redis",
    "receiver",
    "redis_url",
    "s3_endpoint",
    "server",
}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import the folders whose tests are all deselected."""
    tests = Path(__file__).parent
    needs_server = collection_path.parent == tests and collection_path.name in SERVER_FOLDERS
    return True if needs_server and "not server" in config.option.markexpr else None


# An example has no time limit, because other work may use the machine. Every run has the same ones.
hypothesis.settings.register_profile("suite", deadline=None, max_examples=30, derandomize=True)
hypothesis.settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a server or draw examples. Mix those that wait with the others.

    `make test-fast` leaves out the tests with these marks.
    """
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if _folder(item.path) in SERVER_FOLDERS or SERVER_FIXTURES & fixtures:
            item.add_marker("server")
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("slow")
    order = positions(dict.fromkeys(map(_path, items)))
    items.sort(key=lambda item: order[_path(item)])


@cache
def _folder(path: Path) -> str:
    """Return the name of the folder in `tests` that a file belongs to."""
    return path.relative_to(Path(__file__).parent).parts[0]


def _path(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


#: The server that forks for the test processes, in the process that distributes the tests.
_test_processes: list[ForkedTestProcesses] = []


def pytest_xdist_setupnodes(config: pytest.Config, specs: list[execnet.XSpec]) -> None:
    """Import the tests once, and not once in each test process."""
    fast = "not server" in config.option.markexpr
    _test_processes.append(ForkedTestProcesses(config, frozenset(SERVER_FOLDERS if fast else ())))
    _test_processes[0].use(specs)


def pytest_configure_node(node: WorkerController) -> None:
    """Let the test processes share one server that forks for the processes of the tests."""
    node.workerinput["fork_server"] = str(fork_server.folder())


def pytest_configure(config: pytest.Config) -> None:
    """Use that server in a test process."""
    here: dict[str, object] = getattr(config, "workerinput", {})
    if "fork_server" in here:
        fork_server.share(Path(str(here["fork_server"])))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SharedProcessScheduling:
    """Let files that share processes run one after another in one test process."""
    return SharedProcessScheduling(config, log)


def pytest_collection_finish() -> None:
    """Exempt the collected tests from garbage collection.

    Python postpones a full collection until the number of new objects is a quarter of the old ones.
    With thousands of tests that takes hundreds of MB.
    """
    gc.collect()
    gc.freeze()
    gc.collect()


def pytest_sessionfinish() -> None:
    """End the servers that fork for the processes."""
    fork_server.stop()
    while _test_processes:
        _test_processes.pop().close()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Reset the logs and the default runtime. A fixture for that would cost twice the time.

    Release what a parameter that was raised holds: the frames of the test, with their values.
    """
    log.reset()
    default_runtime.cache_clear()
    callspec = getattr(item, "callspec", None)
    for value in callspec.params.values() if callspec else ():
        if isinstance(value, BaseException):
            value.__traceback__ = None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--redis-cluster", action="store_true", help="run tests/ledger on a cluster")
    parser.addoption("--redis-cluster-url", default="", help="a running cluster for these tests")


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Redis server for the whole suite."""
    folder: Path = tmp_path_factory.mktemp("redis")
    with embedded_redis(folder) as url:
        with Redis.from_url(url) as client:  # no test of this server needs its data later
            client.config_set("appendonly", "no")
        yield url


@pytest.fixture
def real_redis(redis_url: str) -> Iterator[Redis]:
    """A client of the real server. The server is empty before each test."""
    with Redis.from_url(redis_url, decode_responses=True) as client:
        client.flushdb()
        yield client


@pytest.fixture
def redis(real_redis: Redis) -> Redis:
    """The Redis of the ledger: a real server, because the ledger consists of its scripts."""
    return real_redis


@pytest.fixture
def ledger(redis: Redis) -> Ledger:
    """A ledger of one shard."""
    return Ledger(lambda: redis)


@pytest.fixture
def fake_provider() -> Iterator[FakeProvider]:
    """A provider on 127.0.0.1. The test sets its answers."""
    with serving(FakeProvider()) as fake:
        yield fake


@pytest.fixture(scope="session")
def databases(redis_url: str) -> Iterator[tuple[Redis, ...]]:
    """The databases of the real server that harnesses use. `real_redis` uses another one."""
    with ExitStack() as closing:
        base = redis_url.removesuffix("0")
        urls = [f"{base}{number}" for number in range(1, DATABASES)]
        yield tuple(
            closing.enter_context(Redis.from_url(url, decode_responses=True)) for url in urls
        )


@pytest.fixture
def empty_redis(databases: tuple[Redis, ...]) -> Callable[[], Redis]:
    """A function that returns an empty database, another one at each call of a test."""
    unused = iter(databases)

    def take() -> Redis:
        client = next(unused)
        client.flushdb()
        return client

    return take


@pytest.fixture
def start(
    monkeypatch: pytest.MonkeyPatch,
    fake_provider: FakeProvider,
    empty_redis: Callable[[], Redis],
) -> Callable[..., Harness]:
    """A function that makes a harness. Its arguments are environment variables."""

    def begin(**variables: str | None) -> Harness:
        settings = environment(monkeypatch, fake_provider.url, **variables)
        client, clock, chance = empty_redis(), Clock(), Chance()
        nudges = Nudges()
        ledger = Ledger(lambda: client)
        made = runtime(settings, ledger, nudges, clock=clock, random=chance)
        return Harness(made, clock, chance, nudges, fake_provider, client)

    return begin


@pytest.fixture
def shared_ledger(real_redis: Redis, redis_url: str) -> Ledger:
    """A ledger with its own connections. Many threads may use it at once."""
    return Ledger.from_url(redis_url)


@pytest.fixture
def receiver() -> Iterator[FakeProvider]:
    """A caller's server. It accepts every message unless the test changes that."""
    with serving(FakeProvider(lambda _: Answer(204))) as server:
        yield server


@pytest.fixture
def away() -> Ledger:
    """A ledger of a Redis that does not answer."""
    return unavailable_ledger()


@pytest.fixture
def steps() -> Iterator[StepLoop]:
    """A loop that runs steps."""
    loop = StepLoop()
    yield loop
    loop.stop()


@pytest.fixture
def harness(start: Callable[..., Harness]) -> Harness:
    """A harness with the usual settings: every provider enabled, with callbacks."""
    return start()
