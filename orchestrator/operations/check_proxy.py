"""Asks the outbound proxy for a connection to each provider."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from orchestrator.net.addresses import is_private
from orchestrator.net.proxy import Proxy
from orchestrator.net.transfer import PROXY_AWAY, PROXY_UNKNOWN, Request, Transfer
from orchestrator.net.transfers import Transfers
from orchestrator.operations.check_result import CheckResult
from orchestrator.settings.settings import Settings

#: The longest wait for an answer. Seconds.
TIMEOUT_SECONDS = 15.0
_MAX_ANSWER_BYTES = 64 * 1024
_CHECK = "outbound proxy"
_SETTING = "ORCHESTRATOR_OUTBOUND_PROXY"


def check_proxy(settings: Settings) -> Iterator[CheckResult]:
    """Ask each provider for its base URL, without an API key. Without a proxy nothing is asked.

    A proxy that is away, or does not know us, is one result.
    """
    proxy = settings.outbound_proxy
    if proxy is None:
        return
    transfers = Transfers(
        connect_timeout=settings.connect_timeout_seconds,
        seconds=TIMEOUT_SECONDS,
        connections=1,
        ca_bundle=settings.ca_bundle,
        proxy=proxy,
    )
    for name, provider in settings.providers.items():
        host = urlsplit(provider.base_url).hostname or ""
        if is_private(host):
            yield CheckResult(_CHECK, "ok", f"{name} has a private address, and is called directly")
            continue
        transfer = transfers.exchange(Request("GET", provider.base_url, {}), _MAX_ANSWER_BYTES)
        if refusal := _refusal(proxy, transfer):
            yield refusal
            return
        yield _way(proxy, name, host, transfer)


def _refusal(proxy: Proxy, transfer: Transfer) -> CheckResult | None:
    """Return what is wrong for every provider, or None."""
    if transfer.proxy_status == 407:
        problem = f"{proxy.url} does not accept our user and password (407)"
        return CheckResult(_CHECK, "wrong", problem, f"correct them in {_SETTING}")
    if transfer.failure not in (PROXY_AWAY, PROXY_UNKNOWN):
        return None
    problem = f"{proxy.url} cannot be reached: {transfer.failure}"
    return CheckResult(_CHECK, "wrong", problem, f"start the proxy, or correct {_SETTING}")


def _way(proxy: Proxy, name: str, host: str, transfer: Transfer) -> CheckResult:
    """Say whether the proxy leads to one provider. Any answer of the provider will do."""
    if transfer.sent:
        return CheckResult(_CHECK, "ok", f"{proxy.url} leads to {name} at {host}")
    if transfer.proxy_status >= 300:
        problem = f"{proxy.url} does not let us through to {name} ({transfer.proxy_status})"
        return CheckResult(_CHECK, "wrong", problem, f"allow CONNECT to {host} at the proxy")
    problem = f"{name} cannot be reached through {proxy.url}: {transfer.failure}"
    fix = "give ORCHESTRATOR_CA_BUNDLE the authority of a proxy that inspects TLS; else ask it why"
    return CheckResult(_CHECK, "wrong", problem, fix)
