"""How the tests ask with a guarded session, and what their servers say."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.net.guard import Guard
from orchestrator.net.guarded_session import FetchedBody, GuardedSession, PostAnswer, RequestFailed
from orchestrator.net.transfers import DEFAULT_CA_BUNDLE
from orchestrator.step_loop import StepLoop
from tests.net.servers import Peer, Serve, answer, serving
from tests.support.steps import begin

PNG = b"\x89PNG" + bytes(range(256)) * 1000
JPEG, WEBP = b"\xff\xd8\xff\xe0" + PNG[8:], b"RIFF\0\1\0\0WEBPVP8 " + PNG[8:]
MIB = 1024 * 1024
#: The longest wait for a call in a step loop. Seconds.
LIMIT = 120


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving() as begin:
        yield begin


@pytest.fixture(params=["thread", "loop"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have every call of a guarded session block its thread, or run in a step loop."""
    if request.param == "thread":
        yield request.param
        return
    loop, fetch, post = StepLoop(), GuardedSession.fetch, GuardedSession.post

    def fetch_in_loop(self: GuardedSession, *args: Any, **options: Any) -> FetchedBody:
        return begin(loop, fetch, self, *args, **options).result(LIMIT)

    def post_in_loop(self: GuardedSession, *args: Any, **options: Any) -> PostAnswer:
        return begin(loop, post, self, *args, **options).result(LIMIT)

    monkeypatch.setattr(GuardedSession, "fetch", fetch_in_loop)
    monkeypatch.setattr(GuardedSession, "post", post_in_loop)
    yield request.param
    loop.stop()


def session(guard: Guard | None = None, authority: Path | None = None) -> GuardedSession:
    """Return a session. `authority` is a file with the only certificate that it trusts."""
    return GuardedSession(
        guard or Guard(allow_private=True),
        connect_timeout=5,
        ca_bundle=str(authority) if authority else DEFAULT_CA_BUNDLE,
    )


def fetch(
    url: str, by: GuardedSession | None = None, *, max_bytes: int = MIB
) -> tuple[bytes, FetchedBody]:
    into = io.BytesIO()
    fetched = (by or session()).fetch(url, into, seconds=15, max_bytes=max_bytes)
    return into.getvalue(), fetched


def failure(url: str, by: GuardedSession | None = None, *, max_bytes: int = MIB) -> RequestFailed:
    with pytest.raises(RequestFailed) as caught:
        fetch(url, by, max_bytes=max_bytes)
    return caught.value


def chunked(*pieces: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def to(location: str, status: int = 302) -> bytes:
    return answer(b"moved", f"Location: {location}", status=status)


def forgetful(answers: int, body: bytes = PNG) -> Callable[[Peer], None]:
    """Breaks a connection off when one request more than these comes on it."""

    def act(peer: Peer) -> None:
        for _ in range(answers):
            peer.request()
            peer.say(answer(body))
        peer.request()
        peer.reset()

    return act
