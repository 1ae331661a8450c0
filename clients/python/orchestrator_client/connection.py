"""What both clients know about their connection."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx

from orchestrator_client.calls import Call

#: The time to connect, and the time for an answer. Seconds.
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0
#: Connections of one client. Each wait holds one.
LIMITS = httpx.Limits(max_connections=1_000, max_keepalive_connections=100)
#: Repetitions of a call.
MAX_RETRIES = 3
#: The parts in which an image is written. Bytes.
CHUNK_BYTES = 64 * 1024


def options(base_url: str, api_key: str, timeout: float) -> dict[str, Any]:
    """Return the options of httpx for a server.

    Raises:
        ValueError: the URL is not http or https, or holds a password, or there is no key.
    """
    url = httpx.URL(base_url)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("base_url must be the http or https URL of the orchestrator")
    if url.userinfo:
        raise ValueError("base_url must hold no password; give the key as api_key")
    if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ValueError("api_key must be the key of the orchestrator: printable ASCII, no blanks")
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {api_key}", "User-Agent": _user_agent()},
        "timeout": httpx.Timeout(timeout, connect=CONNECT_SECONDS),
        "limits": LIMITS,
    }


def request_options(call: Call, timeout: float) -> dict[str, Any]:
    """Return the options of httpx for a call."""
    return {
        "params": dict(call.params),
        "json": call.json,
        "files": None if call.parts is None else dict(call.parts),
        "headers": dict(call.headers),
        "timeout": httpx.Timeout(timeout + call.timeout, connect=CONNECT_SECONDS),
        # An image may be in a bucket. httpx does not send the key to another host.
        "follow_redirects": call.sink is not None,
    }


def _user_agent() -> str:
    try:
        return f"image-orchestrator-client/{version('image-orchestrator-client')}"
    except PackageNotFoundError:  # it is used from a checkout
        return "image-orchestrator-client"
