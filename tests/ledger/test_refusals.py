"""Every refusal of Redis is "away for now", a wrong setting with its correction, or our mistake."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import ResponseError

from orchestrator.cli.embedded_redis import embedded_redis
from orchestrator.clock import now_ms
from orchestrator.ledger import Ledger, LedgerMisconfigured, LedgerUnavailable, Result, identifiers
from orchestrator.messages import Broker
from tests.ledger import kit
from tests.net.servers import serving
from tests.system.wire import Wire

pytestmark = pytest.mark.one_server

#: What a server answers that a real one cannot be brought to answer in a test, and what it means.
ANSWERS: Mapping[str, type[Exception]] = {
    "LOADING Redis is loading the dataset in memory": LedgerUnavailable,
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist": (
        LedgerUnavailable
    ),
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": (
        LedgerUnavailable
    ),
    "CLUSTERDOWN Hash slot not served": LedgerUnavailable,
    "TRYAGAIN Multiple keys request during rehashing of slot": LedgerUnavailable,
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL": LedgerUnavailable,
    "NOREPLICAS Not enough good replicas to write.": LedgerUnavailable,
    "NOSCRIPT No matching script.": LedgerUnavailable,
    "ERR max number of clients reached": LedgerUnavailable,
    "ERR Error running script (call to f_1): @user_script:3: -READONLY You can't write": (
        LedgerUnavailable
    ),
    "ERR Error running script (call to f_1): @user_script:3: -NOPERM no rights": (
        LedgerMisconfigured
    ),
    "MOVED 3999 127.0.0.1:6381": LedgerMisconfigured,
    "ASK 3999 127.0.0.1:6381": LedgerMisconfigured,
    "CROSSSLOT Keys in request don't hash to the same slot": LedgerMisconfigured,
    "DENIED Redis is running in protected mode": LedgerMisconfigured,
    "NOAUTH Authentication required.": LedgerMisconfigured,
    "WRONGPASS invalid username-password pair or user is disabled.": LedgerMisconfigured,
    "ERR unknown command 'EVALSHA', with args beginning with: ": LedgerMisconfigured,
    "ERR SELECT is not allowed in cluster mode": LedgerMisconfigured,
    "WRONGTYPE Operation against a key holding the wrong kind of value": ResponseError,
    "ERR value is not an integer or out of range": ResponseError,
}


@contextmanager
def refusing(answer: str) -> Iterator[str]:
    """A server that accepts the start of a connection, and answers everything else in one way."""

    class Refusal(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int(self.rfile.readline()[1:])
                    words.append(self.rfile.read(size + 2)[:-2].upper())
                start = words[0] in {b"CLIENT", b"HELLO", b"SELECT"}
                self.wfile.write(b"+OK\r\n" if start else f"-{answer}\r\n".encode())

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Refusal) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"redis://127.0.0.1:{server.server_address[1]}/0?protocol=2"
        finally:
            server.shutdown()
            thread.join()


def test_each_answer_has_its_meaning() -> None:
    for answer, expected in ANSWERS.items():
        with refusing(answer) as url, pytest.raises(Exception) as caught:  # noqa: PT011
            Ledger.from_url(url).installation.check_write()

        assert type(caught.value) is expected
        assert "\n" not in str(caught.value)


def test_another_service_in_place_of_redis_is_no_bare_error() -> None:
    with serving() as begin:
        port = begin(lambda peer: peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")).port

        with pytest.raises(LedgerUnavailable, match="Protocol error"):
            Ledger.from_url(f"redis://127.0.0.1:{port}/0").installation.check_write()


def test_sentinels_that_are_away_are_named_in_plain_words() -> None:
    url = "sentinel://127.0.0.1:1?master_name=main"

    for call in (Ledger.from_url(url).installation.time, partial(Broker(url).waiting, ["queue"])):
        with pytest.raises((LedgerUnavailable, OperationalError)) as error:
            call()
        assert str(error.value) == "no Sentinel that answers names the master"


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedded_redis(tmp_path_factory.mktemp("refusing")) as url:
        yield url


#: Wrong settings on a real server: how the URL becomes wrong, the code, a word of the correction.
WRONG: Mapping[str, tuple[Callable[[Redis, str], str], str, str]] = {
    "a database that does not exist": (
        lambda _, url: url.removesuffix("/0") + "/99",
        "ERR",
        "names a database that Redis does not have",
    ),
    "a wrong password": (
        lambda redis, url: _with_user(redis, url, ["+@all"], password="another"),
        "WRONGPASS",
        "correct the user and the password",
    ),
    "a user without rights": (
        lambda redis, url: _with_user(redis, url, ["+@connection"]),
        "NOPERM",
        "the right to this command",
    ),
}


def _with_user(redis: Redis, url: str, rights: list[str], password: str = "secret-password") -> str:
    made: Any = redis
    made.acl_setuser(
        "app", enabled=True, reset=True, keys=["*"], passwords=[f"+{password}"], commands=rights
    )
    return url.replace("//", "//app:secret-password@")


def test_a_user_who_may_not_publish_settles_jobs(server_url: str) -> None:
    with Redis.from_url(server_url, decode_responses=True) as redis:
        ledger = Ledger.from_url(_with_user(redis, server_url, ["+@all"]))
        job_id = kit.running(ledger)

        settled = ledger.settle_attempt(job_id, 1, "task-1", kit.SUCCESS, now=kit.NOW)
        again = ledger.settle_attempt(job_id, 1, "task-1", kit.SUCCESS, now=kit.NOW)

    assert (settled.result, again.result) == (Result.SETTLED, Result.DUPLICATE)


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_setting_is_one_line_with_its_correction(server_url: str, case: str) -> None:
    spoil, code, correction = WRONG[case]
    with Redis.from_url(server_url, decode_responses=True) as redis:
        url = spoil(redis, server_url)

        with pytest.raises(LedgerMisconfigured, match=correction) as caught:
            Ledger.from_url(url).installation.check_write()

    assert caught.value.code == code
    assert "ORCHESTRATOR_REDIS_URL" in str(caught.value)
    assert "secret-password" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_after_a_refusal_the_next_call_makes_a_new_connection(tmp_path: Path) -> None:
    with embedded_redis(tmp_path) as url, Redis.from_url(url, decode_responses=True) as redis:
        ledger, admin = Ledger.from_url(url), redis
        job_id = kit.create(ledger)
        before = _clients(admin)
        admin.replicaof("127.0.0.1", 1)

        with pytest.raises(LedgerUnavailable, match="READONLY"):
            ledger.cancel(job_id, now=kit.NOW)

        kit.eventually(lambda: not before & _clients(admin) - {_own(admin)})
        admin.replicaof("NO", "ONE")
        assert ledger.cancel(job_id, now=kit.NOW).result == "cancelled"


def test_what_an_old_master_lacks_is_read_from_the_new_one(tmp_path: Path) -> None:
    with ExitStack() as closing:
        old, new = (closing.enter_context(embedded_redis(tmp_path / name)) for name in "on")
        wire = closing.enter_context(Wire(urlsplit(old).port or 0))
        ledger = Ledger.from_url(f"redis://127.0.0.1:{wire.port}/0")
        assert ledger.get(kit.create(Ledger.from_url(old)))
        with Redis.from_url(old) as server:
            server.replicaof("127.0.0.1", 1)
        wire.target = urlsplit(new).port or 0

        assert ledger.get(kit.create(Ledger.from_url(new)))


def test_a_replica_is_not_believed_that_a_job_does_not_exist(tmp_path: Path) -> None:
    with embedded_redis(tmp_path) as url, Redis.from_url(url) as server:
        ledger, job_id = Ledger.from_url(url), identifiers.new_job_id(0, now_ms())
        assert ledger.get(job_id) is None
        server.replicaof("127.0.0.1", 1)

        with pytest.raises(LedgerUnavailable, match="READONLY"):
            ledger.get(job_id)


def _clients(redis: Redis) -> set[str]:
    listed: Any = redis.client_list()
    return {entry["id"] for entry in listed}


def _own(redis: Redis) -> str:
    own: Any = redis.client_id()
    return str(own)
