"""The dashboard: pages for people, made on the server. See docs/dashboard.md."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, Response, current_app, redirect, request, url_for
from werkzeug.exceptions import Gone, HTTPException, InternalServerError, NotFound

from orchestrator import log
from orchestrator.api import image_links, problems
from orchestrator.api.auth import DASHBOARD
from orchestrator.dashboard import (
    assets,
    at_risk,
    audit,
    bulk,
    deliveries,
    formats,
    images,
    job,
    job_choices,
    job_links,
    jobs,
    keys,
    money,
    overview,
    providers,
    rejected,
    sessions,
    sign_in,
    system,
    tenants,
    unconfirmed,
    views,
)
from orchestrator.dashboard.assets import asset_url
from orchestrator.dashboard.navigation import MENU
from orchestrator.dashboard.shared_parts import SharedParts
from orchestrator.history import HistoryUnavailable
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.ledger import LedgerUnavailable, UnreadableJob
from orchestrator.operations.unreadable_jobs import DETAIL
from orchestrator.runtime import Runtime
from orchestrator.storage.storage import StorageError

#: Each module adds its routes.
PAGES = (
    assets,
    sign_in,
    overview,
    jobs,
    bulk,
    images,
    money,
    providers,
    keys,
    tenants,
    audit,
    job,
    job_choices,
    job_links,
    unconfirmed,
    at_risk,
    deliveries,
    rejected,
    system,
)
#: Wrong addresses of these get a problem document, also in a browser.
API_PATHS = ("/v1/", "/v1beta/", "/callbacks/")
#: What a browser shows at a wrong address.
NO_PAGE = "There is no page at this address. Perhaps the address is incomplete."
#: Pages that need no session.
PUBLIC_ENDPOINTS = frozenset(
    {f"{DASHBOARD}.{name}" for name in ("file", "sign_in", "enter", "open_link")}
)

#: Forms that change nothing of a tenant. Whoever may only read may send them.
READERS_FORMS = frozenset({f"{DASHBOARD}.sign_out"})


def mount(app: Flask, runtime: Runtime) -> None:
    """Add the dashboard to `app`. The API must be mounted before."""
    pages = Blueprint(
        DASHBOARD,
        __name__,
        template_folder="templates",
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.add_template_global(_page_url, "page_url")
    formats.install(app)
    app.extensions[views.PARTS] = SharedParts()
    _protect(pages, runtime)
    _answer_errors(pages)
    _answer_strangers(app)
    for page in PAGES:
        page.add_to(pages, runtime)
    app.register_blueprint(pages)


def _protect(pages: Blueprint, runtime: Runtime) -> None:
    """Ask for a session before every page, and for the CSRF token before every change."""

    @pages.before_request
    def authorise() -> Any:
        if request.endpoint in PUBLIC_ENDPOINTS:
            return None
        session = sessions.current(runtime, live=views.is_live())
        if session is None:
            return _without_session()
        sessions.remember(session)
        if request.method == "POST":
            sessions.check_csrf(session)
            if request.endpoint not in READERS_FORMS:
                views.require_writer()
        return None

    @pages.after_request
    def protect(response: Response) -> Response:
        return views.protect(response)

    @pages.context_processor
    def common() -> dict[str, Any]:
        return {"nonce": views.nonce(), "asset": asset_url} | _of_session(runtime)


def _without_session() -> Any:
    if views.is_live():
        return Response("The session has ended.", 401, mimetype="text/plain")
    target = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for(f"{DASHBOARD}.sign_in", next=target if target != "/" else None), 303)


def _of_session(runtime: Runtime) -> dict[str, Any]:
    session = sessions.known()
    if session is None:
        return {"session": None}
    menu = [
        (title, [item for item in items if _is_shown(item.endpoint, item.admin)])
        for title, items in MENU
    ]
    shown: dict[str, Any] = {"session": session, "menu": menu, "here": views.here()}
    if not views.is_live():
        shown["notice"] = runtime.ledger.sessions.take_notice(session.token)
        shown["tenant"] = _tenant_of_menu()
        if session.caller.admin:
            shown["tenants"] = sorted(runtime.ledger.overview.tenants())
    return shown


def _tenant_of_menu() -> str | None:
    """Return the tenant that the menu names. The page of an error has a menu, too."""
    try:
        return views.chosen_tenant()
    except InvalidRequest:
        return None


def _is_shown(endpoint: str, admin: bool) -> bool:
    built = f"{DASHBOARD}.{endpoint}" in current_app.view_functions
    return built and (views.caller().admin or not admin)


def _page_url(endpoint: str, **values: Any) -> str | None:
    """Return the URL of a page, or None if there is no such page."""
    name = f"{DASHBOARD}.{endpoint}"
    return url_for(name, **values) if name in current_app.view_functions else None


def _answer_errors(pages: Blueprint) -> None:
    """Answer every error with a page that says what to do."""

    @pages.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        return _error(error.code or 500, error.name, error.description or error.name)

    @pages.errorhandler(InvalidRequest)
    def invalid(error: InvalidRequest) -> Response:
        return _error(422, "This does not work", "; ".join(map(str, error.violations)))

    @pages.errorhandler(UnreadableJob)
    def unreadable(error: UnreadableJob) -> Response:
        if not views.caller().sees(error.tenant):
            return job.missing(error.job_id)
        log.get().error("job_unreadable", job=error.job_id)
        return _error(503, "A job cannot be read", f"{error.job_id}: {DETAIL}")

    @pages.errorhandler(LedgerUnavailable)
    def away(error: LedgerUnavailable) -> Response:
        log.get().error("ledger_unavailable", reason=str(error))
        return _error(
            503, "Redis is away", "Nothing is lost: workers continue when Redis is back. Try again."
        )

    @pages.errorhandler(HistoryUnavailable)
    def no_history(error: HistoryUnavailable) -> Response:
        log.get().error("history_unavailable", reason=str(error))
        return _error(
            503,
            "The history does not answer",
            "Jobs go on without it. Start the database and the recorder, then try again.",
        )

    @pages.errorhandler(StorageError)
    def no_archive(error: StorageError) -> Response:
        log.get().error("storage_unavailable", reason=str(error))
        return _error(
            503, "The archive is away", "It takes and gives no images now. Try again later."
        )

    @pages.errorhandler(Exception)
    def crashed(error: Exception) -> Response:
        log.get().exception("request_crashed", error=type(error).__name__)
        text = "Something went wrong here. The log names it by the request id of this answer."
        return _error(500, InternalServerError().name, text)


def _error(status: int, title: str, text: str) -> Response:
    if views.is_live():
        return Response(text, status, mimetype="text/plain")
    again = views.here().rstrip("?") if status == 503 and request.method == "GET" else None
    return views.render("error", status, title=title, text=text, again=again, is_ours=True)


def _answer_strangers(app: Flask) -> None:
    """Answer a wrong address, or the link of an image that is gone, with a page for a browser."""

    def missing(error: HTTPException) -> Response:
        if request.blueprint == DASHBOARD:
            return _error(error.code or 404, error.name, error.description or error.name)
        if not _is_for_a_person():
            return problems.of_http(error)
        unknown = request.url_rule is None
        text = NO_PAGE if unknown else f"{error.description or error.name}."
        common = {"session": None, "nonce": views.nonce(), "asset": asset_url}
        shown = {"title": error.name, "text": text[:1].upper() + text[1:], "is_ours": unknown}
        return views.protect(views.render("error", error.code or 404, **common, **shown))

    for kind in (NotFound, Gone):
        app.register_error_handler(kind, missing)


def _is_for_a_person() -> bool:
    """Return whether a browser shows the answer to a request as a page."""
    if request.url_rule is None:
        is_api = request.path.startswith(API_PATHS)
    else:
        is_api = request.blueprint != image_links.PUBLIC
    wanted = request.accept_mimetypes.best_match((problems.PROBLEM_JSON, "text/html"))
    return not is_api and wanted == "text/html" and request.method in ("GET", "HEAD")
