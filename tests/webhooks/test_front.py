"""The front without a server: bodies, early answers, held answers and answers of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from werkzeug.utils import send_file

from orchestrator.api.holds import ENVIRON_KEY, STATE_KEY, EventStream, Hold
from orchestrator.jsonio import parse
from orchestrator.ledger import LedgerUnavailable
from orchestrator.step_loop import in_thread
from webhooks import exchange, held_answers, request_bodies
from webhooks import front as front_module
from webhooks import threads as threads_module
from webhooks.exchange import MAX_ANSWER_BYTES, PART_BYTES
from webhooks.front import Application, Front
from webhooks.threads import Threads

#: The body limit of the front under test. Bytes.
MAX_BODY_BYTES = 500_000


@pytest.fixture(autouse=True)
def _no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the rest of a body that does not come."""
    monkeypatch.setattr(exchange, "LINGER_SECONDS", 0.0)


class FakeSubscription:
    """A subscription whose messages a test sends."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self.changed = changed
        self.channels: list[str] = []

    def add(self, channel: str) -> None:
        self.channels.append(channel)
        self.changed(channel)

    def remove(self, channel: str) -> None:
        self.channels.remove(channel)

    def close(self) -> None:
        pass


class Exchanged:
    """The server's side of a request: sends its body, and takes its answer."""

    def __init__(self, *parts: bytes, complete: bool = True) -> None:
        self._parts = list(parts) or [b""]
        self._complete = complete
        self.rest = asyncio.Event()
        self.gone = asyncio.Event()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.read = 0
        self.is_over = False

    async def receive(self) -> dict[str, Any]:
        if self._parts:
            part = self._parts.pop(0)
            self.read += len(part)
            more = bool(self._parts) or not self._complete
            return {"type": "http.request", "body": part, "more_body": more}
        await (self.gone if self._complete else self.rest).wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        assert not self.is_over
        if message["type"] == "http.response.start":
            assert not self.status
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        assert self.status
        self.body += message["body"]
        self.is_over = not message["more_body"]


class Scene:
    """A front around an application."""

    def __init__(self, app: Application, max_held: int = 10, short_path: str = "") -> None:
        self.subscriptions: list[FakeSubscription] = []
        self.front = Front(
            app,
            max_body_bytes=MAX_BODY_BYTES,
            max_held=max_held,
            subscribe=self._subscribe,
            is_short=lambda _, path: path == short_path,
            own_path=lambda path: path.removeprefix("/below"),
        )
        self.front.start(asyncio.get_running_loop())

    def _subscribe(self, changed: Callable[[str], None]) -> Any:
        self.subscriptions.append(FakeSubscription(changed))
        return self.subscriptions[-1]

    def begin(
        self,
        exchanged: Exchanged,
        method: str = "GET",
        path: str = "/x",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        version: str = "1.1",
    ) -> asyncio.Task[None]:
        """Begin a request."""
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode()) for name, value in pairs],
            "query_string": b"",
            "http_version": version,
            "scheme": "http",
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 5000),
        }
        call = self.front(scope, exchanged.receive, exchanged.send)
        return asyncio.get_running_loop().create_task(call)

    async def post(self, exchanged: Exchanged, **headers: str) -> Exchanged:
        """Post a body, and return after the request."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await self.begin(exchanged, method="POST", headers=named)
        return exchanged


def reading(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
    """An application that reads the body, unless the token is wrong."""
    if environ.get("HTTP_TOKEN") == "wrong":
        start("404 Not Found", [])
        return [b"no"]
    body = environ["wsgi.input"].read()
    start("200 OK", [("X-Length", str(len(body)))])
    return [body[:10]]


def run(play: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(120):
            await play()

    asyncio.run(limited())


def test_short_requests_with_small_bodies_hold_no_thread() -> None:
    threads: list[str] = []

    def app(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        threads.append(threading.current_thread().name)
        return reading(environ, start)

    async def play() -> None:
        scene = Scene(app, short_path="/x")
        for size in (1, 60_000):
            answer = await scene.post(Exchanged(b"x" * size), content_length=str(size))
            assert answer.headers["x-length"] == str(size)
        await scene.post(Exchanged(b"x" * 70_000), content_length="70000")

    run(play)
    assert threads == [
        "MainThread",
        "MainThread",
        "request",
        "request",
    ]  # a large one is asked early


def test_short_requests_that_hang_hold_up_no_others() -> None:
    go_on = threading.Event()

    def app(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        in_thread(go_on.wait, 60 if "HTTP_HANGS" in environ else 0)
        start("200 OK", [])
        return [b"done"]

    async def play() -> None:
        scene, last = Scene(app, short_path="/x"), Exchanged()
        answers = [Exchanged() for _ in range(50)]
        hanging = [scene.begin(each, headers={"hangs": "1"}) for each in answers]
        try:
            await asyncio.wait_for(scene.begin(last), 30)
            assert last.body == b"done"
            assert not any(task.done() for task in hanging)
        finally:
            go_on.set()
        await asyncio.gather(*hanging)

    run(play)


# Bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 60_000, 70_000, 400_000])
def test_a_body_reaches_the_application_as_it_is(size: int) -> None:
    async def play() -> None:
        body = Exchanged(b"x" * (size - 1), b"y")
        answer = await Scene(reading).post(body, content_length=str(size))
        assert (answer.status, answer.headers["x-length"]) == (200, str(size))
        assert "connection" not in answer.headers

    run(play)


@pytest.mark.parametrize("headers", [{"content_length": "100"}, {"transfer_encoding": "chunked"}])
def test_a_slow_body_is_not_waited_for_after_an_early_answer(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_bodies, "SLOW_SECONDS", 0.0)

    async def play() -> None:
        body = Exchanged(b"x", complete=False)
        answer = await Scene(reading).post(body, token="wrong", **headers)
        assert (answer.status, answer.headers["connection"]) == (404, "close")

    run(play)


@pytest.mark.parametrize("headers", [{"content_length": "100"}, {"transfer_encoding": "chunked"}])
def test_a_body_that_takes_too_long_is_given_up(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_bodies, "MAX_BODY_SECONDS", 0.0)

    async def play() -> None:
        answer = await Scene(reading).post(Exchanged(b"x", complete=False), **headers)
        assert (answer.status, answer.headers["connection"]) == (200, "close")

    run(play)


def test_a_body_that_is_cut_off_reaches_the_application_as_far_as_it_came() -> None:
    async def play() -> None:
        body = Exchanged(b"x" * 70_000, complete=False)
        body.rest.set()
        answer = await Scene(reading).post(body, content_length="100000")
        assert answer.headers["x-length"] == "70000"

    run(play)


def test_little_more_of_a_body_is_read_than_any_route_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange, "LINGER_BYTES", 65_536)

    async def play() -> None:
        body = Exchanged(*[b"x" * 65_536] * 100)
        answer = await Scene(reading).post(body, transfer_encoding="chunked")
        assert answer.read < MAX_BODY_BYTES + 3 * 65_536
        assert answer.headers["connection"] == "close"

    run(play)


def test_so_many_large_bodies_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_bodies, "MAX_LARGE_BODIES", 1)
    monkeypatch.setattr(request_bodies, "LARGE_WAIT_SECONDS", 0.01)

    async def play() -> None:
        scene, first = Scene(reading), Exchanged(b"x", complete=False)
        task = scene.begin(first, method="POST", headers={"content-length": "100000"})
        while not first.read:
            await asyncio.sleep(0)
        refused = await scene.post(Exchanged(b"x"), content_length="100000", x_request_id="mine")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["x-request-id"] == "mine"
        assert refused.headers["connection"] == "close"
        assert parse(refused.body)["status"] == 503
        small = await scene.post(Exchanged(b"x"), content_length="1")
        assert small.status == 200
        first.rest.set()
        await task
        later = await scene.post(Exchanged(b"x"), content_length="100000")
        assert later.status == 200

    run(play)


@pytest.mark.parametrize("length", ["10", "100000"])
def test_a_request_that_is_cancelled_while_its_body_comes_is_not_answered(length: str) -> None:
    async def play() -> None:
        scene, body = Scene(reading), Exchanged(b"x", complete=False)
        task = scene.begin(body, method="POST", headers={"content-length": length})
        while not body.read:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert body.status == 0

    run(play)


def test_an_early_answer_after_the_body_has_come_cancels_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_bodies, "SLOW_SECONDS", 0)
    monkeypatch.setattr(request_bodies, "CHECK_SECONDS", 0.001)
    asked, go_on = threading.Event(), threading.Event()

    def app(_: Any, start: Any) -> Iterable[bytes]:
        asked.set()
        assert go_on.wait(60)
        start("401 Unauthorized", [])
        return [b"no key"]

    async def play() -> None:
        scene, body = Scene(app), Exchanged(b"x", complete=False)
        task = scene.begin(body, method="POST", headers={"content-length": "10"})
        while not asked.is_set():
            await asyncio.sleep(0.001)
        body.rest.set()
        while scene.front._bodies._readings:
            await asyncio.sleep(0.001)
        go_on.set()
        await task
        assert (body.status, body.body) == (401, b"no key")

    run(play)


def test_a_cancelled_call_holds_up_no_other() -> None:
    go_on = threading.Event()

    async def play() -> None:
        threads = Threads(asyncio.get_running_loop(), 2)
        cancelled = asyncio.create_task(threads.run(go_on.wait, 60))
        other = asyncio.create_task(threads.run(go_on.wait, 60))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        threads._waking = True  # both calls end before the loop is woken
        go_on.set()
        while len(threads._ended) < 2:
            await asyncio.sleep(0.001)
        if not threads._ended[0][0].cancelled():
            threads._ended.rotate()
        threads._deliver()
        assert await other

    run(play)


def test_calls_that_hang_hold_up_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "LONG_SECONDS", 0.02)
    go_on = threading.Event()

    async def play() -> None:
        threads = Threads(asyncio.get_running_loop(), 2)
        hanging = [asyncio.create_task(threads.run(go_on.wait, 60)) for _ in range(5)]
        await asyncio.sleep(0)
        assert await asyncio.wait_for(threads.run(lambda: "answered"), 30) == "answered"
        assert not any(task.done() for task in hanging)
        go_on.set()
        assert all(await asyncio.gather(*hanging))
        while threads._started > 2 or threads.waiting():  # the others end when nobody hangs
            await asyncio.sleep(0.001)

    run(play)


def test_a_thread_beside_a_call_that_hangs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "LONG_SECONDS", 0.0)
    go_on = threading.Event()

    async def play() -> None:
        threads = Threads(asyncio.get_running_loop(), 1)
        hanging = asyncio.create_task(threads.run(go_on.wait, 60))
        while not threads._began:
            await asyncio.sleep(0.001)
        with capture_logs() as lines:
            assert await threads.run(lambda: "answered") == "answered"
            while not lines:
                await asyncio.sleep(0.001)
        assert lines[0]["event"] == "requests_take_long"
        go_on.set()
        assert await hanging
        while threads._started > 1:
            await asyncio.sleep(0.001)

    run(play)


def test_calls_that_hang_have_so_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "LONG_SECONDS", 0.0)
    monkeypatch.setattr(threads_module, "MAX_LONG_CALLS", 2)
    go_on = threading.Event()

    async def play() -> None:
        threads = Threads(asyncio.get_running_loop(), 1)
        hanging = [asyncio.create_task(threads.run(go_on.wait, 60)) for _ in range(6)]
        while len(threads._began) < 3:
            await asyncio.sleep(0.001)
        threads._check()
        assert (threads._started, threads.waiting()) == (3, 3)
        go_on.set()
        assert all(await asyncio.gather(*hanging))

    run(play)


# Held answers ----------------------------------------------------------------------------------


class Job:
    """A job whose route holds its answer while it is open."""

    def __init__(self, seconds: float = 3600) -> None:
        self.open = True
        self.away = False
        self.seconds = seconds
        self.checks = 0

    def over(self) -> bool:
        self.checks += 1
        if self.away:
            raise LedgerUnavailable("away")
        return not self.open

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        start("200 OK", [])
        if self.open and not self.away:
            environ[ENVIRON_KEY] = Hold("channel", self.over, self.seconds)
        return [b"open" if self.open else b"done"]


async def held(scene: Scene, number: int = 1) -> None:
    """Return when so many answers are held."""
    while len(scene.subscriptions[0].channels) < number:
        await asyncio.sleep(0.001)


def test_held_answers_that_hang_hold_up_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "LONG_SECONDS", 0.02)
    monkeypatch.setattr(front_module, "LONG_SECONDS", 0.02)
    go_on = threading.Event()

    class HangingJob(Job):
        def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
            if not self.open and "HTTP_HANGS" in environ:
                go_on.wait(60)
            return super().__call__(environ, start)

    async def play() -> None:
        job = HangingJob()
        scene, answers = Scene(job), [Exchanged() for _ in range(6)]
        hanging = [scene.begin(each, headers={"hangs": "1"}) for each in answers[1:]]
        await held(scene, 5)
        waiting = scene.begin(answers[0])
        await held(scene, 6)
        job.open = False
        scene.subscriptions[0].changed("channel")
        await waiting
        assert answers[0].body == b"done"
        assert not any(task.done() for task in hanging)
        go_on.set()
        await asyncio.gather(*hanging)

    run(play)


class StatefulJob(Job):
    """A job whose route keeps a state, and may begin a stream."""

    def __init__(self, stream: EventStream | None = None, rest: bytes = b"done") -> None:
        super().__init__()
        self.stream = stream
        self.rest = rest
        #: The body and the state of each time that the application was asked.
        self.asked: list[tuple[bytes, Any]] = []

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        self.asked.append((environ["wsgi.input"].read(), environ.get(STATE_KEY)))
        start("200 OK", [("X-Late", "1")])
        if self.open:
            stream = self.stream if len(self.asked) == 1 else None
            hold = Hold("channel", self.over, self.seconds, len(self.asked), stream)
            environ[ENVIRON_KEY] = hold
        return [self.rest]


def test_a_state_is_given_in_the_place_of_the_body() -> None:
    async def play() -> None:
        job = StatefulJob()
        scene, body = Scene(job), Exchanged(b"x" * 70_000)
        task = scene.begin(body, method="POST", headers={"content-length": "70000"})
        await held(scene)
        job.open = False
        scene.subscriptions[0].changed("channel")
        await task
        assert body.body == b"done"
        assert [(len(read), state) for read, state in job.asked] == [(70_000, None), (0, 1)]

    run(play)


@pytest.mark.parametrize("size", [4, MAX_ANSWER_BYTES + 100_000])
def test_a_stream_begins_with_the_hold_and_ends_with_the_answer(size: int) -> None:
    async def play() -> None:
        stream = EventStream((("Content-Type", "text/event-stream"),), b":\n", 0.001)
        job, answer = StatefulJob(stream, b"y" * size), Exchanged()
        scene = Scene(job)
        task = scene.begin(answer)
        while answer.body.count(b":\n") < 3:
            await asyncio.sleep(0.001)
        assert (answer.status, answer.headers) == (200, {"content-type": "text/event-stream"})
        job.open = False
        scene.subscriptions[0].changed("channel")
        await task
        assert answer.body.lstrip(b":\n") == b"y" * size
        assert (answer.status, "x-late" in answer.headers) == (200, False)

    run(play)


def test_a_client_without_chunks_gets_a_stream_as_one_answer() -> None:
    async def play() -> None:
        job, answer = StatefulJob(EventStream((), b":\n", 0.001)), Exchanged()
        scene = Scene(job)
        task = scene.begin(answer, version="1.0")
        await held(scene)
        job.open = False
        scene.subscriptions[0].changed("channel")
        await task
        assert (answer.body, answer.headers["content-length"]) == (b"done", "4")

    run(play)


def test_a_client_that_leaves_a_stream_is_no_error() -> None:
    async def play() -> None:
        job, answer = StatefulJob(EventStream((), b":\n", 0.001)), Exchanged()
        scene = Scene(job)
        task = scene.begin(answer)
        await held(scene)
        answer.gone.set()
        await task
        assert scene.subscriptions[0].channels == []

    run(play)


def test_a_held_answer_is_given_when_its_channel_reports_the_change() -> None:
    async def play() -> None:
        job = Job()
        scene, answers = Scene(job), [Exchanged() for _ in range(3)]
        tasks = [scene.begin(each) for each in answers]
        await held(scene, 3)
        scene.subscriptions[0].changed("channel")  # nothing is new
        job.open = False
        scene.subscriptions[0].changed("channel")
        await asyncio.gather(*tasks)
        assert [each.body for each in answers] == [b"done"] * 3
        assert scene.subscriptions[0].channels == []

    run(play)


def test_signs_of_life_of_a_stream_ask_redis_no_more_often() -> None:
    """A client chooses their interval."""

    async def play() -> None:
        job, answer = StatefulJob(EventStream((), b":\n", 0.001)), Exchanged()
        scene = Scene(job)
        task = scene.begin(answer)
        await held(scene)
        while len(answer.body) < 100:
            await asyncio.sleep(0.001)
        assert job.checks == 1  # a subscription reports its beginning
        answer.gone.set()
        await task

    run(play)


def test_a_stream_lives_on_while_another_job_is_waited_for() -> None:
    """A call for several images holds its answer once for each job."""

    async def play() -> None:
        job, answer = StatefulJob(EventStream((), b":\n", 0.001)), Exchanged()
        job.over = lambda: len(job.asked) == 1  # type: ignore[method-assign]
        task = Scene(job).begin(answer)
        while len(job.asked) < 2:
            await asyncio.sleep(0.001)
        sent = len(answer.body)
        while len(answer.body) < sent + 20:
            await asyncio.sleep(0.001)
        answer.gone.set()
        await task

    run(play)


def test_a_lost_message_delays_an_answer_until_the_next_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(held_answers, "CHECK_SECONDS", 0.01)

    async def play() -> None:
        job, answer = Job(), Exchanged()
        scene = Scene(job)
        task = scene.begin(answer)
        await held(scene)
        job.open = False
        await task
        assert answer.body == b"done"

    run(play)


def test_the_end_of_the_time_gives_the_answer_as_it_is() -> None:
    async def play() -> None:
        answer = Exchanged()
        await Scene(Job(seconds=0.01)).begin(answer)
        assert (answer.body, "retry-after" in answer.headers) == (b"open", False)

    run(play)


def test_redis_that_goes_away_ends_the_hold() -> None:
    async def play() -> None:
        job, answer = Job(), Exchanged()
        scene = Scene(job)
        task = scene.begin(answer)
        await held(scene)
        job.away = True
        scene.subscriptions[0].changed("channel")
        await task
        assert answer.status == 200

    run(play)


def test_a_client_that_goes_away_frees_its_place() -> None:
    async def play() -> None:
        scene, answer = Scene(Job(), max_held=1), Exchanged()
        task = scene.begin(answer)
        await held(scene)
        full = Exchanged()
        await scene.begin(full)
        assert (full.body, full.headers["retry-after"]) == (b"open", "1")
        answer.gone.set()
        await task
        assert (answer.status, scene.subscriptions[0].channels) == (0, [])

    run(play)


def test_a_stop_answers_all_who_wait_and_holds_nobody_more() -> None:
    async def play() -> None:
        job, answer, late = StatefulJob(rest=b"open"), Exchanged(), Exchanged()
        scene = Scene(job)
        task = scene.begin(answer)
        await held(scene)
        scene.front.stop()
        await task
        assert len(job.asked) == 2, "it is asked once more, and not held again"
        await scene.begin(late)
        assert (answer.body, late.body) == (b"open", b"open")

    run(play)


# Answers ---------------------------------------------------------------------------------------


def test_an_application_that_breaks_is_a_500_with_the_id_of_the_request() -> None:
    def breaking(*_: Any) -> Iterable[bytes]:
        raise ValueError

    async def play() -> None:
        answer = Exchanged()
        await Scene(breaking).begin(answer)
        assert answer.status == 500
        assert answer.headers["x-request-id"].startswith("req_")

    run(play)


def test_a_request_is_refused_when_too_many_wait_for_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(front_module, "MAX_WAITING", -1)

    async def play() -> None:
        answer = Exchanged()
        await Scene(reading).begin(answer)
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert answer.headers["content-type"] == "application/problem+json"

    run(play)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/images/generations", {}, None),
        ("/v1/models", {}, None),
        ("/v1beta/models/banana:generateContent", {}, "UNAVAILABLE"),
        ("/v1/models/banana:generateContent", {"x-goog-api-key": "k"}, "UNAVAILABLE"),
        ("/below/v1beta/models/banana:generateContent", {}, "UNAVAILABLE"),
    ],
)
def test_a_refusal_of_the_front_has_the_shape_of_the_client(
    monkeypatch: pytest.MonkeyPatch, path: str, headers: dict[str, str], status: str | None
) -> None:
    monkeypatch.setattr(front_module, "MAX_WAITING", -1)

    async def play() -> None:
        answer = Exchanged()
        await Scene(reading).begin(answer, path=path, headers=headers)
        error = parse(answer.body)["error"]
        assert "send the request again" in error["message"]
        assert error.get("status") == status
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"].startswith("req_")

    run(play)


def test_a_long_answer_goes_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []

    class Parts:
        def __iter__(self) -> Any:
            return iter([b"x" * MAX_ANSWER_BYTES, b"y", b"z"])

        def close(self) -> None:
            closed.append(True)

    def long(_: Any, start: Any) -> Iterable[bytes]:
        start("200 OK", [])
        return Parts()

    async def play() -> None:
        answer = Exchanged()
        await Scene(long).begin(answer)
        assert answer.body == b"x" * MAX_ANSWER_BYTES + b"yz"
        assert answer.headers["content-length"] == str(MAX_ANSWER_BYTES + 2)
        assert closed == [True]

    run(play)


@pytest.mark.parametrize("asked", [None, "bytes=5-1500000"])
def test_a_file_and_a_part_of_it_are_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: str | None
) -> None:
    content = bytes(range(256)) * 8000
    (tmp_path / "image").write_bytes(content)

    def app(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        response = send_file(tmp_path / "image", environ, mimetype="image/png", conditional=True)
        return response(environ, start)

    async def play() -> None:
        answer = Exchanged()
        await Scene(app).begin(answer, headers={"range": asked} if asked else {})
        expected = content[5:1_500_001] if asked else content
        assert (answer.status, answer.body == expected) == (206 if asked else 200, True)
        assert answer.headers["content-length"] == str(len(expected))
        assert "date" not in answer.headers, "the server adds one"

    run(play)


def test_a_file_is_not_read_for_a_client_that_went_away(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"x" * PART_BYTES * 8)

    class Leaving(Exchanged):
        async def send(self, message: dict[str, Any]) -> None:
            await super().send(message)
            if self.body:
                self.gone.set()

    def app(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        return send_file(tmp_path / "image", environ, mimetype="image/png")(environ, start)

    async def play() -> None:
        answer = Leaving()
        await Scene(app).begin(answer)
        assert PART_BYTES <= len(answer.body) < PART_BYTES * 8

    run(play)


def test_headers_that_come_twice_and_a_path_that_is_not_ascii() -> None:
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        seen.update(environ)
        start("200 OK", [])
        return [b""]

    twice = [("x-a", "1"), ("x-a", "2"), ("content-type", "a/b"), ("upgrade", "websocket")]

    async def play() -> None:
        await Scene(app).begin(Exchanged(), path="/\u00e4", headers=twice)

    run(play)
    assert (seen["HTTP_X_A"], seen["CONTENT_TYPE"]) == ("1,2", "a/b")
    assert "HTTP_UPGRADE" not in seen  # an offer that we do not take
    assert seen["PATH_INFO"] == "/\u00e4".encode().decode("latin-1")


def test_a_header_with_another_separator_does_not_change_the_length_or_the_type() -> None:
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        seen.update(environ)
        start("200 OK", [])
        return [b""]

    async def play() -> None:
        names = ("content-length", "content_length", "content-type", "content_type")
        values = ("4", "1", "text/plain", "application/json")
        headers = dict(zip(names, values, strict=True))
        await Scene(app).begin(Exchanged(b"body"), method="POST", headers=headers)

    run(play)
    assert (seen["CONTENT_LENGTH"], seen["CONTENT_TYPE"]) == ("4", "text/plain")
