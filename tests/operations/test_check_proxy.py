"""What doctor says of the outbound proxy: a proxy on 127.0.0.1 that lets through, or refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.net.proxy import Proxy
from orchestrator.operations.check_proxy import check_proxy
from orchestrator.operations.check_result import CheckResult
from orchestrator.settings.settings import Settings
from tests.net.servers import Serve, answer, certificate, saying
from tests.net.test_outbound import TunnelServer, proxy_before

PROVIDER = "api.hiapi.example"


def checked(settings: Settings, proxy: Proxy | None, *urls: str, ca: str = "") -> list[CheckResult]:
    """Check the way to providers with these base URLs."""
    providers = {
        name: replace(provider, base_url=url)
        for (name, provider), url in zip(settings.providers.items(), urls, strict=False)
    }
    bundle = ca or settings.ca_bundle
    changed = replace(settings, outbound_proxy=proxy, providers=providers, ca_bundle=bundle)
    return list(check_proxy(changed))


def test_a_proxy_that_leads_to_every_provider_is_well(
    settings: Settings, serve: Serve, tmp_path: Path
) -> None:
    tls, _ = certificate(tmp_path, PROVIDER)
    server = serve(saying(answer(b"{}", status=401)), tls)
    tunnels, proxy = proxy_before(serve, server.port)
    url = f"https://{PROVIDER}/v1"

    public, private = checked(
        settings, proxy, url, "http://10.0.0.7", ca=str(tmp_path / "server.pem")
    )

    assert (public.mark, private.mark) == ("ok", "ok")
    assert PROVIDER in public.found
    assert "directly" in private.found
    assert len(tunnels.asked) == 1
    assert b"authorization" not in server.requests[0].lower()


@pytest.mark.parametrize(
    ("greeting", "number", "fix"),
    [
        (b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", 1, "ORCHESTRATOR_OUTBOUND_PROXY"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", 2, f"allow CONNECT to {PROVIDER}"),
    ],
)
def test_a_proxy_that_refuses_is_wrong(
    settings: Settings, serve: Serve, greeting: bytes, number: int, fix: str
) -> None:
    """One that does not know us is told once, and not for each provider."""
    _, proxy = proxy_before(serve, 1, greeting)
    results = checked(settings, proxy, f"https://{PROVIDER}", f"http://{PROVIDER}")

    assert [result.mark for result in results] == ["wrong"] * number
    assert fix in results[0].fix
    assert proxy.password not in repr(results)


def test_a_proxy_that_inspects_tls_needs_its_authority(
    settings: Settings, serve: Serve, tmp_path: Path
) -> None:
    tls, _ = certificate(tmp_path, PROVIDER)
    tunnels = TunnelServer(serve(saying(answer(b"{}")), tls).port)
    proxy = Proxy("127.0.0.1", serve(tunnels.serve).port)

    (result,) = checked(settings, proxy, f"https://{PROVIDER}")

    assert (result.mark, "ORCHESTRATOR_CA_BUNDLE" in result.fix) == ("wrong", True)
    assert "not trusted" in result.found


def test_a_proxy_that_is_away_is_one_result(settings: Settings) -> None:
    (result,) = checked(settings, Proxy("127.0.0.1", 1), f"https://{PROVIDER}", "http://b.example")

    assert (result.mark, "does not answer" in result.found) == ("wrong", True)


def test_without_a_proxy_nothing_is_said(settings: Settings) -> None:
    assert checked(settings, None, f"https://{PROVIDER}") == []
