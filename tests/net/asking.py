"""How the tests ask with a guarded session, and what their servers say."""

from __future__ import annotations

import io
import ssl
from collections.abc import Callable, Iterator
from tempfile import NamedTemporaryFile

import pytest

from orchestrator.net.deadline import DEFAULT_CA_BUNDLE
from orchestrator.net.guard import Guard
from orchestrator.net.guarded_session import FetchedBody, GuardedSession, RequestFailed
from tests.net.servers import Peer, Serve, answer, serving

PNG = b"\x89PNG" + bytes(range(256)) * 1000
JPEG, WEBP = b"\xff\xd8\xff\xe0" + PNG[8:], b"RIFF\0\1\0\0WEBPVP8 " + PNG[8:]
MIB = 1024 * 1024


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving() as begin:
        yield begin


def session(guard: Guard | None = None, tls: ssl.SSLContext | None = None) -> GuardedSession:
    return GuardedSession(
        guard or Guard(allow_private=True),
        connect_timeout=5,
        tls=tls,
        ca_bundle=_bundle(tls) if tls else DEFAULT_CA_BUNDLE,
    )


def _bundle(tls: ssl.SSLContext) -> str:
    """Return a file with the authorities that a context trusts."""
    listed = map(ssl.DER_cert_to_PEM_cert, tls.get_ca_certs(binary_form=True))
    with NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.writelines(listed)
    return file.name


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
