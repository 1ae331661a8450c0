"""Where the guarded session connects to, with which name, and when it connects again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.net import guarded_session
from orchestrator.net.guard import Forbidden, Guard
from orchestrator.net.guarded_session import RequestFailed
from tests.net.asking import PNG, chunked, failure, fetch, forgetful, serve, session, to, way
from tests.net.dns import Names, names
from tests.net.servers import Peer, Serve, answer, certificate, once, saying

__all__ = ["names", "serve", "way"]

pytestmark = pytest.mark.usefixtures("way")


# Where a connection goes ---------------------------------------------------------------------


def test_only_the_checked_addresses_of_a_name_are_used(serve: Serve, names: Names) -> None:
    server = serve(once(answer(PNG)))
    names["cdn.example"] = (["127.0.0.1"], ["127.0.0.2", "169.254.169.254"])
    by, url = session(), f"http://cdn.example:{server.port}/"

    assert fetch(url, by)[0] == PNG
    assert fetch(url, by)[0] == PNG  # over a new connection
    assert names.asked == ["cdn.example"]

    again = session()
    names["cdn.example"] = (["127.0.0.1", "169.254.169.254"],)
    with pytest.raises(Forbidden):
        fetch(url, again)


def test_a_known_address_is_forgotten(
    serve: Serve, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded_session, "ADDRESS_SECONDS", -1.0)
    server, by = serve(once(answer(PNG))), session(Guard(allow_hosts=["cdn.example"]))
    names["cdn.example"] = (["127.0.0.1"], ["169.254.169.254"])

    assert fetch(f"http://cdn.example:{server.port}/", by)[0] == PNG
    with pytest.raises(Forbidden):
        fetch(f"http://cdn.example:{server.port}/", by)


def test_a_name_that_changes_its_address_gets_no_connection_to_the_new_one(
    serve: Serve, names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded_session, "ADDRESS_SECONDS", -1.0)
    tls, authority = certificate(tmp_path, "cdn.example")
    server = serve(once(answer(PNG)), tls)
    names["cdn.example"] = (["127.0.0.1"], ["127.0.0.2"])
    by = session(Guard(allow_hosts=["127.0.0.1"]), authority)
    url = f"https://cdn.example:{server.port}/"

    assert fetch(url, by)[0] == PNG
    with pytest.raises(Forbidden):
        fetch(url, by)

    assert (server.connections, server.sni) == (1, ["cdn.example"])
    assert names.asked == ["cdn.example", "cdn.example"]


def test_an_idle_connection_to_an_earlier_address_is_not_used(
    serve: Serve, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded_session, "ADDRESS_SECONDS", -1.0)
    server, by = serve(saying(answer(PNG))), session()
    names["cdn.example"] = (["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2", "127.0.0.1"])
    url = f"http://cdn.example:{server.port}/"

    assert fetch(url, by)[0] == PNG
    assert failure(url, by).reason == "the connection was not made"
    assert fetch(url, by)[0] == PNG
    assert len(server.requests) == 2


def test_addresses_of_any_number_of_names_take_no_memory(
    serve: Serve, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded_session, "MAX_NAMES", 3)
    server, by = serve(saying(answer(PNG))), session()

    for number in range(10):
        names[f"h{number}.example"] = (["127.0.0.1"],)
        assert fetch(f"http://h{number}.example:{server.port}/", by)[0] == PNG
        assert len(by._addresses) <= 3


def test_the_next_address_is_tried_when_one_refuses(serve: Serve, names: Names) -> None:
    server = serve(saying(answer(PNG)))
    names["two.example"] = (["127.0.0.2", "127.0.0.1"],)

    assert fetch(f"http://two.example:{server.port}/")[0] == PNG
    assert names.asked == ["two.example"]
    assert f"Host: two.example:{server.port}\r\n".encode() in server.requests[0]


def test_an_idna_name_is_one_name_for_dns_tls_and_host(
    serve: Serve, names: Names, tmp_path: Path
) -> None:
    tls, authority = certificate(tmp_path, "xn--bcher-kva.example")
    server = serve(saying(answer(PNG)), tls)
    names["xn--bcher-kva.example"] = (["127.0.0.1"],)

    fetch(f"https://BÜCHER.example.:{server.port}/", session(authority=authority))

    assert names.asked == server.sni == ["xn--bcher-kva.example"]
    assert f"Host: xn--bcher-kva.example:{server.port}\r\n".encode() in server.requests[0]


@pytest.mark.parametrize(
    ("certified", "reason"),
    [
        ("cdn.good.example", None),
        ("*.good.example", None),
        ("good.example", "the TLS certificate is not trusted"),
        ("127.0.0.1", "the TLS certificate is not trusted"),
    ],
)
def test_a_certificate_is_checked_against_the_name(
    serve: Serve, names: Names, tmp_path: Path, certified: str, reason: str | None
) -> None:
    tls, authority = certificate(tmp_path, certified)
    server = serve(saying(answer(PNG)), tls)
    names["cdn.good.example"] = (["127.0.0.1"],)
    by, url = session(authority=authority), f"https://cdn.good.example:{server.port}/"

    if reason is None:
        assert fetch(url, by)[0] == PNG
    else:
        assert failure(url, by).reason == reason
        assert server.requests == []


def test_a_certificate_of_nobody_is_not_trusted(serve: Serve, tmp_path: Path) -> None:
    server = serve(saying(answer(PNG)), certificate(tmp_path, "127.0.0.1")[0])

    assert (
        failure(f"https://127.0.0.1:{server.port}/").reason == "the TLS certificate is not trusted"
    )
    assert server.requests == []


def test_an_address_has_a_certificate_of_its_own(serve: Serve, tmp_path: Path) -> None:
    tls, authority = certificate(tmp_path, "127.0.0.1")
    server = serve(saying(answer(PNG)), tls)

    assert fetch(f"https://127.0.0.1:{server.port}/", session(authority=authority))[0] == PNG


def test_the_environment_has_no_say(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server, by = serve(saying(answer(PNG, "Set-Cookie: a=b; Path=/"))), session()

    for _ in range(2):
        assert fetch(server.url, by)[0] == PNG

    assert b"authorization" not in server.requests[0].lower()
    assert b"cookie" not in server.requests[1].lower()


# Connections that are used again -------------------------------------------------------------


def test_a_connection_is_used_again(serve: Serve) -> None:
    for said in (answer(PNG), chunked(PNG, b""), answer(b"")):
        server, by = serve(saying(said)), session()
        assert fetch(server.url, by) == fetch(f"{server.url}/b", by) == fetch(server.url, by)
        assert server.connections == 1


def test_a_connection_that_failed_is_not_used_again(serve: Serve) -> None:
    for said in (answer(PNG, status=404), to("http://[")):
        server, by = serve(saying(said)), session()
        for _ in range(2):
            with pytest.raises((RequestFailed, Forbidden)):
                fetch(server.url, by)
        assert server.connections == 2


def test_what_comes_after_a_body_does_not_spoil_the_next(serve: Serve) -> None:
    server, by = serve(saying(answer(PNG) + b"HTTP/1.1 200 OK\r\n\r\nfrom before")), session()

    for _ in range(5):
        assert fetch(server.url, by)[0] == PNG


def test_an_idle_connection_that_broke_off_is_made_anew_for_a_get(serve: Serve) -> None:
    server, by = serve(forgetful(1)), session()

    for _ in range(3):
        assert fetch(server.url, by)[0] == PNG
    assert server.connections == 3
    assert len(server.requests) == 5


def test_no_other_idle_connection_is_tried_then(serve: Serve) -> None:
    both = threading.Barrier(2)

    def act(peer: Peer) -> None:
        peer.request()
        if peer.number <= 2:
            both.wait(60)
        peer.say(answer(PNG))
        peer.request()
        peer.reset()

    server, by = serve(act), session()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: fetch(server.url, by), range(2)))
    assert server.connections == 2

    assert fetch(server.url, by)[0] == PNG
    assert server.connections == 3


def test_an_idle_tls_connection_is_made_anew_once(
    serve: Serve, names: Names, tmp_path: Path
) -> None:
    tls, authority = certificate(tmp_path, "good.example")
    names["good.example"] = (["127.0.0.1"],)
    server, by = serve(forgetful(1), tls), session(authority=authority)

    for _ in range(2):
        assert fetch(f"https://good.example:{server.port}/", by)[0] == PNG
    assert server.connections == 2


def test_a_new_connection_that_broke_off_is_not_made_again(serve: Serve) -> None:
    server = serve(forgetful(0))

    assert failure(server.url).reason == "the connection broke before the end of the answer"
    assert server.connections == 1


def test_a_connection_is_made_again_only_once(serve: Serve) -> None:
    def act(peer: Peer) -> None:
        peer.request()
        if peer.number == 1:
            peer.say(answer(PNG))
            peer.request()
        peer.reset()

    server, by = serve(act), session()
    fetch(server.url, by)

    assert failure(server.url, by).reason == "the connection broke before the end of the answer"
    assert server.connections == 2


def test_many_threads_share_a_session(serve: Serve) -> None:
    def act(peer: Peer) -> None:
        while True:
            path = peer.request().split()[1]
            peer.say(answer(path * 5000))

    server, by = serve(act), session()
    with ThreadPoolExecutor(8) as pool:
        bodies = list(pool.map(lambda i: fetch(f"{server.url}/{i}", by)[0], range(200)))

    assert bodies == [f"/{i}".encode() * 5000 for i in range(200)]
    assert server.connections <= 8
