"""Asking addresses that somebody else chose, against real sockets: what comes back.

Where connections go is in test_guarded_session_connections.py; that calls end, in
test_guarded_session_time.py.
"""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from orchestrator.net.guard import Forbidden, Guard
from orchestrator.net.guarded_session import (
    FetchedBody,
    GuardedSession,
    PostAnswer,
    RequestFailed,
    TooLarge,
)
from tests.net.asking import (
    MIB,
    PNG,
    chunked,
    failure,
    fetch,
    forgetful,
    serve,
    session,
    way,
)
from tests.net.dns import Names, names
from tests.net.servers import Peer, Serve, answer, once, saying
from tests.support.log_text import log_text

__all__ = ["names", "serve", "way"]

pytestmark = pytest.mark.usefixtures("way")


OK = b"HTTP/1.1 200 OK\r\n"

# What a fetch gives --------------------------------------------------------------------------


def test_a_body_is_written_and_told_by_length_digest_and_type(serve: Serve) -> None:
    server = serve(saying(answer(PNG, "Content-Type: Image/PNG; name=x")))

    body, fetched = fetch(f"{server.url}/a%2Fb.png?sig=%2B#part")

    assert body == PNG
    assert fetched == FetchedBody(len(PNG), hashlib.sha256(PNG).hexdigest(), "image/png")
    head = server.requests[0].decode().split("\r\n")
    assert head[0] == "GET /a%2Fb.png?sig=%2B HTTP/1.1"
    assert sorted(head[1:-2]) == [
        "Accept-Encoding: identity",
        "Accept: */*",
        f"Host: 127.0.0.1:{server.port}",
        "User-Agent: image-orchestrator",
    ]


@pytest.mark.parametrize(
    "said",
    [
        chunked(PNG[:10], PNG[10:], b""),
        b"HTTP/1.0 200 OK\r\n\r\n" + PNG,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + PNG,
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(PNG),
        answer(PNG, f"Content-Length: {len(PNG)}"),
        b"HTTP/1.1 200 OK\r\nContent-Length: %d, %d\r\n\r\n" % (len(PNG), len(PNG)) + PNG + b"x",
        answer(PNG, "Content-Encoding: identity"),
        answer(PNG, "Content-Encoding: Identity") + b"more than it said",
    ],
    ids=[
        *("chunked", "HTTP/1.0", "until closed", "after 100", "length twice", "length, length"),
        *("identity", "longer"),
    ],
)
def test_every_way_to_send_a_body_is_understood(serve: Serve, said: bytes) -> None:
    body, fetched = fetch(serve(once(said)).url)

    assert body == PNG
    assert fetched.content_type == ""


def test_a_long_content_type_is_cut(serve: Serve) -> None:
    server = serve(saying(answer(PNG, "Content-Type: image/" + "x" * 1000)))

    assert len(fetch(server.url)[1].content_type) == 100


@pytest.mark.parametrize("status", [201, 204, 206, 302, 304, 404, 410, 500, 503])
def test_any_status_but_200_fails_with_it(serve: Serve, status: int) -> None:
    failed = failure(serve(saying(answer(b"", status=status))).url)

    assert (failed.reason, failed.status) == (f"it answered {status}", status)
    assert failed.retry_after is None


def test_the_body_of_an_error_is_not_waited_for(serve: Serve) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.say(answer(PNG, status=404)[: -len(PNG)])  # no body ever comes
        peer.wait()

    into = io.BytesIO()
    with pytest.raises(RequestFailed, match="it answered 404"):
        session().fetch(serve(act).url, into, seconds=3600, max_bytes=MIB)

    assert into.getvalue() == b""


def test_the_advised_wait_is_told(serve: Serve) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    for text, least, most in (("17", 17, 17), (later, 50, 60), ("soon", None, None)):
        server = serve(saying(answer(b"", f"Retry-After: {text}", status=429)))
        wait = failure(server.url).retry_after
        assert wait is None if least is None or most is None else least <= (wait or 0) <= most


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_interim_answers_are_not_the_answer(serve: Serve, status: int) -> None:
    interim = b"HTTP/1.1 %d Wait\r\nRetry-After: 9\r\n\r\n" % status
    server, by = serve(saying(interim * 2 + answer(PNG))), session()

    for _ in range(2):
        assert fetch(server.url, by)[0] == PNG
        assert post(server.url, by) == PostAnswer(200, None)

    assert server.connections == 2, "a long answer to a POST closes its connection"


def test_a_connection_that_changed_its_protocol_is_not_used_again(serve: Serve) -> None:
    server = serve(saying(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"))
    by = session()

    for _ in range(2):
        assert post(server.url, by) == PostAnswer(101, None)
        with pytest.raises(RequestFailed) as caught:
            by.fetch(server.url, io.BytesIO(), seconds=3600, max_bytes=MIB)
        assert caught.value.status == 101

    assert server.connections == 4


def test_lines_after_the_body_say_nothing(serve: Serve) -> None:
    trailers = b"Retry-After: 9\r\nHTTP/1.1 500 x: y\r\nHTTP/1.1 x: y\r\n\r\n"
    body = chunked(b"ok", b"").removesuffix(b"\r\n") + trailers
    server, by = serve(saying(body)), session()

    for _ in range(2):
        assert post(server.url, by) == PostAnswer(200, None)
        assert fetch(server.url, by)[0] == b"ok"

    assert server.connections == 1


def test_a_header_that_looks_like_a_status_is_a_header(serve: Serve) -> None:
    server = serve(saying(answer(b"no", "HTTP/1.1 200 OK: x", status=404)))

    assert failure(server.url).status == 404


# What is no good answer ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (answer(PNG)[:-1], "the body broke off: the answer broke off"),
        (answer(PNG)[:99], "the body broke off: the answer broke off"),
        (chunked(PNG), "the body broke off: the answer broke off"),
        (chunked(PNG)[:-300], "the body broke off: the answer broke off"),
        (chunked(PNG) + b"nonsense\r\n", "the body broke off: the connection broke before the end"),
        (b"", "the connection was closed without an answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "the answer is not HTTP/1.1"),
        (b"<html>", "the answer is not HTTP/1.1"),
        (OK + b"X: 1\r\n" * 10_000 + b"\r\n", "the headers of the answer are too long"),
        (OK + b"X: " + b"1" * 400_000 + b"\r\n\r\n", "the headers of the answer are too long"),
        (OK + b"no header at all\r\n\r\n", "the answer is not HTTP/1.1"),
        (OK + b"Content-Length: ten\r\n\r\n", "the answer is not HTTP/1.1"),
        (answer(b"ab", "Content-Length: 3"), "the answer is not HTTP/1.1"),
    ],
    ids=[
        *("cut", "cut early", "no last chunk", "cut chunk", "bad chunk", "closed", "SSH", "HTML"),
        *("endless headers", "endless header", "no header", "no number", "two lengths"),
    ],
)
def test_an_answer_that_is_not_whole_fails(serve: Serve, said: bytes, reason: str) -> None:
    server = serve(once(said))

    assert reason in failure(server.url).reason
    assert server.connections == 1


def test_a_length_beyond_all_numbers_is_too_large(serve: Serve) -> None:
    server = serve(once(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + PNG))

    assert isinstance(failure(server.url), TooLarge)


def test_a_reset_in_the_body_fails_and_is_not_tried_again(serve: Serve) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.say(answer(PNG)[:5000])
        peer.reset()

    server = serve(act)

    assert failure(server.url).reason.startswith("the body broke off: ")
    assert server.connections == 1


def test_a_refused_connection_fails() -> None:
    assert failure("http://127.0.0.1:1").reason == "the connection was not made"


def test_a_name_that_does_not_resolve_fails(names: Names) -> None:
    reason = failure("https://nobody.example").reason

    assert reason == "the name of the host could not be resolved"


def test_no_reason_and_no_log_holds_a_secret_of_the_url(serve: Serve) -> None:
    odd = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nno header at all\r\nX: 1\r\n\r\n"
    with log_text(logging.INFO) as logged:
        for said in (odd, b"", b"nonsense", answer(PNG)[:99], answer(b"", status=403)):
            failed = failure(serve(once(said)).url + "/p?sig=hunter2")
            assert "hunter2" not in repr(failed) + repr(failed.__cause__) + failed.reason
    assert "hunter2" not in logged.getvalue()


def test_the_errors_survive_pickle() -> None:
    for kind in (RequestFailed, TooLarge):
        again = pickle.loads(pickle.dumps(kind("why", status=429, retry_after=1.5)))
        assert (type(again), str(again)) == (kind, "why")
        assert (again.reason, again.status, again.retry_after) == ("why", 429, 1.5)


def test_an_error_of_the_file_comes_through_and_spoils_the_connection(serve: Serve) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    server, by = serve(saying(answer(PNG))), session()

    with pytest.raises(OSError, match="No space left"):
        by.fetch(server.url, Full(), seconds=15, max_bytes=MIB)
    assert fetch(server.url, by)[0] == PNG
    assert server.connections == 2


# How large -----------------------------------------------------------------------------------


def test_a_body_of_exactly_the_limit_is_taken(serve: Serve) -> None:
    for said in (answer(PNG), chunked(PNG, b"")):
        assert fetch(serve(once(said)).url, max_bytes=len(PNG))[0] == PNG


def test_a_length_above_the_limit_is_refused_before_reading(serve: Serve) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.say(answer(PNG)[: -len(PNG)])  # no body ever comes
        peer.wait()

    failed = failure(serve(act).url, max_bytes=len(PNG) - 1)

    assert isinstance(failed, TooLarge)
    assert failed.reason == f"the body has more than {len(PNG) - 1} bytes"


def test_a_body_without_end_is_refused_while_reading(serve: Serve) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.say(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.say(PNG)

    into = io.BytesIO()
    with pytest.raises(TooLarge):
        session().fetch(serve(act).url, into, seconds=15, max_bytes=MIB)

    assert len(into.getvalue()) <= MIB


# POST ----------------------------------------------------------------------------------------


def post(url: str, by: GuardedSession | None = None, body: bytes = b"{}") -> PostAnswer:
    headers = {"Content-Type": "application/json", "user-agent": "us"}
    return (by or session()).post(url, body, headers, seconds=15)


def test_a_post_sends_its_body_and_headers_and_gives_the_status(serve: Serve) -> None:
    server = serve(saying(answer(b"ok", "Retry-After: 5", status=202)))

    assert post(f"{server.url}/in?a=b", body=b'{"a": 1}') == PostAnswer(202, 5.0)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /in?a=b HTTP/1.1\r\n")
    assert b"\r\nContent-Type: application/json" in head
    assert b"\r\nuser-agent: us" in head
    assert head.lower().count(b"user-agent") == 1
    assert body == b'{"a": 1}'


def test_an_empty_body_is_posted_with_its_length(serve: Serve) -> None:
    server = serve(saying(answer(b"")))

    assert post(server.url, body=b"") == PostAnswer(200, None)
    assert b"\r\nContent-Length: 0" in server.requests[0]


@pytest.mark.parametrize("status", [301, 307, 400, 410, 429, 500])
def test_every_status_is_an_answer_and_no_redirect_is_followed(serve: Serve, status: int) -> None:
    server = serve(saying(answer(b"", "Location: /elsewhere", status=status)))

    assert post(server.url) == PostAnswer(status, None)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("length", "used"), [(65535, 1), (65537, 2)])
def test_a_little_of_the_answers_body_is_thrown_away(serve: Serve, length: int, used: int) -> None:
    server, by = serve(saying(answer(b"x" * length))), session()

    for _ in range(2):
        assert post(server.url, by) == PostAnswer(200, None)
    assert server.connections == used


def test_an_answer_whose_body_breaks_off_is_an_answer(serve: Serve) -> None:
    server, by = serve(once(answer(PNG)[:99])), session()

    assert post(server.url, by) == post(server.url, by) == PostAnswer(200, None)


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nX"])
def test_what_is_no_http_answer_fails(serve: Serve, said: bytes) -> None:
    if said.endswith(b"X"):
        said += b"1" * 400_000
    server = serve(once(said))

    with pytest.raises(RequestFailed) as caught:
        post(server.url)
    assert caught.value.status is None
    assert server.connections == 1


def test_a_post_on_an_idle_connection_that_broke_off_is_not_sent_again(serve: Serve) -> None:
    server, by = serve(forgetful(1, b"ok")), session()
    post(server.url, by)

    with pytest.raises(RequestFailed, match="closed without an answer"):
        post(server.url, by)
    assert len(server.requests) == 2


def test_a_post_on_an_idle_connection_that_was_closed_uses_another_one(serve: Serve) -> None:
    server, by = serve(once(answer(b"ok"))), session()

    assert post(server.url, by) == PostAnswer(200, None)
    server.stop()  # the server has closed its side now
    assert post(server.url, by) == PostAnswer(200, None)
    assert len(server.requests) == 2


def test_a_post_goes_nowhere_it_may_not() -> None:
    with pytest.raises(Forbidden):
        post("https://127.0.0.1/", session(Guard()))
