"""How a page is answered: the whole page, or the part of it that a browser asks for again."""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from typing import Any

from flask import Response, current_app, g, redirect, render_template, request, url_for
from werkzeug.exceptions import Forbidden

from orchestrator.dashboard import sessions
from orchestrator.dashboard.sessions import Session
from orchestrator.dashboard.shared_parts import Part, SharedParts
from orchestrator.jobs.tenant import tenant_name
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.ledger.sessions import Version
from orchestrator.operations.callers import Caller
from orchestrator.runtime import Runtime

#: A live part is made again at least this often, because some of it changes with time. ms.
MAX_AGE_MS = 10_000
#: The name of the parts of this process among the extensions of the application.
PARTS = "dashboard_parts"
#: The random part of a nonce. Bytes.
NONCE_BYTES = 16


def session() -> Session:
    """Return the session of this request."""
    known: Session = g.session
    return known


def caller() -> Caller:
    """Return who is signed in."""
    return session().caller


def require_admin(refusal: str = "Only an administrator's key shows this page.") -> None:
    """Refuse the request unless an administrator is signed in.

    Args:
        refusal: the sentence for others.

    Raises:
        Forbidden: the key lacks the scope.
    """
    if not caller().admin:
        raise Forbidden(refusal)


def require_writer() -> None:
    """Refuse the request unless the session may change jobs.

    Raises:
        Forbidden: the key lacks the scope, or the session is that of a link.
    """
    if not caller().writes:
        raise Forbidden("This session can read only. Sign in with a key that may write jobs.")


def chosen_tenant() -> str | None:
    """Return the tenant whose jobs a page shows, or None: all tenants.

    An administrator may choose one in `?tenant=`. Others see their own.

    Raises:
        InvalidRequest: the name is not a tenant's name.
    """
    if not caller().admin:
        return caller().tenant
    named = request.args.get("tenant", "")
    return tenant_name(named) if named else None


def here() -> str:
    """Return the path of this page and its parameters, with the path of the public URL."""
    return request.script_root + request.full_path


def is_live() -> bool:
    """Return whether the browser asks for the live part of a page again."""
    return request.headers.get("HX-Request") == "true" and "HX-Boosted" not in request.headers


def unchanged(
    runtime: Runtime, *, max_age_ms: int = MAX_AGE_MS, jobs: bool = True, also: object = None
) -> Response | None:
    """Return the answer to a live part that nothing has changed since it was made, or None.

    The browser may have this part: then the answer is "304 Not Modified". Or this process has made
    it for another page. This costs no round trip and no rendering. A page calls it first.

    Args:
        runtime: of this process.
        max_age_ms: the part is made again after this time, also without a change.
        jobs: whether a change of a job changes the part.
        also: a fact that is no change of a job, and that the part shows, too.
    """
    if not is_live():
        return None
    version: Version = g.version
    g.state = _state(version.people, jobs and version.jobs, runtime.clock() // max_age_ms, also)
    for tag in request.if_none_match:
        if hmac.compare_digest(tag.partition(".")[0], _of_session(g.state)):
            return _tagged(Response(status=304), tag.partition(".")[2])
    part = _parts().get(g.state)
    return _answer(part.html_for(_own_texts()), part.content) if part else None


def _state(*facts: object) -> str:
    """Name all that a live part is made from: these facts, for whom, and at which address."""
    who = caller()
    own = (who.name, who.tenant, sorted(who.scopes), request.host_url)
    return sha256(repr((*facts, *own, request.full_path)).encode()).hexdigest()[:20]


def provisional() -> None:
    """Note that the live part shows an older figure. It is made again at the next request."""
    g.state = ""


def render(name: str, status: int = 200, **context: Any) -> Response:
    """Return a page, or its live part when the browser asks for it.

    Args:
        name: of the templates: `NAME.html`, and `NAME.live.html` for the live part. A page without
            a live part, and one without a session, is answered whole.
        status: of the answer.
        context: the variables of the templates.
    """
    if not is_live() or sessions.known() is None:
        return Response(render_template(f"{name}.html", **context), status, mimetype="text/html")
    html = render_template([f"{name}.live.html", f"{name}.html"], **context)
    part = Part.of(html, _own_texts())
    if status == 200 and g.get("state"):
        _parts().put(g.state, part)
    return _answer(html, part.content, status)


def mistakes(error: InvalidRequest) -> dict[str, str]:
    """Return the sentence of each wrong field of a form, by its name."""
    return {violation.field: str(violation) for violation in error.violations}


def _answer(html: str, content: str, status: int = 200) -> Response:
    content = _of_session(content)
    if any(tag.partition(".")[2] == content for tag in request.if_none_match):
        return _tagged(Response(status=304), content)
    return _tagged(Response(html, status, mimetype="text/html"), content)


def _parts() -> SharedParts:
    parts: SharedParts = current_app.extensions[PARTS]
    return parts


def _own_texts() -> tuple[str, ...]:
    """Return the texts in which pages of the same state differ."""
    return nonce(), session().csrf


def done(runtime: Runtime, notice: str, endpoint: str, **values: Any) -> Response:
    """Answer a form that was carried out: the next page shows a notice.

    Args:
        runtime: of this process.
        notice: what was done, or why it was not, as a sentence.
        endpoint: of the next page, such as `jobs`.
        values: its parameters.
    """
    runtime.ledger.sessions.set_notice(session().token, notice)
    return redirect(url_for(f"dashboard.{endpoint}", **values), 303)  # type: ignore[return-value]


def nonce() -> str:
    """Return the nonce of this answer: only scripts and htmx elements that have it work."""
    if "nonce" not in g:
        g.nonce = secrets.token_urlsafe(NONCE_BYTES)
    value: str = g.nonce
    return value


def protect(response: Response) -> Response:
    """Add the headers that every page has."""
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce()}'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types htmx"
    )
    response.headers.setdefault("Content-Security-Policy", policy)  # an image has its own
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _of_session(name: str) -> str:
    """Return a name as only this session has it, because its forms have its CSRF token."""
    return sha256(f"{name} {session().csrf}".encode()).hexdigest()[:20]


def _tagged(response: Response, content: str) -> Response:
    """Name a live part by the state that it was made from, and by its content."""
    state = g.get("state")
    response.set_etag(f"{_of_session(state) if state else ''}.{content}")
    return response
