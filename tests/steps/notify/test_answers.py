"""The meaning of each answer of a caller's server, and of a missing answer."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from orchestrator.delivery import targets
from orchestrator.delivery.schedule import SCHEDULE
from orchestrator.jobs.model import FollowUpStatus
from orchestrator.net.guard import Guard
from orchestrator.net.guarded_session import GuardedSession
from tests.support import job_states
from tests.support.fakes import Answer, FakeProvider, Harness, ReceivedRequest
from tests.support.notify_kit import again, ended, host, notification, once, wait

PENDING, DONE, GONE = FollowUpStatus.PENDING, FollowUpStatus.DONE, FollowUpStatus.GONE
SECOND = SCHEDULE[1]


def failures(harness: Harness, receiver: FakeProvider) -> int:
    """Return the consecutive failures of the receiver's host."""
    known = harness.ledger.circuit_breaker.failing().get(host(receiver))
    return known.failures if known else 0


def guarded(harness: Harness, guard: Guard) -> Harness:
    """Return the harness with other rules for URLs."""
    session = GuardedSession(guard, connect_timeout=1)
    return harness.with_runtime(session=session)


@contextmanager
def answering(raw: bytes | None) -> Iterator[str]:
    """Serve one request with these bytes, or reset the connection for None. Yield the address."""

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65_536)
            if raw is None:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            else:
                connection.sendall(raw)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join(60)


# Answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 226, 299])
def test_a_2xx_is_success(harness: Harness, receiver: FakeProvider, status: int) -> None:
    receiver.handler = lambda _: Answer(status)

    now = once(harness, job_id := ended(harness, receiver))

    assert (now.status, now.error) == (DONE, None)
    assert wait(harness, job_id) is None
    assert failures(harness, receiver) == 0


@pytest.mark.parametrize(
    ("status", "host_fails"),
    [
        *((status, 0) for status in (300, 301, 302, 303, 304, 307, 308)),
        *((status, 0) for status in (400, 401, 403, 404, 405, 409, 413, 422, 429, 451)),
        *((status, 1) for status in (500, 501, 502, 503, 504, 520, 599)),
    ],
)
def test_every_other_status_is_retried(
    harness: Harness, receiver: FakeProvider, status: int, host_fails: int
) -> None:
    receiver.answers(Answer(status), Answer(200))

    now = once(harness, job_id := ended(harness, receiver))

    assert (now.status, now.tries, now.error) == (PENDING, 1, f"it answered {status}")
    assert wait(harness, job_id) == SECOND
    assert failures(harness, receiver) == host_fails
    assert again(harness, job_id).status is DONE
    assert failures(harness, receiver) == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(harness: Harness, receiver: FakeProvider, status: int) -> None:
    elsewhere = {"Location": f"{receiver.url}/elsewhere"}
    receiver.handler = lambda _: Answer(status, headers=elsewhere)

    once(harness, ended(harness, receiver))

    assert [request.path.partition("?")[0] for request in receiver.requests] == ["/hooks/7"]


def test_410_ends_the_notification(harness: Harness, receiver: FakeProvider) -> None:
    receiver.handler = lambda _: Answer(410, headers={"Retry-After": "1"})

    now = once(harness, job_id := ended(harness, receiver, job_states.failure()))

    assert (now.status, now.tries, now.error) == (GONE, 1, "it answered 410")
    assert wait(harness, job_id) is None
    assert harness.events(job_id)[-1] == "notify_gone"
    assert harness.ledger.follow_ups.dead(10) == (0, [])
    assert failures(harness, receiver) == 0
    assert harness.job(job_id).done


def test_410_ends_the_notification_at_the_last_try_too(
    harness: Harness, receiver: FakeProvider
) -> None:
    receiver.answers(*[Answer(500)] * 9, Answer(410))
    job_id = ended(harness, receiver)

    while wait(harness, job_id) is not None:
        harness.ledger.circuit_breaker.forget(host(receiver))
        again(harness, job_id)

    assert (notification(harness, job_id).status, notification(harness, job_id).tries) == (GONE, 10)


# Retry-After ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", SECOND),
        ("4", SECOND),
        ("90", 90),
        ("90.5", 90.5),
        ("3600", 3600),
        ("86400", 3600),
        ("99999999999999999999", 3600),
        ("1e400", 3600),
        ("inf", 3600),
        ("-60", SECOND),
        ("-inf", SECOND),
        ("nan", SECOND),
        ("soon", SECOND),
        ("", SECOND),
        ("Fri, 31 Dec 1999 23:59:59 GMT", SECOND),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Fri, 99 Dec 2026 23:59:59 GMT", SECOND),
        ("9" * 5000, 3600),
    ],
    ids=lambda value: str(value)[:30],
)
def test_retry_after_is_followed_within_limits(
    harness: Harness, receiver: FakeProvider, status: int, header: str, seconds: float
) -> None:
    receiver.handler = lambda _: Answer(status, headers={"Retry-After": header})

    once(harness, job_id := ended(harness, receiver))

    assert wait(harness, job_id) == seconds


def test_retry_after_may_be_a_date(harness: Harness, receiver: FakeProvider) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    receiver.handler = lambda _: Answer(503, headers={"Retry-After": moment})

    once(harness, job_id := ended(harness, receiver))

    assert 570 < (wait(harness, job_id) or 0) <= 600


@pytest.mark.parametrize("status", [302, 400, 404, 500, 502])
def test_retry_after_of_other_statuses_is_ignored(
    harness: Harness, receiver: FakeProvider, status: int
) -> None:
    receiver.handler = lambda _: Answer(status, headers={"Retry-After": "90"})

    once(harness, job_id := ended(harness, receiver))

    assert wait(harness, job_id) == SECOND


def test_a_longer_wait_costs_no_try(harness: Harness, receiver: FakeProvider) -> None:
    receiver.handler = lambda _: Answer(429, headers={"Retry-After": "1000"})
    job_id, waits = ended(harness, receiver), []

    while (seconds := wait(harness, job_id)) is not None:
        waits.append(seconds)
        harness.ledger.circuit_breaker.forget(host(receiver))
        again(harness, job_id)

    assert waits == [0, 1000, 1000, 1800, *SCHEDULE[4:]]


# No answer -----------------------------------------------------------------------------------


@pytest.fixture
def hanging(receiver: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The receiver answers only after this event. Its time limit is short."""
    monkeypatch.setattr(targets, "TIMEOUT_SECONDS", 0.2)
    released = threading.Event()

    def handler(_: ReceivedRequest) -> None:
        released.wait(60)

    receiver.handler = handler
    yield released
    released.set()


def test_a_timeout_is_a_failure_of_the_host(
    harness: Harness, receiver: FakeProvider, hanging: threading.Event
) -> None:
    now = once(harness, job_id := ended(harness, receiver))

    assert (now.status, now.tries, now.error) == (PENDING, 1, "it did not end in time")
    assert wait(harness, job_id) == SECOND
    assert failures(harness, receiver) == 1


def test_the_timeout_of_a_server_is_fifteen_seconds(
    harness: Harness, receiver: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts = []
    post = GuardedSession.post

    def recording_post(self: GuardedSession, *args: Any, seconds: float) -> Any:
        timeouts.append(seconds)
        return post(self, *args, seconds=seconds)

    monkeypatch.setattr(GuardedSession, "post", recording_post)

    once(harness, ended(harness, receiver))

    assert timeouts == [15.0]


@pytest.mark.parametrize(
    "raw",
    [None, b"", b"HTTP/1.1 nonsense\r\n\r\n", b"\x16\x03\x01\x00\x02"],
    ids=["reset", "closed", "no status", "TLS"],
)
def test_a_reset_or_nonsense_is_a_failure_of_the_host(harness: Harness, raw: bytes | None) -> None:
    with answering(raw) as address:
        job_id = job_states.ended(harness, notify_url=f"http://{address}/hook?key=hidden")
        now = once(harness, job_id)

    assert (now.status, now.tries) == (PENDING, 1)
    assert now.error
    assert "hidden" not in now.error
    assert harness.ledger.circuit_breaker.failing()[address].failures == 1


def test_a_refused_connection_is_a_failure_of_the_host(harness: Harness) -> None:
    now = once(harness, job_states.ended(harness, notify_url="http://127.0.0.1:1/hook"))

    assert (now.status, now.tries, now.error) == (PENDING, 1, "the connection was not made")
    assert harness.ledger.circuit_breaker.failing()["127.0.0.1:1"].failures == 1


def test_an_address_that_became_forbidden_is_not_called(
    harness: Harness, receiver: FakeProvider
) -> None:
    job_id = ended(harness, receiver)

    now = once(guarded(harness, Guard()), job_id)

    assert receiver.requests == []
    assert (now.status, now.tries, now.error) == (PENDING, 1, "only https:// is allowed")
    assert failures(harness, receiver) == 0
    assert wait(harness, job_id) == SECOND


@pytest.mark.parametrize("forbidden", [True, False], ids=["forbidden", "no secret"])
def test_a_host_that_was_not_called_keeps_its_failures(
    harness: Harness, receiver: FakeProvider, forbidden: bool
) -> None:
    receiver.answers(Answer(500))
    once(harness, ended(harness, receiver))
    assert failures(harness, receiver) == 1

    changed = guarded(harness, Guard()) if forbidden else harness.with_settings(notify_secrets=())
    once(changed, ended(harness, receiver))

    assert failures(harness, receiver) == 1
