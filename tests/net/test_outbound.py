"""The outbound proxy and a private authority, on the way to providers and to other hosts."""

from __future__ import annotations

import io
import socket
import threading
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.net import guarded_session
from orchestrator.net.guard import Forbidden, Guard
from orchestrator.net.guarded_session import GuardedSession, PostAnswer, RequestFailed
from orchestrator.net.http_types import Call, Reply
from orchestrator.net.proxy import Proxy
from orchestrator.providers import BUILT_IN
from orchestrator.providers.client import NoAnswer, NotSent, ProviderClient
from orchestrator.security.secret import Secret
from tests.net.asking import MIB, PNG, fetch, forgetful, serve, way
from tests.net.dns import Names, names
from tests.net.servers import HANG_SECONDS, Peer, Serve, answer, certificate, saying

__all__ = ["names", "serve", "way"]

OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"
PASSWORD = "p@ss:word"


@dataclass
class TunnelServer:
    """A proxy. It leads every tunnel to one port of 127.0.0.1, whatever address was asked for."""

    target: int
    greeting: bytes = OPENED
    #: The heads of the requests.
    asked: list[bytes] = field(default_factory=list)

    def serve(self, peer: Peer) -> None:
        self.asked.append(peer.request())
        peer.say(self.greeting)
        if b" 200 " not in self.greeting:
            return
        with socket.create_connection(("127.0.0.1", self.target)) as far:
            thread = threading.Thread(target=_copy, args=(far, peer.sock), daemon=True)
            thread.start()
            _copy(peer.sock, far)
            thread.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def ask(base_url: str, proxy: Proxy, ca_bundle: Path | None = None) -> Reply | NotSent | NoAnswer:
    more = {"ca_bundle": str(ca_bundle)} if ca_bundle else {}
    client = ProviderClient(connect_timeout=20, read_timeout=20, proxy=proxy, **more)  # type: ignore[arg-type]
    call = Call("POST", "/tasks", {"prompt": "a cube"})
    return client.call(BUILT_IN["hiapi"], call, base_url=base_url, api_key=Secret("key"))


def proxy_before(serve: Serve, port: int, greeting: bytes = OPENED) -> tuple[TunnelServer, Proxy]:
    tunnels = TunnelServer(port, greeting)
    server = serve(tunnels.serve)
    return tunnels, Proxy("127.0.0.1", server.port, "app", PASSWORD)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_provider_is_called_through_the_proxy(serve: Serve, tmp_path: Path, scheme: str) -> None:
    tls, _ = certificate(tmp_path, "api.provider.example")
    server = serve(saying(answer(b"{}")), tls if scheme == "https" else None)
    tunnels, proxy = proxy_before(serve, server.port)

    reply = ask(f"{scheme}://api.provider.example", proxy, tmp_path / "server.pem")

    assert reply == Reply(200, {"content-length": "2"}, b"{}")
    port = 443 if scheme == "https" else 80
    assert tunnels.asked[0].startswith(b"CONNECT api.provider.example:%d HTTP/1.1" % port)
    access = b64encode(f"app:{PASSWORD}".encode())
    assert b"Proxy-Authorization: Basic " + access in tunnels.asked[0]
    assert b"curl" not in tunnels.asked[0]
    assert access not in server.requests[0]


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize("value", ["*", "provider.example,198.51.100.0/24,8.8.8.8"])
def test_the_environment_opens_no_way_around_the_proxy(
    serve: Serve, names: Names, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    names["cdn.provider.example"] = (["8.8.8.8"],)
    server = serve(saying(answer(PNG)))
    tunnels, proxy = proxy_before(serve, server.port)
    by = GuardedSession(Guard(), connect_timeout=5, proxy=proxy)

    into = io.BytesIO()
    by.fetch("http://cdn.provider.example/", into, seconds=15, max_bytes=MIB, plain_http=True)
    assert isinstance(ask("http://api.provider.example", proxy), Reply)

    assert len(tunnels.asked) == 2


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses_sent_nothing(serve: Serve, status: int) -> None:
    greeting = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
    _, proxy = proxy_before(serve, 1, greeting)

    assert ask("https://api.provider.example", proxy) == NotSent(
        f"the outbound proxy answered {status}"
    )


def test_a_proxy_that_is_away_sent_nothing() -> None:
    assert ask("https://api.provider.example", Proxy("127.0.0.1", 1)) == NotSent(
        "the outbound proxy does not answer"
    )


def test_a_private_provider_is_called_directly(serve: Serve) -> None:
    server = serve(saying(answer(b"{}")))
    tunnels, proxy = proxy_before(serve, server.port)

    assert isinstance(ask(f"http://127.0.0.1:{server.port}", proxy), Reply)
    assert tunnels.asked == []


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888"])
def test_the_proxy_gets_the_address_that_the_guard_checked(
    serve: Serve, names: Names, tmp_path: Path, address: str, scheme: str
) -> None:
    tls, authority = certificate(tmp_path, "cdn.example")
    server = serve(saying(answer(PNG)), tls if scheme == "https" else None)
    tunnels, proxy = proxy_before(serve, server.port)
    names["cdn.example"] = ([address],)
    by = GuardedSession(
        Guard(allow_hosts=["cdn.example"]),
        connect_timeout=20,
        ca_bundle=str(authority),
        proxy=proxy,
    )
    url = f"{scheme}://cdn.example/0.png"

    assert [fetch(url, by)[0] for _ in range(2)] == [PNG, PNG]
    assert by.post(url, b"{}", {}, seconds=20) == PostAnswer(200, None)

    place = f"[{address}]" if ":" in address else address
    port = 443 if scheme == "https" else 80
    first, *others = tunnels.asked
    assert first.split(b"\r\n")[:2] == [
        f"CONNECT {place}:{port} HTTP/1.1".encode(),
        f"Host: {place}:{port}".encode(),
    ]
    assert others == []
    assert b"cdn.example" not in first
    assert server.sni == (["cdn.example"] if scheme == "https" else [])
    assert all(b"\r\nHost: cdn.example\r\n" in request for request in server.requests)


@pytest.mark.usefixtures("way")
def test_an_idle_tunnel_is_used_for_the_same_name_and_address_only(
    serve: Serve, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded_session, "ADDRESS_SECONDS", -1.0)
    server = serve(saying(answer(PNG)))
    tunnels, proxy = proxy_before(serve, server.port)
    names["cdn.example"] = (["8.8.8.8"], ["8.8.8.8"], ["8.8.4.4"], ["8.8.8.8"])
    names["other.example"] = (["8.8.8.8"],)
    by = GuardedSession(Guard(allow_hosts=["*.example"]), connect_timeout=20, proxy=proxy)

    hosts = ["cdn.example"] * 4 + ["other.example", "8.8.8.8"]
    for host in hosts:
        into = io.BytesIO()
        by.fetch(f"http://{host}/", into, seconds=20, max_bytes=MIB, plain_http=True)

    opened = [line.split(b" ")[1] for line in tunnels.asked]
    assert opened == [b"8.8.8.8:80", b"8.8.4.4:80", b"8.8.8.8:80", b"8.8.8.8:80"]
    asked = [request.split(b"\r\nHost: ")[1].split(b"\r\n")[0] for request in server.requests]
    assert asked == [host.encode() for host in hosts]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("private", ["10.0.0.1", "127.0.0.1"])
def test_a_name_that_changes_to_a_private_address_gets_no_tunnel(
    serve: Serve, names: Names, monkeypatch: pytest.MonkeyPatch, private: str
) -> None:
    monkeypatch.setattr(guarded_session, "ADDRESS_SECONDS", -1.0)
    server = serve(saying(answer(PNG)))
    tunnels, proxy = proxy_before(serve, server.port)
    names["cdn.example"] = (["8.8.8.8"], [private])
    by, into = GuardedSession(Guard(), connect_timeout=20, proxy=proxy), io.BytesIO()

    by.fetch("http://cdn.example/", into, seconds=20, max_bytes=MIB, plain_http=True)
    with pytest.raises(Forbidden):
        by.fetch("http://cdn.example/", into, seconds=20, max_bytes=MIB, plain_http=True)

    assert len(tunnels.asked) == len(server.requests) == 1


@pytest.mark.usefixtures("way")
def test_a_post_on_an_idle_tunnel_that_broke_off_is_not_sent_again(
    serve: Serve, names: Names
) -> None:
    server = serve(forgetful(1, b"ok"))
    _, proxy = proxy_before(serve, server.port)
    names["cdn.example"] = (["8.8.8.8"],)
    guard = Guard(allow_hosts=["cdn.example"])
    by = GuardedSession(guard, connect_timeout=20, proxy=proxy)

    assert by.post("http://cdn.example/", b"{}", {}, seconds=20) == PostAnswer(200, None)
    with pytest.raises(RequestFailed):
        by.post("http://cdn.example/", b"{}", {}, seconds=20)

    assert len(server.requests) == 2


@pytest.mark.usefixtures("way")
def test_the_guard_refuses_before_the_proxy_is_asked(serve: Serve, names: Names) -> None:
    tunnels, proxy = proxy_before(serve, 1)
    names["cdn.example"] = (["169.254.169.254"],)
    by = GuardedSession(Guard(), connect_timeout=20, proxy=proxy)

    with pytest.raises(Forbidden):
        fetch("https://cdn.example/", by)

    assert tunnels.asked == []


@pytest.mark.usefixtures("way")
def test_an_allowed_private_host_is_called_directly(serve: Serve) -> None:
    server = serve(saying(answer(PNG)))
    tunnels, proxy = proxy_before(serve, 1)
    by = GuardedSession(Guard(allow_private=True), connect_timeout=20, proxy=proxy)

    assert fetch(f"http://127.0.0.1:{server.port}/", by)[0] == PNG
    assert tunnels.asked == []


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (b"HTTP/1.1 403 No\r\n\r\n", "the outbound proxy answered 403"),
        (b"SSH-2.0-x\r\n\r\n", "the outbound proxy opened no connection"),
        (b"HTTP/1.1 200", "the outbound proxy opened no connection"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 100_000, "the headers of the answer are too long"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OPENED, "the outbound proxy answered 100"),
    ],
)
def test_a_refusal_of_the_proxy_has_a_reason(
    serve: Serve, names: Names, greeting: bytes, reason: str
) -> None:
    names["cdn.example"] = (["8.8.8.8"],)
    server = serve(lambda peer: (peer.request(), peer.say(greeting))[0])
    by = GuardedSession(Guard(), connect_timeout=20, proxy=Proxy("127.0.0.1", server.port))

    with pytest.raises(RequestFailed, match=reason):
        fetch("https://cdn.example/", by)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("status", [100, 302, 407, 502])
def test_a_refusal_without_end_is_not_read(serve: Serve, names: Names, status: int) -> None:
    names["cdn.example"] = (["8.8.8.8"],)
    hung_up = threading.Event()

    def flood(peer: Peer) -> None:
        peer.request()
        peer.say(f"HTTP/1.1 {status} No\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        try:
            while not peer.server.over.is_set():
                peer.say(b"5\r\nfalse\r\n" * 100)
        except OSError:
            hung_up.set()

    server = serve(flood)
    by = GuardedSession(Guard(), connect_timeout=20, proxy=Proxy("127.0.0.1", server.port))
    timer = threading.Timer(HANG_SECONDS, server.stop)  # ends a client that goes on reading
    timer.start()

    with pytest.raises(RequestFailed, match=f"the outbound proxy answered {status}"):
        fetch("https://cdn.example/", by)

    assert hung_up.wait(HANG_SECONDS)
    assert not server.over.is_set()
    timer.cancel()


@pytest.mark.parametrize(
    "url", ["proxy:3128", "socks5://proxy:1080", "http://proxy", "http://proxy:1/path", "http://:1"]
)
def test_another_form_of_the_proxy_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the setting has the message
        Proxy.parse(url)


def test_a_proxy_shows_no_password() -> None:
    proxy = Proxy.parse("http://app:p%40ss%3Aword@[::1]:3128")

    assert (proxy.host, proxy.port, proxy.user, proxy.password) == ("::1", 3128, "app", PASSWORD)
    assert proxy.url == "http://[::1]:3128"
    assert PASSWORD not in repr(proxy)
