"""Sessions of the dashboard: a key or a link signs in, a cookie holds the session.

The cookie has a random token. Redis holds the digest of the token, and whose session it is. A
session by a key ends with the key. A form of a session has its CSRF token, which other sites do not
know.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from flask import g, request
from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Response

from orchestrator.ledger.sessions import Sessions
from orchestrator.net.addresses import is_private
from orchestrator.operations import dashboard_links
from orchestrator.operations.callers import Caller, KeyRefused, identify, identify_digest
from orchestrator.runtime import Runtime
from orchestrator.security.api_keys import Scope, digest

COOKIE = "orchestrator_session"
#: The field of a form that has the CSRF token.
CSRF_FIELD = "csrf"
#: The lifetime of a session by a key. ms.
LIFETIME_MS = 12 * 3_600_000
#: The random part of a token. Bytes.
TOKEN_BYTES = 32


class SignInRefused(Exception):
    """Nobody is signed in. The message is the reason, for a person."""


class TooManyFailures(SignInRefused):
    """This address failed too often. It must wait."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session of this request. `is_link`: a link has started it, not a key."""

    token: str
    csrf: str
    caller: Caller
    is_link: bool = False


def sign_in(runtime: Runtime, key: str) -> tuple[str, int]:
    """Start the session of a key's owner. Return the token of the session, and its end (ms).

    Raises:
        SignInRefused: the key is not accepted, or the address has failed too often.
        LedgerUnavailable: Redis is away.
    """
    address, sessions = request.remote_addr or "", runtime.ledger.sessions
    if not sessions.may_try(address):
        raise TooManyFailures("There were too many wrong keys from here. Wait five minutes.")
    try:
        caller = identify(runtime, key)
    except KeyRefused as refusal:
        sessions.failed(address)
        raise SignInRefused(f"This key does not open the dashboard: {refusal}.") from None
    if not (caller.admin or Scope.JOBS_READ in caller.scopes):
        raise SignInRefused(f"This key lacks the scope {Scope.JOBS_READ}.")
    ends_at = runtime.clock() + LIFETIME_MS
    facts = {"kind": "key", "digest": digest(key)}
    return _start(sessions, facts, owner=digest(key), lifetime_ms=LIFETIME_MS), ends_at


def open_link(runtime: Runtime, token: str) -> tuple[str, int]:
    """Start the session of a link. Return the token of the session, and its end (ms).

    Raises:
        SignInRefused: the link is not ours, or it has expired.
        LedgerUnavailable: Redis is away.
    """
    try:
        link = dashboard_links.read(runtime, token)
    except dashboard_links.LinkRefused as refusal:
        raise SignInRefused(str(refusal)) from None
    facts = {"kind": "link", "tenant": link.tenant}
    left_ms = link.expires_at - runtime.clock()
    owner = f"{link.tenant} {link.expires_at}"
    session = _start(runtime.ledger.sessions, facts, owner=owner, lifetime_ms=left_ms)
    return session, link.expires_at


def _start(sessions: Sessions, facts: dict[str, str], *, owner: str, lifetime_ms: int) -> str:
    token = secrets.token_urlsafe(TOKEN_BYTES)
    facts = {**facts, "csrf": secrets.token_urlsafe(TOKEN_BYTES)}
    sessions.start(token, facts, owner=owner, lifetime_ms=lifetime_ms)
    return token


def set_cookie(response: Response, token: str, ends_at: int) -> None:
    """Let the browser keep a session until its end (ms)."""
    response.set_cookie(
        COOKIE,
        token,
        expires=datetime.fromtimestamp(ends_at / 1000, UTC),
        httponly=True,
        samesite="Lax",
        secure=_needs_tls(),
    )


def end(runtime: Runtime, response: Response) -> None:
    """End the session of this request."""
    if token := request.cookies.get(COOKIE):
        runtime.ledger.sessions.end(token)
    response.delete_cookie(COOKIE, httponly=True, samesite="Lax", secure=_needs_tls())


def current(runtime: Runtime, *, live: bool = False) -> Session | None:
    """Return the session of this request, or None.

    Args:
        runtime: of this process.
        live: whether the request is for a live part. Then `g.version` is set in the same round
            trip: the version of what pages show.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    token = request.cookies.get(COOKIE)
    if not token:
        return None
    if live:
        facts, g.version = runtime.ledger.sessions.find_with_version(token)
    else:
        facts = runtime.ledger.sessions.find(token)
    if facts is None:
        return None
    try:
        owner = _owner(runtime, facts)
        return Session(token, facts["csrf"], owner, is_link=facts["kind"] == "link")
    except KeyRefused:  # the key was revoked, or it has expired
        return None


def check_csrf(session: Session) -> None:
    """Refuse a form that no page of this session has sent.

    Raises:
        Forbidden: the CSRF token is missing or wrong.
    """
    sent = request.form.get(CSRF_FIELD, "")
    if not hmac.compare_digest(sent.encode(), session.csrf.encode()):
        raise Forbidden("This page is too old. Load it again, and repeat what you did.")


def refuse_other_sites(runtime: Runtime) -> None:
    """Refuse a form of another site, where there is no session yet.

    Raises:
        Forbidden: the browser says that the form is of another site.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is None and origin is not None:  # without TLS, a browser sends only `Origin`
        hosts = {request.host, urlsplit(runtime.settings.public_url or "").netloc}
        site = "same-origin" if origin.partition("://")[2] in hosts else "cross-site"
    if site not in (None, "same-origin", "none"):
        raise Forbidden("This form was sent by another site.")


def remember(session: Session) -> None:
    """Let the rest of this request know its session."""
    g.session, g.caller = session, session.caller


def known() -> Session | None:
    """Return the session of this request, if it has one."""
    session: Session | None = g.get("session")
    return session


def _owner(runtime: Runtime, facts: dict[str, str]) -> Caller:
    if facts["kind"] == "link":
        return Caller(f"link:{facts['tenant']}", facts["tenant"], frozenset({Scope.JOBS_READ}))
    return identify_digest(runtime, facts["digest"])


def _needs_tls() -> bool:
    """Return whether the browser may send the cookie over TLS only: outside private networks."""
    host = urlsplit(f"//{request.host}").hostname or ""
    return request.is_secure or not is_private(host)
