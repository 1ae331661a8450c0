"""Redirects of hosts that others chose."""

from __future__ import annotations

import pytest

from orchestrator.net.guard import Forbidden, Guard
from tests.net.asking import PNG, failure, fetch, serve, session, to, way
from tests.net.dns import Names, names
from tests.net.servers import Peer, Serve, answer, saying

__all__ = ["names", "serve", "way"]

pytestmark = pytest.mark.usefixtures("way")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(serve: Serve, status: int) -> None:
    end = serve(saying(answer(PNG)))
    begin = serve(saying(to(f"{end.url}/b?c=d#e", status)))

    assert fetch(f"{begin.url}/a")[0] == PNG
    assert end.requests[0].startswith(b"GET /b?c=d HTTP/1.1\r\n")
    assert begin.requests[0].startswith(b"GET /a HTTP/1.1\r\n")


def test_a_relative_redirect_is_followed_and_may_be_utf8(serve: Serve) -> None:
    def act(peer: Peer) -> None:
        path = peer.request().split()[1]
        peer.say(to("c/é") if path == b"/a/b" else answer(PNG))

    server = serve(act)

    assert fetch(f"{server.url}/a/b")[0] == PNG
    assert server.requests[-1].startswith(b"GET /a/c/%C3%A9 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("  /c d.png\t", "/c%20d.png"),
        ("/c%20d.png?a=b c", "/c%20d.png?a=b%20c"),
        ("HTTP://127.0.0.1:{port}/x", "/x"),
        ("//127.0.0.1:{port}/x#y", "/x"),
        ("\\\\127.0.0.1:{port}\\x", "/x"),
        ("http://127.0.0.1:{port}/\u00fcber?q=\u00e9", "/%C3%BCber?q=%C3%A9"),
        ("../up?to=../x", "/up?to=../x"),
    ],
)
def test_a_redirect_is_read_as_a_browser_reads_it(serve: Serve, location: str, path: str) -> None:
    def act(peer: Peer) -> None:
        asked = peer.request().split()[1]
        place = location.format(port=server.port)
        peer.say(to(place) if asked == b"/a/b" else answer(PNG))

    server = serve(act)

    assert fetch(f"{server.url}/a/b")[0] == PNG
    assert server.requests[-1].startswith(f"GET {path} HTTP/1.1\r\n".encode())


def test_plain_http_to_a_public_host_is_allowed_on_request(serve: Serve, names: Names) -> None:
    names["cdn.example"] = (["203.0.113.7"],)  # a documentation address, never called
    guard = Guard()

    with pytest.raises(Forbidden, match="only https"):
        session(guard).check("http://cdn.example/x.png")
    session(guard).check("http://cdn.example/x.png", plain_http=True)
    for url in ("http://127.0.0.1/x", "http://cdn.example:6379/x", "http://cdn.example:22/x"):
        with pytest.raises(Forbidden):
            session(guard).check(url, plain_http=True)


@pytest.mark.parametrize(("redirects", "good"), [(5, True), (6, False)])
def test_at_most_five_redirects_are_followed(serve: Serve, redirects: int, good: bool) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        peer.say(to("/again") if peer.number <= redirects else answer(PNG))

    server = serve(act)

    if good:
        assert fetch(server.url)[0] == PNG
    else:
        assert failure(server.url).reason == "more than 5 redirects"
    assert server.connections == 6


@pytest.mark.parametrize(
    "location",
    [
        *("http://127.0.0.1:{}/", "//127.0.0.1:{}/", "https://127.0.0.1:{}/", "http://[::1]:{}/"),
        *("http://localhost:{}/", "http://0x7f.1:{}/", "http://user@127.0.0.1:{}/", "http://["),
        *("https://169.254.169.254/latest", "file:///etc/passwd", "/\\127.0.0.1:{}/"),
        *("https://inside.example:{}/", "http://outside.example/", "https://cdn.example:6379/"),
    ],
)
def test_a_redirect_to_where_nobody_may_go_is_not_followed(
    serve: Serve, names: Names, location: str
) -> None:
    names["inside.example"] = (["127.0.0.1"],)
    inside = serve(saying(answer(PNG)))
    begin = serve(saying(to(location.format(inside.port))))
    by = session(Guard(allow_hosts=[f"127.0.0.1:{begin.port}"]))

    with pytest.raises(Forbidden):
        fetch(begin.url, by)

    assert (begin.connections, inside.connections) == (1, 0)
