"""Sends probes to the public URL, as a provider sends callbacks, and says what a proxy changed."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from orchestrator.callbacks.probe import HEADERS, Arrival, probe_url
from orchestrator.jsonio import NotJson, dump, parse
from orchestrator.net.transfer import Request, Transfer
from orchestrator.net.transfers import Transfers
from orchestrator.operations.check_result import CheckResult
from orchestrator.settings.environment import one_line
from orchestrator.settings.settings import Settings

#: A usual callback, and one with an image inside. Bytes.
BODY_BYTES = (2_000, 3_000_000)
#: The longest wait for the answer to a probe. Seconds.
TIMEOUT_SECONDS = 15.0
_MAX_ANSWER_BYTES = 64 * 1024
#: These headers of an answer name the servers that it passed.
_NAMES = ("server", "via", "x-served-by", "cf-ray")
_CHECK = "callbacks"


def check_callbacks(settings: Settings, *, now: int) -> Iterator[CheckResult]:
    """Send a probe of each size through the public URL. Without a public URL there is none.

    Args:
        settings: of this installation.
        now: ms.
    """
    if not settings.public_url or not settings.secret_keys:
        return
    transfers = Transfers(
        connect_timeout=settings.connect_timeout_seconds,
        seconds=TIMEOUT_SECONDS,
        connections=1,
        ca_bundle=settings.ca_bundle,
        proxy=settings.outbound_proxy,
    )
    for size in BODY_BYTES:
        result = _probe(transfers, settings, size, now)
        yield result
        if result.mark != "ok":
            return


def _probe(transfers: Transfers, settings: Settings, size: int, now: int) -> CheckResult:
    body = dump({"padding": "x" * (size - len('{"padding":""}'))})
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "image-orchestrator-doctor",
        "Webhook-Id": "doctor",
        "Webhook-Timestamp": str(now // 1000),
        "Webhook-Signature": "v1,ZG9jdG9y",
    }
    url = probe_url(settings, now=now)
    transfer = transfers.exchange(Request("POST", url, headers, body), _MAX_ANSWER_BYTES)
    if transfer.failure:
        found = f"{settings.public_url} cannot be reached from this host: {transfer.failure}"
        fix = "check its name, its certificate and its proxy; providers must reach it from outside"
        return CheckResult(_CHECK, "warning", found, fix)
    arrived = _arrival(transfer)
    if arrived is None:
        return _not_ours(settings, transfer, size)
    return _compared(arrived, Arrival.of(body, headers), transfer, size)


def _arrival(transfer: Transfer) -> Arrival | None:
    try:
        return Arrival.from_body(parse(bytes(transfer.body))) if transfer.status == 200 else None
    except NotJson:
        return None


def _not_ours(settings: Settings, transfer: Transfer, size: int) -> CheckResult:
    """Say who answered in place of `web`, and what that means."""
    who = _answerer(transfer)
    place = f"{settings.public_url}/callbacks/"
    if 300 <= transfer.status < 400:
        found = f"{who} redirects a callback to {_origin(transfer.headers.get('location', ''))}"
        fix = "set ORCHESTRATOR_PUBLIC_URL to the final address; providers follow no redirect"
    elif transfer.status == 404 and "problem+json" in transfer.headers.get("content-type", ""):
        found = f"the web process at {place} did not make this URL"
        fix = "give web and this command the same ORCHESTRATOR_SECRET_KEY and the right time"
    elif transfer.status == 413:
        found = f"{who} refuses a callback of {size} bytes (413)"
        fix = "let it accept bodies of 64 MB below /callbacks/; results may have images inside"
    elif transfer.status in (401, 403, 405, 429):
        found = f"{who} refuses a callback ({transfer.status})"
        fix = "let POST requests to /callbacks/ pass without a login, a challenge or a rate limit"
    else:
        found = f"{who} answers a callback with {transfer.status}, and not as web does"
        fix = f"lead {place} to the web process"
    return CheckResult(_CHECK, "wrong", found, fix)


def _compared(arrived: Arrival, sent: Arrival, transfer: Transfer, size: int) -> CheckResult:
    changed = [
        name
        for name in HEADERS
        if arrived.headers.get(name, "") != sent.headers.get(name, "") and name != "user-agent"
    ]
    if (arrived.length, arrived.sha256) != (sent.length, sent.sha256):
        found = f"{_answerer(transfer)} changes the body of a callback, so signatures fail"
        return CheckResult(_CHECK, "wrong", found, "let it pass bodies below /callbacks/ unchanged")
    if changed:
        names = ", ".join(changed)
        found = f"{_answerer(transfer)} changes or drops headers of a callback: {names}"
        return CheckResult(_CHECK, "wrong", found, "let these headers pass below /callbacks/")
    return CheckResult(_CHECK, "ok", f"{size} bytes came through the public URL unchanged")


def _origin(url: str) -> str:
    """Return scheme and host of a URL that a server sent, without a user and a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "no valid URL"
    host = parts.netloc.rpartition("@")[2]
    return one_line(f"{parts.scheme}://{host}" if host else "another path")


def _answerer(transfer: Transfer) -> str:
    """Return the names of the servers that answered, as they call themselves."""
    names = [transfer.headers[name][:60] for name in _NAMES if name in transfer.headers]
    return one_line(" / ".join(names)) or "the server at the public URL"
