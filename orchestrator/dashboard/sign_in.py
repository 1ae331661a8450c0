"""Sign in with a key or a link, and sign out."""

from __future__ import annotations

from flask import Blueprint, Response, redirect, request, url_for
from werkzeug.wrappers import Response as Answer

from orchestrator.dashboard import sessions, views
from orchestrator.dashboard.sessions import SignInRefused, TooManyFailures
from orchestrator.runtime import Runtime


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the routes."""

    @pages.get("/sign-in")
    def sign_in() -> Response:
        """Ask for a key."""
        return views.render("sign_in", target=_target(), error=None)

    @pages.post("/sign-in")
    def enter() -> Answer:
        """Start a session with a key."""
        sessions.refuse_other_sites(runtime)
        try:
            token, ends_at = sessions.sign_in(runtime, request.form.get("key", "").strip())
        except SignInRefused as refusal:
            status = 429 if isinstance(refusal, TooManyFailures) else 401
            return views.render("sign_in", status, target=_target(), error=str(refusal))
        target = _target()
        wanted = request.script_root + target if target else url_for("dashboard.overview")
        return _entered(token, ends_at, wanted)

    @pages.get("/link")
    def open_link() -> Answer:
        """Start a session with a link of `orchestrator dashboard-link`."""
        try:
            token, ends_at = sessions.open_link(runtime, request.args.get("token", ""))
        except SignInRefused as refusal:
            return views.render("sign_in", 401, target=None, error=str(refusal))
        return _entered(token, ends_at, url_for("dashboard.overview"))

    @pages.post("/sign-out")
    def sign_out() -> Answer:
        """End the session."""
        response = redirect(url_for("dashboard.sign_in"), 303)
        sessions.end(runtime, response)
        return response


def _entered(token: str, ends_at: int, target: str) -> Answer:
    response = redirect(target, 303)
    sessions.set_cookie(response, token, ends_at)
    return response


def _target() -> str | None:
    """Return the page after the sign-in: a path of ours, never another site."""
    wanted = request.values.get("next", "")
    is_path = wanted.startswith("/") and not wanted.startswith(("//", "/\\"))
    return wanted if is_path and wanted.isprintable() else None
