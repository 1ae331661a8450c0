"""Takes requests in an event loop, and gives them to the Flask application in threads.

A request holds a thread only while the application works on it. An enqueue and a callback, which
wait for nothing but Redis, hold none (`orchestrator/step_loop.py`). The body of a request is read
before (`request_bodies.py`), and a wait for an outcome needs no thread (`held_answers.py`).
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import IO, Any

from orchestrator import log, step_loop
from orchestrator.api import compatible, holds, problems, request_ids
from orchestrator.api.holds import Hold
from orchestrator.ledger.subscription import Subscription
from webhooks.exchange import AbsentBody, BodyWanted, Exchange, Headers, ServerProtocol
from webhooks.held_answers import HeldAnswers
from webhooks.request_bodies import RequestBodies, TooManyBodies
from webhooks.threads import LONG_SECONDS, Threads

#: Threads of a process for requests.
THREADS = 8
#: Requests that may wait for a thread. A further one is answered 503.
MAX_WAITING = 1000
#: Held answers that are given again at once, those that take long left out. The other threads stay
#: free for new requests.
MAX_ANSWERED_AGAIN = 4
#: The server has opened the file of an answer after this time. Seconds.
FILE_OPEN_SECONDS = 30.0

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Front:
    """An RSGI application around a WSGI application.

    Args:
        app: the WSGI application.
        max_body_bytes: what is read of a body at most. The limits of all routes are lower.
        max_held: answers that may be held at once.
        subscribe: makes a subscription that reports the channels that changed.
        at_end: is called when the process ends cleanly.
        is_short: returns whether the application needs a short time for a request, by its method
            and path. A short request with a small body is a step of the event loop.
        own_path: returns the path of a request as the application has it in its routes.
    """

    def __init__(
        self,
        app: Application,
        *,
        max_body_bytes: int,
        max_held: int,
        subscribe: Callable[[Callable[[str], None]], Subscription],
        at_end: Callable[[], None] = lambda: None,
        is_short: Callable[[str, str], bool] = lambda _, __: False,
        own_path: Callable[[str], str] = lambda path: path,
    ) -> None:
        self._app = app
        self._is_short = is_short
        self._own_path = own_path
        self._max_body_bytes = max_body_bytes
        self._max_held = max_held
        self._subscribe = subscribe
        self._at_end = at_end
        self._refused = log.RateLimitedLog("request_refused")
        #: Client -> its requests whose answers are held. HTTP/2 has several on a connection.
        self._held_for = Counter[str]()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the threads."""
        self._loop = loop
        step_loop.prepare(loop)
        self._threads = Threads(loop, THREADS)
        self._bodies = RequestBodies(loop, self._max_body_bytes, self._ask_early)
        self._held = HeldAnswers(loop, self._threads, self._max_held, self._subscribe)
        self._again = asyncio.Semaphore(MAX_ANSWERED_AGAIN)

    def stop(self) -> None:
        """Answer all held requests now."""
        self._held.stop()

    def is_held(self, client: str) -> bool:
        """Return whether an answer is held for a client. Any thread may ask."""
        return client in self._held_for

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start. SIGTERM answers all held requests, and then does what granian does on SIGINT."""

        def end() -> None:
            self.stop()
            signal.raise_signal(signal.SIGINT)

        self.start(loop)
        loop.add_signal_handler(signal.SIGTERM, end)

    def __rsgi_del__(self, _: asyncio.AbstractEventLoop) -> None:
        """End the connection to Redis, and what else the process has."""
        self._held.close()
        self._at_end()

    async def __rsgi__(self, scope: Any, protocol: ServerProtocol) -> None:
        """Answer one request."""
        exchange = Exchange(scope, protocol)
        if self._threads.waiting() > MAX_WAITING:
            self._refuse(exchange, "too many requests wait for a thread")
            return
        try:
            body = await self._bodies.read(exchange)
        except TooManyBodies:
            self._refuse(exchange, "too many large bodies are on their way")
            return
        if body is None:
            return
        with body:
            path = self._own_path(exchange.path)
            if isinstance(body, BytesIO) and self._is_short(exchange.method, path):
                await step_loop.as_step(self._answer, exchange, body, False, False)
                return
            may_hold = self._held.has_room()
            hold = await self._threads.run(self._answer, exchange, body, may_hold, True)
            if hold is None:
                return
            self._held_for[exchange.client] += 1
            try:
                await self._answer_later(exchange, body, hold)
            finally:
                self._held_for[exchange.client] -= 1
                if not self._held_for[exchange.client]:
                    del self._held_for[exchange.client]

    async def _answer_later(self, exchange: Exchange, body: IO[bytes], hold: Hold) -> None:
        """Hold an answer, and ask the application again, until its answer is final."""
        ends = self._loop.time() + hold.seconds
        again: Hold | None = hold
        if hold.stream is not None:
            exchange.begin_stream(hold.stream)
        if hold.state is not None:
            exchange.state = hold.state
            body.close()  # it may be large, and the wait long
            body = BytesIO()
        while again is not None:
            if not await self._held.wait(again, ends, exchange):
                return
            async with self._again:
                may_hold = self._loop.time() < ends and not self._held.stopping
                body.seek(0)
                call = self._threads.run(self._answer, exchange, body, may_hold, False)
                answering = self._loop.create_task(call)
                await asyncio.wait({answering}, timeout=LONG_SECONDS)
            again = await answering
        await exchange.end_stream()

    async def _ask_early(self, exchange: Exchange) -> bool:
        """Ask the application without the body. Return whether it has answered."""
        try:
            await self._threads.run(self._answer_early, exchange)
        except BodyWanted:
            return False
        return True

    def _answer_early(self, exchange: Exchange) -> None:
        closing, exchange.closing = exchange.closing, True
        try:
            self._answer(exchange, AbsentBody(), False, False)
        except BodyWanted:
            exchange.closing = closing
            raise

    def _answer(self, exchange: Exchange, body: Any, may_hold: bool, first: bool) -> Hold | None:
        """Ask the application in a thread, and send its answer. Return a hold instead of it.

        Args:
            exchange: the request.
            body: its body.
            may_hold: whether the answer may be held.
            first: whether the application was not asked before.
        """
        started = _Started()
        try:
            environ = exchange.environ(body)
            parts = self._app(environ, started)
            hold = holds.taken_from(environ)
            if hold is not None and may_hold:
                getattr(parts, "close", _no_op)()
                return hold
            if hold is not None and first:
                started.headers.append(("Retry-After", "1"))
            file = exchange.answer(started.status, started.headers, parts)
            if file is not None:
                self._loop.call_soon_threadsafe(
                    self._loop.call_later, FILE_OPEN_SECONDS, file.close
                )
        except Exception as error:
            log.get().exception("request_crashed", error=type(error).__name__)
            self._answer_problem(exchange, 500, "internal-server-error", problems.CRASHED, {})
        return None

    def _refuse(self, exchange: Exchange, reason: str) -> None:
        self._refused.warning("503", reason=reason)
        exchange.closing = True
        detail = f"{reason}; send the request again"
        self._answer_problem(exchange, 503, "service-unavailable", detail, {"Retry-After": "1"})

    def _answer_problem(
        self, exchange: Exchange, status: int, kind: str, detail: str, headers: dict[str, str]
    ) -> None:
        """Send a problem document that the application did not write, in the client's shape."""
        title, path = kind.replace("-", " ").title(), self._own_path(exchange.path)
        answer = problems.problem(status, kind, title, detail, headers=headers)
        answer = compatible.in_clients_shape(answer, path, exchange.headers)
        answer.headers[request_ids.HEADER] = exchange.request_id
        exchange.answer(answer.status, list(answer.headers), [answer.get_data()])


class _Started:
    """`start_response` of a request."""

    __slots__ = ("headers", "status")

    def __call__(self, status: str, headers: Headers, _: Any = None) -> None:
        self.status, self.headers = status, headers


def _no_op() -> None:
    pass
