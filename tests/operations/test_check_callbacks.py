"""What doctor says of the way from the public URL to `web`, with a proxy that does it wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import pytest

from orchestrator.callbacks.probe import (
    MAX_AGE_MS,
    MAX_BODY_BYTES,
    PROBE,
    Arrival,
    is_probe,
    probe_url,
)
from orchestrator.jsonio import dump
from orchestrator.operations.check_callbacks import BODY_BYTES, check_callbacks
from orchestrator.operations.check_result import CheckResult
from orchestrator.security.secret import Secret
from orchestrator.settings.settings import Settings
from tests.net.servers import Peer, Serve, answer
from tests.support.fakes import NOON, Harness
from tests.support.web import WebApp


def checked(settings: Settings, port: int) -> list[CheckResult]:
    settings = replace(settings, public_url=f"http://127.0.0.1:{port}")
    return list(check_callbacks(settings, now=NOON))


def arrived(body: bytes, **changes: str | None) -> bytes:
    """The answer of web to a probe whose request came with other headers."""
    headers = {
        "content-type": "application/json",
        "webhook-id": "doctor",
        "webhook-timestamp": str(NOON // 1000),
        "webhook-signature": "v1,ZG9jdG9y",
        **changes,
    }
    known = {name: value for name, value in headers.items() if value is not None}
    return answer(dump(Arrival.of(body, known).as_body()), "Server: proxy/1.2")


def saying_of(reply: Callable[[bytes], bytes]) -> Callable[[Peer], None]:
    def act(peer: Peer) -> None:
        while True:
            body = peer.request().partition(b"\r\n\r\n")[2]
            peer.say(reply(body))

    return act


WRONG: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "a redirect": (
        lambda _: answer(b"", "Location: https://www.example/x", "Server: nginx", status=301),
        "nginx redirects a callback to https://www.example",
        "ORCHESTRATOR_PUBLIC_URL",
    ),
    "a redirect with a password": (
        lambda _: answer(b"", "Location: http://user:pass@www.example/x?y", status=301),
        "redirects a callback to http://www.example",
        "ORCHESTRATOR_PUBLIC_URL",
    ),
    "a redirect to no URL": (
        lambda _: answer(b"", "Location: http://[/x", "Server: a\x1bb", status=301),
        "a?b redirects a callback to no valid URL",
        "ORCHESTRATOR_PUBLIC_URL",
    ),
    "a challenge": (
        lambda _: answer(b"<html>", "Server: cloudflare", "CF-Ray: 1-FRA", status=403),
        "cloudflare / 1-FRA refuses a callback (403)",
        "without a login",
    ),
    "a limit": (
        lambda body: arrived(body) if len(body) < 10_000 else answer(b"", status=413),
        f"refuses a callback of {BODY_BYTES[1]} bytes (413)",
        "64 MB",
    ),
    "another page": (
        lambda _: answer(b"<html>It works</html>", "Server: Apache"),
        "Apache answers a callback with 200, and not as web does",
        "to the web process",
    ),
    "another installation": (
        lambda _: answer(b"{}", "Content-Type: application/problem+json", status=404),
        "did not make this URL",
        "ORCHESTRATOR_SECRET_KEY",
    ),
    "a gateway": (lambda _: answer(b"", status=502), "answers a callback with 502", "web process"),
    "another body": (
        lambda body: arrived(body + b"\n"),
        "proxy/1.2 changes the body of a callback",
        "unchanged",
    ),
    "a header less": (
        lambda body: arrived(body, **{"webhook-signature": None}),
        "changes or drops headers of a callback: webhook-signature",
        "let these headers pass",
    ),
}


@pytest.mark.parametrize("proxy", WRONG)
def test_what_a_proxy_does_wrong_is_named(settings: Settings, serve: Serve, proxy: str) -> None:
    reply, found, fix = WRONG[proxy]

    result = checked(settings, serve(saying_of(reply)).port)[-1]

    assert result.mark == "wrong"
    assert found in result.found
    assert fix in result.fix


def test_a_way_that_changes_nothing_is_well(settings: Settings, serve: Serve) -> None:
    results = checked(settings, serve(saying_of(arrived)).port)

    assert [result.mark for result in results] == ["ok", "ok"]


def test_a_public_url_that_does_not_answer_is_a_warning(settings: Settings) -> None:
    [result] = checked(settings, 1)

    assert result.mark == "warning"
    assert "cannot be reached from this host: the connection was not made" in result.found


def test_a_probe_is_answered_for_a_minute_and_to_its_maker_only(settings: Settings) -> None:
    def known(url: str, now: int, settings: Settings = settings) -> bool:
        *_, name, reference, token = url.split("/")
        assert name == PROBE
        return is_probe(settings, reference, token, now=now)

    url = probe_url(settings, now=NOON)
    other = replace(settings, secret_keys=(Secret("another key"),))

    assert known(url, NOON)
    assert known(url, NOON + MAX_AGE_MS)
    assert not known(url, NOON + MAX_AGE_MS + 1)
    assert not known(url[:-1] + ("A" if url[-1] != "A" else "B"), NOON)
    assert not known(url, NOON, other)


def test_web_answers_a_probe_with_what_arrived(start: Callable[..., Harness]) -> None:
    harness = start()
    url = probe_url(harness.runtime.settings, now=harness.runtime.clock())
    path = url.removeprefix(str(harness.runtime.settings.public_url))
    web = WebApp(harness.runtime).test_client()

    good = web.post(path, data=b"abc", headers={"Webhook-Id": "x", "Cookie": "secret"})
    bad = web.post(path[:-2] + "xx", data=b"abc")

    assert good.status_code == 200
    sent = {"Webhook-Id": "x", "User-Agent": good.request.headers["User-Agent"]}
    assert good.json == Arrival.of(b"abc", sent).as_body()
    assert bad.status_code == 404


def test_web_refuses_a_probe_that_is_too_large_or_cut_off(start: Callable[..., Harness]) -> None:
    harness = start()
    url = probe_url(harness.runtime.settings, now=harness.runtime.clock())
    path = url.removeprefix(str(harness.runtime.settings.public_url))
    web = WebApp(harness.runtime).test_client()

    length = {"CONTENT_LENGTH": "9"}
    large = web.post(path, data=b"x" * (MAX_BODY_BYTES + 1))
    cut_off = web.post(path, input_stream=BytesIO(b"abc"), environ_overrides=length)

    assert (large.status_code, cut_off.status_code) == (413, 400)
