"""A probe of doctor: a request to the public URL that says what arrived at `web`.

Its URL holds a token like that of a callback, and is valid for a minute. So nobody else can use it.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.security import tokens
from orchestrator.settings.settings import Settings

#: Stands in the path in place of a provider's name. No provider can have this name.
PROBE = "-probe"
#: A probe is answered for this time. ms.
MAX_AGE_MS = 60_000
#: The largest body of a probe. Bytes.
MAX_BODY_BYTES = 4 * 1024 * 1024
#: The headers of a callback that matter to us, in lower case.
HEADERS = (
    "content-type",
    "content-encoding",
    "user-agent",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
)
_REFERENCE = re.compile(r"([0-9]{13})-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Arrival:
    """What arrived of a probe.

    Attributes:
        length: of its body, bytes.
        sha256: of its body, in hex.
        headers: those of HEADERS that it has.
    """

    length: int
    sha256: str
    headers: Mapping[str, str]

    @classmethod
    def of(cls, body: bytes, headers: Mapping[str, str]) -> Arrival:
        """Return what arrived, or what should arrive. Names of headers may have any case."""
        known = {name.lower(): value for name, value in headers.items()}
        kept = {name: known[name] for name in HEADERS if name in known}
        return cls(len(body), hashlib.sha256(body).hexdigest(), kept)

    @classmethod
    def from_body(cls, body: Any) -> Arrival | None:
        """Return the arrival that an answer describes, or None."""
        match body:
            case {"length": int(length), "sha256": str(digest), "headers": dict(headers)}:
                return cls(length, digest, headers)
        return None

    def as_body(self) -> dict[str, Any]:
        """Return it as the answer of a probe has it."""
        return {"length": self.length, "sha256": self.sha256, "headers": dict(self.headers)}


def probe_url(settings: Settings, *, now: int) -> str:
    """Return a new URL of a probe. The settings need a public URL and a secret key.

    Args:
        settings: of this installation.
        now: ms.
    """
    reference = f"{now:013d}-{secrets.token_hex(8)}"
    token = tokens.sign(settings.secret_keys[0], PROBE, reference)
    return f"{settings.public_url}/callbacks/{PROBE}/{reference}/{token}"


def is_probe(settings: Settings, reference: str, token: str, *, now: int) -> bool:
    """Return whether doctor made the URL of a probe, within the last minute."""
    match = _REFERENCE.fullmatch(reference)
    if match is None or abs(now - int(match[1])) > MAX_AGE_MS:
        return False
    return tokens.verify(settings.secret_keys, token, PROBE, reference)
