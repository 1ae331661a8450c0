"""Calls to providers, against real sockets: was the request sent, and is there a whole answer?"""

from __future__ import annotations

import gzip
import io
import os
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from email import message_from_bytes

import pytest
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from orchestrator.jobs.request import JobRequest
from orchestrator.net.http_types import Call, File, Reply
from orchestrator.providers import BUILT_IN, client
from orchestrator.providers.client import NoAnswer, NotSent, ProviderClient
from orchestrator.security.secret import Secret
from orchestrator.step_loop import StepLoop
from tests.providers.adapter import multipart_example
from tests.support.fakes import API_KEY
from tests.support.providers import ACCEPTING_FILES
from tests.support.steps import begin

#: What a server does with one connection.
Act = Callable[[socket.socket], None]
#: Starts a server; gives its base URL.
Serve = Callable[[Act], str]

CALL = Call("POST", "/v1/tasks", {"Idempotency-Key": "job_1.1"}, {"prompt": "A red cube"})
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
TIMEOUT_SECONDS = 60.0


def request(connection: socket.socket) -> bytes:
    """Read one request, with its body."""
    data = _some(connection)
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(s.split(b":")[1]) for s in lines if s.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += _some(connection)
    return head + b"\r\n\r\n" + body


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the client hung up")
    return data


def answering(answer: bytes) -> Act:
    """Answer one request with these bytes, and hang up."""

    def act(connection: socket.socket) -> None:
        request(connection)
        connection.sendall(answer)

    return act


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:

        def begin(act: Act) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def handle(connection: socket.socket) -> None:
                with connection, suppress(OSError):  # the client may hang up at any time
                    act(connection)

            def accept() -> None:
                with suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        thread = threading.Thread(target=handle, args=(connection,))
                        thread.start()
                        stack.callback(thread.join, TIMEOUT_SECONDS)

            thread = threading.Thread(target=accept)
            thread.start()
            stack.callback(thread.join, TIMEOUT_SECONDS)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield begin


@pytest.fixture(autouse=True, params=["thread", "step loop"])
def _place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the calls of each test once in its own thread, and once as steps of a step loop."""
    if request.param == "thread":
        yield
        return
    steps, in_this_thread = StepLoop(), ProviderClient.call
    monkeypatch.setattr(
        ProviderClient,
        "call",
        lambda *args, **options: begin(steps, in_this_thread, *args, **options).result(60),
    )
    yield
    steps.stop()


def ask(
    client: ProviderClient, base_url: str, call: Call = CALL, *, fresh_connection: bool = False
) -> Reply | NotSent | NoAnswer:
    return client.call(
        BUILT_IN["hiapi"],
        call,
        base_url=base_url,
        api_key=Secret(API_KEY),
        fresh_connection=fresh_connection,
    )


def call(base_url: str, *, connect: float = 2, read: float = 2) -> Reply | NotSent | NoAnswer:
    return ask(ProviderClient(connect_timeout=connect, read_timeout=read), base_url)


# Not sent ------------------------------------------------------------------------------------


def test_a_refused_connection_received_nothing() -> None:
    assert call("http://127.0.0.1:1") == NotSent("the connection was not made")


def test_a_name_that_does_not_exist_received_nothing() -> None:
    assert isinstance(call("https://no-such-provider.invalid"), NotSent)


def test_a_connection_that_is_never_made_received_nothing() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with ExitStack() as full:
            for _ in range(3):  # more than the backlog holds: further ones get no answer
                waiting = full.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
            answer = call(f"http://127.0.0.1:{port}", connect=0.2)

    assert isinstance(answer, NotSent)


def test_tls_to_a_port_that_speaks_none_received_nothing(serve: Serve) -> None:
    seen = bytearray()

    def plain(connection: socket.socket) -> None:
        seen.extend(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    answer = call(serve(plain).replace("http:", "https:"))

    assert isinstance(answer, NotSent)
    assert b"A red cube" not in seen


def test_a_tls_handshake_that_breaks_off_received_nothing(serve: Serve) -> None:
    url = serve(lambda connection: connection.close())

    assert isinstance(call(url.replace("http:", "https:")), NotSent)


def test_a_tls_handshake_that_never_ends_received_nothing(serve: Serve) -> None:
    done = threading.Event()

    def silent(_: socket.socket) -> None:
        done.wait(TIMEOUT_SECONDS)

    url = serve(silent)
    answer = call(url.replace("http:", "https:"), connect=0.1, read=0.1)
    done.set()

    assert isinstance(answer, NotSent)


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "\u20ac"])
def test_a_header_that_http_cannot_hold_is_never_sent(serve: Serve, value: str) -> None:
    url = serve(lambda connection: pytest.fail(f"received {request(connection)!r}"))
    client = ProviderClient(connect_timeout=2, read_timeout=2)

    answer = ask(client, url, replace(CALL, headers={"Idempotency-Key": value}))

    assert answer == NotSent("the request cannot be written as HTTP")


# No answer -----------------------------------------------------------------------------------


def test_a_request_without_an_answer_in_time_may_have_arrived(serve: Serve) -> None:
    done = threading.Event()

    def silent(connection: socket.socket) -> None:
        request(connection)
        done.wait(TIMEOUT_SECONDS)

    answer = call(serve(silent), read=0.1)
    done.set()

    assert isinstance(answer, NoAnswer)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1",
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 6000 + b"\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 19\r\n\r\n"
        + gzip.compress(b'{"x":1}')[:19],
    ],
    ids=lambda answer: repr(answer[:60]),
)
def test_an_answer_that_is_cut_off_or_garbled_may_follow_a_request_that_arrived(
    serve: Serve, answer: bytes
) -> None:
    assert isinstance(call(serve(answering(answer))), NoAnswer)


def test_a_connection_that_is_reset_after_the_request_may_have_delivered_it(serve: Serve) -> None:
    def reset(connection: socket.socket) -> None:
        request(connection)
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    assert isinstance(call(serve(reset)), NoAnswer)


def test_an_answer_that_drips_is_not_waited_for_beyond_the_limit(serve: Serve) -> None:
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(3000):  # a minute
            if over.wait(0.02):
                return
            connection.sendall(b" ")
        over.set()  # the client waited for the whole minute

    url = serve(drip)
    answer = call(url, connect=0.2, read=0.2)
    assert not over.is_set()
    over.set()

    assert answer == NoAnswer("the answer did not end in time")


def test_an_answer_that_is_too_large_is_not_read_to_its_end(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 100_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"

    assert isinstance(call(serve(answering(head % 100_000 + b" " * 100_000))), Reply)
    assert call(serve(answering(head % 100_001 + b" " * 100_001))) == NoAnswer(
        "the answer is larger than 100000 bytes"
    )


@pytest.mark.parametrize("status", [200, 302])
def test_a_bomb_is_not_unpacked(serve: Serve, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 4 * 1024 * 1024)
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(40)) + packer.flush()
    head = b"HTTP/1.1 %d X\r\nLocation: /\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    url = serve(answering(head % (status, len(bomb)) + bomb))

    tracemalloc.start()
    answer = call(url)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert isinstance(answer, NoAnswer)
    assert peak < 8 * client.MAX_ANSWER_BYTES


def test_an_answer_is_not_kept_after_its_call(serve: Serve) -> None:
    size = 4 * 1024 * 1024
    url = serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)))
    session = ProviderClient(connect_timeout=20, read_timeout=20)

    tracemalloc.start()
    assert isinstance(ask(session, url), Reply)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak > size > 4 * kept


def test_an_answer_in_parts_of_one_byte_takes_little_memory(serve: Serve) -> None:
    head, size = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 100_000
    url = serve(answering(head + b"1\r\n \r\n" * size + b"0\r\n\r\n"))

    tracemalloc.start()
    answer = call(url, read=60)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert isinstance(answer, Reply)
    assert len(answer.body) == size
    assert peak < 30 * size


# Answers -------------------------------------------------------------------------------------


def test_a_whole_answer_is_read_with_its_headers_in_lower_case(serve: Serve) -> None:
    body = gzip.compress(b'{"x":1}')
    head = (
        b"HTTP/1.1 429 Slow\r\nRetry-AFTER: 7\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n"
    )

    answer = call(serve(answering(head % len(body) + b"\r\n" + body)))

    assert isinstance(answer, Reply)
    assert (answer.status, answer.headers["retry-after"], answer.body) == (429, "7", b'{"x":1}')


@pytest.mark.parametrize("coding", ["", "utf-8", "binary", "aws-chunked", "gzip", "br", "identity"])
def test_an_answer_in_no_such_coding_is_taken_as_it_is(serve: Serve, coding: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: 7\r\n\r\n"

    answer = call(serve(answering(head.encode() + b'{"x":1}')))

    assert isinstance(answer, Reply)
    assert answer.body == b'{"x":1}'


@pytest.mark.parametrize("size", [10, 100_000])
def test_an_answer_in_several_codings_is_unpacked(serve: Serve, size: int) -> None:
    content = os.urandom(size)
    body = gzip.compress(zlib.compress(content)) + b"more"
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: aws-chunked, deflate, x-gzip\r\n"

    answer = call(serve(answering(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)))

    assert isinstance(answer, Reply)
    assert answer.body == content


def test_an_answer_that_arrives_byte_by_byte_is_put_together(serve: Serve) -> None:
    body = gzip.compress(b'{"x":1}')

    def pieces(connection: socket.socket) -> None:
        request(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        for byte in head % len(body) + body:
            connection.sendall(bytes([byte]))

    answer = call(serve(pieces))

    assert isinstance(answer, Reply)
    assert answer.body == b'{"x":1}'


@pytest.mark.parametrize("target", ["/elsewhere", "http://[::1", "http://", "https://e.example/"])
def test_a_redirect_is_not_followed_and_its_target_not_looked_at(serve: Serve, target: str) -> None:
    received_requests: list[bytes] = []

    def redirect(connection: socket.socket) -> None:
        received_requests.append(request(connection))
        head = f"HTTP/1.1 307 Elsewhere\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"
        connection.sendall(head.encode())

    answer = call(serve(redirect))

    assert isinstance(answer, Reply)
    assert (answer.status, answer.headers["location"]) == (307, target)
    assert len(received_requests) == 1


def test_the_request_is_sent_as_it_was_written(serve: Serve) -> None:
    received_requests: list[bytes] = []

    def take(connection: socket.socket) -> None:
        received_requests.append(request(connection))
        connection.sendall(OK)

    call(serve(take) + "/base")

    [text] = received_requests
    head, _, body = text.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /base/v1/tasks HTTP/1.1\r\n")
    assert f"Authorization: Bearer {API_KEY}".encode() in head
    assert b"Idempotency-Key: job_1.1" in head
    assert b"Content-Type: application/json" in head
    assert body == b'{"prompt":"A red cube"}'


# Files ---------------------------------------------------------------------------------------


def form_of(text: bytes) -> tuple[dict[str, list[str]], dict[str, tuple[str, str, bytes]]]:
    """The fields and the files of a form, as a web framework reads them."""
    head, _, body = text.partition(b"\r\n\r\n")
    headers = message_from_bytes(head.partition(b"\r\n")[2])
    assert int(headers["Content-Length"]) == len(body)
    kind, options = parse_options_header(headers["Content-Type"])
    parser = FormDataParser(silent=False)
    _, fields, files = parser.parse(io.BytesIO(body), kind, len(body), options)
    taken = {}
    for name, file in files.items():
        with closing(file):
            taken[name] = (file.filename or "", file.content_type or "", file.read())
    return dict(fields.lists()), taken


def sent(serve: Serve, call: Call) -> bytes:
    """What a call sends, from its first byte to its last."""
    received_requests: list[bytes] = []

    def take(connection: socket.socket) -> None:
        received_requests.append(request(connection))
        connection.sendall(OK)

    answer = ask(ProviderClient(connect_timeout=2, read_timeout=2), serve(take), call)
    assert isinstance(answer, Reply)
    return received_requests[0]


def test_the_documented_form_goes_out_as_a_multipart_form_with_its_file(serve: Serve) -> None:
    form = multipart_example()
    assert form.pop("image").startswith("@")
    body = {**form, "n": int(form["n"])}
    native = JobRequest(ACCEPTING_FILES[0], form["model"], native=body)
    provider, content = BUILT_IN[ACCEPTING_FILES[0]], bytes(range(256)) * 300 + b"\r\n--x\r\n"
    plain = provider.submit_call(provider.body(native), None, "key")
    file = File(provider.capabilities.upload_field or "", "input.png", "image/png", content)

    text = sent(serve, replace(plain, file=file))

    fields, files = form_of(text)
    assert text.startswith(b"POST /v1/images/tasks HTTP/1.1\r\n")
    assert f"Authorization: Bearer {API_KEY}".encode() in text
    assert fields == {name: [value] for name, value in form.items()}
    assert files == {"image": ("input.png", "image/png", content)}


def test_values_that_are_not_text_are_json_in_a_form(serve: Serve) -> None:
    body = {"n": 2, "on": True, "none": None, "list": ["a", 1], "map": {"x": "\u00e9"}, "t": ""}
    file = File("image", "a.png", "image/png", b"")

    fields, files = form_of(sent(serve, Call("POST", "/x", {}, body, file)))

    assert fields == {
        "n": ["2"],
        "on": ["true"],
        "none": ["null"],
        "list": ['["a",1]'],
        "map": ['{"x":"\u00e9"}'],
        "t": [""],
    }
    assert files == {"image": ("a.png", "image/png", b"")}


@pytest.mark.parametrize("name", ['a"b.png', "a\r\nX-Evil: 1.png", "\u00e9.png", "a;b.png", "a b"])
@pytest.mark.parametrize("text", ['"', "a\r\n--x--\r\n", "\u00e9\U0001f9ff", "a=b&c"])
def test_a_name_or_a_text_stays_inside_its_part(serve: Serve, name: str, text: str) -> None:
    file = File("image", name, "image/png", b"png")

    request_text = sent(serve, Call("POST", "/x", {}, {"prompt": text}, file))

    fields, files = form_of(request_text)
    assert fields == {"prompt": [text]}
    assert b"\nX-Evil" not in request_text
    assert files["image"][1:] == ("image/png", b"png")


def test_a_connection_is_used_again_and_cookies_are_not_kept(serve: Serve) -> None:
    connections: list[int] = []
    received_requests: list[bytes] = []

    def keep(connection: socket.socket) -> None:
        connections.append(connection.fileno())
        for _ in range(3):
            received_requests.append(request(connection))
            connection.sendall(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\n\r\n"))

    url, session = serve(keep), ProviderClient(connect_timeout=2, read_timeout=2)
    answers = [ask(session, url) for _ in range(3)]

    assert all(isinstance(answer, Reply) for answer in answers)
    assert (len(connections), len(received_requests)) == (1, 3)
    assert not any(b"cookie" in text.lower() for text in received_requests)


def test_a_kept_connection_that_the_provider_closed_is_replaced(serve: Serve) -> None:
    url, session = serve(answering(OK)), ProviderClient(connect_timeout=2, read_timeout=2)

    answers = [ask(session, url) for _ in range(3)]

    assert all(isinstance(answer, Reply | NoAnswer) for answer in answers)
    assert isinstance(answers[0], Reply)


@pytest.mark.parametrize(("method", "sent"), [("POST", 2), ("GET", 3)])
def test_a_request_that_may_buy_something_is_not_sent_again_by_itself(
    serve: Serve, method: str, sent: int
) -> None:
    """The provider closes an idle connection when the next request has arrived on it."""
    received: list[bytes] = []

    def act(connection: socket.socket) -> None:
        for _ in range(2 if not received else 1):
            received.append(request(connection))
            if len(received) != 2:
                connection.sendall(OK)

    url, session = serve(act), ProviderClient(connect_timeout=20, read_timeout=20)
    first = ask(session, url, Call(method, "/v1/tasks"))
    second = ask(session, url, Call(method, "/v1/tasks"))

    assert isinstance(first, Reply)
    assert isinstance(second, NoAnswer if method == "POST" else Reply)
    assert len(received) == sent


@pytest.mark.parametrize("late", [b"", OK.replace(b"{}", b"22")], ids=["closed", "more bytes"])
def test_an_idle_connection_that_is_spoiled_is_not_used_again(serve: Serve, late: bytes) -> None:
    """What came late on it belongs to an earlier request, which may be another customer's."""
    answered, spoiled = threading.Event(), threading.Event()
    connections: list[int] = []

    def act(connection: socket.socket) -> None:
        connections.append(connection.fileno())
        request(connection)
        connection.sendall(OK)
        if spoiled.is_set():
            return
        answered.wait(TIMEOUT_SECONDS)
        connection.sendall(late)
        if not late:
            connection.shutdown(socket.SHUT_WR)
        spoiled.set()
        request(connection)

    url, session = serve(act), ProviderClient(connect_timeout=20, read_timeout=20)
    first = ask(session, url)
    answered.set()
    assert spoiled.wait(TIMEOUT_SECONDS)
    second = ask(session, url)

    assert [each.body for each in (first, second) if isinstance(each, Reply)] == [b"{}", b"{}"]
    assert len(connections) == 2


def test_a_call_that_must_not_be_repeated_uses_no_idle_connection(serve: Serve) -> None:
    """The provider reads the second request of a connection and closes it without an answer."""

    def act(connection: socket.socket) -> None:
        request(connection)
        connection.sendall(OK)
        request(connection)

    url, session = serve(act), ProviderClient(connect_timeout=20, read_timeout=20)

    answers = [ask(session, url, fresh_connection=True) for _ in range(4)]

    assert [type(answer) for answer in answers] == [Reply] * 4


def test_proxies_and_passwords_of_the_environment_are_not_used(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert isinstance(call(serve(answering(OK))), Reply)


# Secrets -------------------------------------------------------------------------------------


def test_no_failure_shows_the_key_the_address_or_the_body(serve: Serve) -> None:
    failures = [
        call("http://127.0.0.1:1"),
        call("https://no-such-provider.invalid"),
        call(serve(answering(b""))),
        call(serve(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"))),
        call(serve(answering(OK)).replace("http:", "https:"), connect=0.1),
    ]

    for failure in failures:
        assert isinstance(failure, NotSent | NoAnswer)
        assert failure.reason
        for hidden in (API_KEY, "Bearer", "red cube", "127.0.0.1", "no-such-provider", "/v1"):
            assert hidden not in repr(failure)
