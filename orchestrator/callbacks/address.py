"""Callback URLs. A URL names provider, job and attempt, and holds a token that only we can make."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.ledger import identifiers
from orchestrator.security import tokens
from orchestrator.settings.settings import Settings

_REFERENCE = re.compile(rf"({identifiers.JOB_ID.pattern})\.([1-9][0-9]{{0,5}})")


@dataclass(frozen=True, slots=True)
class CallbackAddress:
    """The attempt of a callback."""

    provider: str
    job_id: str
    attempt: int

    def url(self, settings: Settings) -> str:
        """Return the URL for the provider. The settings need a public URL and a secret key."""
        token = tokens.sign(settings.secret_keys[0], self.provider, self.job_id, self.attempt)
        reference = f"{self.job_id}.{self.attempt}"
        return f"{settings.public_url}/callbacks/{self.provider}/{reference}/{token}"


def verified_address(
    settings: Settings, provider: str, reference: str, token: str
) -> CallbackAddress | None:
    """Return the address in a callback's path, or None when we did not make it. Uses no Redis."""
    match = _REFERENCE.fullmatch(reference)
    if not match:
        return None
    address = CallbackAddress(provider, match[1], int(match[2]))
    genuine = tokens.verify(settings.secret_keys, token, provider, address.job_id, address.attempt)
    return address if genuine else None
