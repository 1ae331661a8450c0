"""The address of a callback: it names provider, job and attempt, and only we can make its token."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.ledger import keys
from orchestrator.security import tokens
from orchestrator.settings.settings import Settings

_REFERENCE = re.compile(rf"({keys.JOB_ID.pattern})\.([1-9][0-9]{{0,5}})")


@dataclass(frozen=True, slots=True)
class CallbackAddress:
    """Which attempt a callback is for."""

    provider: str
    job_id: str
    attempt: int

    def url(self, settings: Settings) -> str:
        """The URL to give to the provider; needs a public URL and a secret key."""
        token = tokens.sign(settings.secret_keys[0], self.provider, self.job_id, self.attempt)
        reference = f"{self.job_id}.{self.attempt}"
        return f"{settings.public_url}/callbacks/{self.provider}/{reference}/{token}"


def verified(
    settings: Settings, provider: str, reference: str, token: str
) -> CallbackAddress | None:
    """The address in a callback's path, or None unless we made it. Touches no Redis."""
    found = _REFERENCE.fullmatch(reference)
    if not found:
        return None
    address = CallbackAddress(provider, found[1], int(found[2]))
    genuine = tokens.verify(settings.secret_keys, token, provider, address.job_id, address.attempt)
    return address if genuine else None
