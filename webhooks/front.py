"""Takes requests in an event loop, and gives them to the Flask application in threads.

A request holds a thread only while the application works on it. An enqueue and a callback, which
wait for nothing but Redis, hold none (`orchestrator/step_loop.py`). The body of a request is read
before (`request_bodies.py`), and a wait for an outcome needs no thread (`held_answers.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import IO, Any, BinaryIO, cast

from orchestrator import log, step_loop
from orchestrator.api import compatible, holds, problems, request_ids
from orchestrator.api.holds import Hold
from orchestrator.ledger.subscription import Subscription
from webhooks.exchange import (
    PART_BYTES,
    AbsentBody,
    Answer,
    BodyWanted,
    Exchange,
    Headers,
    Receive,
    Scope,
    Send,
    answer_of,
)
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

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Front:
    """An ASGI application around a WSGI application.

    Args:
        app: the WSGI application.
        max_body_bytes: what is read of a body at most. The limits of all routes are lower.
        max_held: answers that may be held at once.
        subscribe: makes a subscription that reports the channels that changed.
        at_start: is called in the thread of the event loop, with the loop.
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
        at_start: Callable[[asyncio.AbstractEventLoop], None] = lambda _: None,
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
        self._at_start = at_start
        self._at_end = at_end
        self._refused = log.RateLimitedLog("request_refused")

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the threads."""
        self._loop = loop
        step_loop.prepare(loop)
        self._threads = Threads(loop, THREADS)
        self._bodies = RequestBodies(loop, self._max_body_bytes, self._ask_early)
        self._held = HeldAnswers(loop, self._threads, self._max_held, self._subscribe)
        self._again = asyncio.Semaphore(MAX_ANSWERED_AGAIN)

    def stop(self) -> None:
        """Answer all held requests now, and hold no more."""
        self._held.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. The server also says here when the process starts and ends."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        exchange = Exchange(scope, receive, send)
        answer = await self._answer_to(exchange)
        if answer is not None:
            await exchange.answer(answer, self._read)

    async def refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request in place of the application, because there are too many clients."""
        exchange = Exchange(scope, receive, send)
        answer = self._refusal(exchange, "too many connections are open")
        await exchange.answer(answer, self._read)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self.start(asyncio.get_running_loop())
        self._at_start(self._loop)
        await send({"type": "lifespan.startup.complete"})
        log.get().info("web_started")
        await receive()
        self._held.close()
        self._at_end()
        await send({"type": "lifespan.shutdown.complete"})

    async def _read(self, file: BinaryIO) -> bytes:
        return await self._threads.run(file.read, PART_BYTES)

    async def _answer_to(self, exchange: Exchange) -> Answer | None:
        """Return the answer to a request, or None when its client has gone away."""
        if self._threads.waiting() > MAX_WAITING:
            return self._refusal(exchange, "too many requests wait for a thread")
        try:
            body = await self._bodies.read(exchange)
        except TooManyBodies:
            return self._refusal(exchange, "too many large bodies are on their way")
        if isinstance(body, Answer):
            return body
        with body:
            path = self._own_path(exchange.path)
            if isinstance(body, BytesIO) and self._is_short(exchange.method, path):
                answer = await step_loop.as_step(self._ask, exchange, body)
            else:
                may_hold = self._held.has_room()
                answer = await self._threads.run(self._ask, exchange, body, may_hold, True)
            if isinstance(answer, Hold):
                return await self._answer_later(exchange, body, answer)
            return answer

    async def _answer_later(self, exchange: Exchange, body: IO[bytes], hold: Hold) -> Answer | None:
        """Hold an answer, and ask the application again, until its answer is final."""
        ends = self._loop.time() + hold.seconds
        again: Answer | Hold = hold
        if hold.stream is not None and exchange.takes_chunks:
            await exchange.begin_stream(hold.stream)
        if hold.state is not None:
            exchange.state = hold.state
            body.close()  # it may be large, and the wait long
            body = BytesIO()
        while isinstance(again, Hold):
            if not await self._held.wait(again, ends, exchange):
                return None
            async with self._again:
                may_hold = self._loop.time() < ends and not self._held.stopping
                body.seek(0)
                call = self._threads.run(self._ask, exchange, body, may_hold)
                answering = self._loop.create_task(call)
                await asyncio.wait({answering}, timeout=LONG_SECONDS)
            again = await answering
        return again

    async def _ask_early(self, exchange: Exchange) -> Answer | None:
        """Ask the application without the body. Return None if it needs it."""
        try:
            return cast("Answer", await self._threads.run(self._ask, exchange, AbsentBody()))
        except BodyWanted:
            return None

    def _ask(
        self, exchange: Exchange, body: Any, may_hold: bool = False, first: bool = False
    ) -> Answer | Hold:
        """Ask the application, in a thread or as a step. Return its answer, or a hold instead.

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
            return answer_of(started.status, started.headers, parts)
        except Exception as error:
            log.get().exception("request_crashed", error=type(error).__name__)
            return self._problem(exchange, 500, "internal-server-error", problems.CRASHED, {})

    def _refusal(self, exchange: Exchange, reason: str) -> Answer:
        self._refused.warning("503", reason=reason)
        exchange.closing = True
        detail = f"{reason}; send the request again"
        return self._problem(exchange, 503, "service-unavailable", detail, {"Retry-After": "1"})

    def _problem(
        self, exchange: Exchange, status: int, kind: str, detail: str, headers: dict[str, str]
    ) -> Answer:
        """Return a problem document that the application did not write, in the client's shape."""
        title, path = kind.replace("-", " ").title(), self._own_path(exchange.path)
        answer = problems.problem(status, kind, title, detail, headers=headers)
        answer = compatible.in_clients_shape(answer, path, exchange.headers)
        answer.headers[request_ids.HEADER] = exchange.request_id
        return answer_of(answer.status, list(answer.headers), [answer.get_data()])


class _Started:
    """`start_response` of a request."""

    __slots__ = ("headers", "status")

    def __call__(self, status: str, headers: Headers, _: Any = None) -> None:
        self.status, self.headers = status, headers


def _no_op() -> None:
    pass
