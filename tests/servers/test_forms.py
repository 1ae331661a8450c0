"""Each form of a URL, on real servers: ledger and broker use the same database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from orchestrator.jobs.model import Step
from orchestrator.ledger import Ledger, LedgerUnavailable, keys
from orchestrator.messages import QUEUE, Broker
from orchestrator.servers.broker_server import BrokerServer
from tests.ledger.kit import eventually
from tests.support.redis_servers import Node, new_server, running_sentinels
from tests.support.steps import run_in_step

PASSWORD = "p@ss/w:rd#?%&"
ODD = quote(PASSWORD, safe="")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A server with a socket, a user with a colon in its name, and a password for everybody."""
    folder = tmp_path_factory.mktemp("forms")
    running = new_server(folder, PASSWORD, "--requirepass", PASSWORD)
    running.options = [*running.options, "--unixsocket", str(running.folder / "s")]
    running.start()
    with running.client() as admin:
        made: Any = admin
        rights = {"keys": ["*"], "channels": ["*"], "commands": ["+@all"]}
        made.acl_setuser("us:er", enabled=True, passwords=[f"+{PASSWORD}"], **rights)
    yield running
    running.kill()


#: A URL, and the database that it names.
FORMS = {
    "password": ("redis://:{password}@127.0.0.1:{port}", 0),
    "user": ("redis://us%3Aer:{password}@127.0.0.1:{port}/1", 1),
    "database in the path": ("redis://:{password}@localhost:{port}/5", 5),
    "database in the query": ("redis://:{password}@127.0.0.1:{port}?db=5", 5),
    "upper case": ("REDIS://:{password}@127.0.0.1:{port}/5", 5),
    "socket": ("unix://:{password}@{socket}?db=3", 3),
    "socket and user": ("unix://us%3Aer:{password}@{socket}", 0),
    "kombu's socket": ("redis+socket://:{password}@{socket}?virtual_host=4", 4),
    "options": (
        "redis://:{password}@127.0.0.1:{port}/2?client_name=shop&health_check_interval=3"
        "&socket_timeout=20&socket_connect_timeout=20&socket_keepalive=1&protocol=3",
        2,
    ),
}


def _for_ledger(url: str) -> str:
    return url.replace("redis+socket", "unix").replace("virtual_host", "db")


def by_ledger(url: str) -> None:
    Ledger.from_url(_for_ledger(url)).installation.check_write()


def by_step(url: str) -> None:
    assert run_in_step(_for_ledger(url), ("SET", keys.WRITE_CHECK, "1")) == "OK"


def by_broker(url: str) -> None:
    broker = Broker(url)
    try:
        broker.send(Step.POLL, {"hiapi": ["job-1"]})
        assert broker.waiting([QUEUE]) == {QUEUE: 1}
    finally:
        broker._connection.release()


def by_celery(url: str) -> None:
    server = BrokerServer.parse(url)
    with Celery(broker=server.url, broker_use_ssl=server.ssl, set_as_current=False) as app:
        app.conf.broker_transport_options = dict(server.transport_options)
        app.send_task("x", queue=QUEUE)


LIBRARIES: dict[str, tuple[Callable[[str], None], str]] = {
    "ledger": (by_ledger, keys.WRITE_CHECK),
    "step loop": (by_step, keys.WRITE_CHECK),
    "broker": (by_broker, QUEUE),
    "Celery": (by_celery, QUEUE),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("form", FORMS)
def test_each_library_writes_to_the_database_of_the_url(
    server: Node, form: str, library: str
) -> None:
    text, database = FORMS[form]
    url = text.format(password=ODD, port=server.port, socket=server.folder / "s")
    use, key = LIBRARIES[library]
    with server.client() as admin:
        admin.flushall()

        use(url)

        written = {name for name, count in admin.info("keyspace").items() if count}
        assert written == {f"db{database}"}
        admin.select(database)
        assert admin.exists(key)


def _works(use: Callable[..., None], *args: Any) -> bool:
    try:
        use(*args)
    except (LedgerUnavailable, OperationalError):
        return False
    return True


@contextmanager
def _sentinel_url(folder: Path) -> Iterator[tuple[Any, str]]:
    with running_sentinels(folder, password=PASSWORD) as servers:
        yield servers, servers.url.replace("//", f"//:{ODD}@", 1)


def test_sentinel_leads_ledger_and_broker_to_the_master_also_after_a_failover(
    tmp_path: Path,
) -> None:
    with _sentinel_url(tmp_path) as (servers, url):
        ledger, broker = Ledger.from_url(url), Broker(url)
        ledger.installation.check_write()
        broker.send(Step.POLL, {"hiapi": ["job-1"]})
        by_celery(url)
        by_step(url)
        assert servers.master().exists(keys.WRITE_CHECK)

        servers.fail_over()

        eventually(lambda: _works(ledger.installation.check_write), every=0.1)
        eventually(lambda: _works(broker.send, Step.POLL, {"hiapi": ["job-2"]}), every=0.1)
        eventually(lambda: _works(by_celery, url), every=0.1)
        by_step(url)
        assert servers.master().exists(keys.WRITE_CHECK)
        assert servers.master().llen(QUEUE) >= 2
        broker._connection.release()
