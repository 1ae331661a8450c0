"""The ledger and the broker check the certificate of their server, and its name."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis

from orchestrator.jobs.model import Step
from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.messages import Broker
from orchestrator.servers.broker_server import BrokerServer
from tests.net.servers import certificate
from tests.support.steps import run_in_step

PASSWORD = "password-that-must-not-leave"


@dataclass
class TlsFront:
    """Takes TLS off, in front of a server without TLS."""

    context: ssl.SSLContext
    target: int
    port: int = 0
    received: bytearray = field(default_factory=bytearray)

    def run(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with raw, suppress(OSError):
            near = self.context.wrap_socket(raw, server_side=True)
            with near, socket.create_connection(("127.0.0.1", self.target)) as far:
                while True:
                    ready = [near] if near.pending() else select.select([near, far], [], [])[0]
                    for source in ready:
                        data = source.recv(65536)
                        if not data:
                            return
                        if source is near:
                            self.received += data
                        (far if source is near else near).sendall(data)


Front = Callable[[str], TlsFront]


@pytest.fixture
def front(tmp_path: Path, redis_url: str) -> Iterator[Front]:
    """A function that starts a front whose certificate is for a name."""
    with ExitStack() as closing_:

        def begin(name: str) -> TlsFront:
            server, _ = certificate(tmp_path, name)
            started = TlsFront(server, urlsplit(redis_url).port or 0)
            listener = closing_.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
            started.port = listener.getsockname()[1]
            threading.Thread(target=started.run, args=(listener,), daemon=True).start()
            return started

        yield begin


def by_ledger(url: str) -> None:
    Ledger.from_url(url).installation.time()


def by_broker(url: str) -> None:
    broker = Broker(url)
    try:
        broker.send(Step.POLL, {"hiapi": ["job-1"]})
    finally:
        broker._connection.release()


def by_celery(url: str) -> None:
    server = BrokerServer.parse(url)
    with Celery(broker=server.url, broker_use_ssl=server.ssl, set_as_current=False) as app:
        app.connection_for_write(connect_timeout=5).ensure_connection(max_retries=1)


EACH_LIBRARY = pytest.mark.parametrize("connect", [by_ledger, by_broker, by_celery])


@EACH_LIBRARY
def test_a_certificate_that_is_trusted_and_named_is_accepted(
    connect: Callable[[str], None], front: Front, tmp_path: Path, real_redis: Redis
) -> None:
    server = front("127.0.0.1")

    connect(f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs={tmp_path}/server.pem")

    assert server.received


@EACH_LIBRARY
@pytest.mark.parametrize("wrong", ["untrusted", "another name"])
def test_a_wrong_certificate_ends_the_connection_before_the_password(
    connect: Callable[[str], None], front: Front, tmp_path: Path, wrong: str
) -> None:
    server = front("redis.example" if wrong == "another name" else "127.0.0.1")
    authority = f"?ssl_ca_certs={tmp_path}/server.pem" if wrong == "another name" else ""
    url = f"rediss://:{PASSWORD}@127.0.0.1:{server.port}/0{authority}"

    with pytest.raises((LedgerUnavailable, OperationalError), match=r"(?i)certificate") as error:
        connect(url)

    assert server.received == b""
    assert PASSWORD not in str(error.value)


def test_a_step_loop_reads_an_encrypted_connection(front: Front, tmp_path: Path) -> None:
    url = f"rediss://127.0.0.1:{front('127.0.0.1').port}/0?ssl_ca_certs={tmp_path}/server.pem"
    long = "x" * 500_000  # many records of TLS

    assert run_in_step(url, ("ECHO", long)) == long


@EACH_LIBRARY
def test_a_url_may_say_that_nothing_is_checked(
    connect: Callable[[str], None], front: Front, real_redis: Redis
) -> None:
    server = front("redis.example")
    url = f"rediss://127.0.0.1:{server.port}/0?ssl_cert_reqs=CERT_NONE"

    connect(url)

    assert server.received


def test_rabbitmq_with_a_certificate_of_another_name_gets_no_password(
    front: Front, tmp_path: Path
) -> None:
    server = front("rabbitmq.example")
    address = f"guest:{PASSWORD}@127.0.0.1:{server.port}//"

    with pytest.raises(OperationalError, match=r"(?i)certificate"):
        by_broker(f"amqps://{address}?ssl_ca_certs={tmp_path}/server.pem")

    assert server.received == b""
