"""Links to the dashboard of one tenant. Who has one sees its jobs until it ends."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.jobs.tenant import is_tenant, tenant_name
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.runtime import Runtime
from orchestrator.security import tokens

#: The longest lifetime of a link, because it cannot be revoked. ms.
MAX_LIFETIME_MS = 7 * 86_400_000
#: The purpose of the token. The token of an image opens no dashboard.
_PURPOSE = "dashboard"
#: The longest digits of a time. Characters.
_MAX_TIME_CHARACTERS = 15


class LinkRefused(Exception):
    """A link opens nothing. The message is the reason, for a person."""


@dataclass(frozen=True, slots=True)
class DashboardLink:
    """Whose jobs a link shows, and until when (ms)."""

    tenant: str
    expires_at: int


def make(runtime: Runtime, tenant: str, *, lifetime_ms: int, actor: str) -> tuple[str, int]:
    """Return a new link, and its end (ms).

    Raises:
        InvalidRequest: the tenant or the lifetime is wrong, or there is no public URL.
        LedgerUnavailable: Redis is away. There is no link that the audit trail does not have.
    """
    settings, owner = runtime.settings, tenant_name(tenant)
    if settings.public_url is None or not settings.secret_keys:
        allowed = "set, because it is the address in the link"
        raise InvalidRequest(Violation("ORCHESTRATOR_PUBLIC_URL", None, allowed))
    if not 0 < lifetime_ms <= MAX_LIFETIME_MS:
        raise InvalidRequest(
            Violation("expires", f"{lifetime_ms // 1000}s", "a time span from 1s to 7d")
        )
    now = runtime.clock()
    expires_at = now + lifetime_ms
    runtime.ledger.audit.record(
        now=now, actor=actor, action="dashboard_link", target=owner, expires_at=str(expires_at)
    )
    signature = tokens.sign(settings.secret_keys[0], _PURPOSE, owner, expires_at)
    return f"{settings.public_url}/link?token={owner}~{expires_at}~{signature}", expires_at


def read(runtime: Runtime, token: str) -> DashboardLink:
    """Return what a link shows.

    Args:
        runtime: of this process.
        token: of the link.

    Raises:
        LinkRefused: the link is not ours, or it has expired.
    """
    tenant, _, rest = token.partition("~")
    expires, _, signature = rest.partition("~")
    digits = expires.isascii() and expires.isdigit() and len(expires) <= _MAX_TIME_CHARACTERS
    known = runtime.settings.secret_keys
    if not (
        digits and is_tenant(tenant) and tokens.verify(known, signature, _PURPOSE, tenant, expires)
    ):
        raise LinkRefused("The link is not valid: it is incomplete, or it was changed.")
    if runtime.clock() >= int(expires):
        raise LinkRefused("The link has expired. Ask for a new one.")
    return DashboardLink(tenant, int(expires))
