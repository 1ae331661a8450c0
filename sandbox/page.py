"""The page at `/`: what the sandbox was asked, charged and sent, and faults at a click."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from .callbacks import redacted
from .faults import CATALOGUE, REASONS, Kind, Stage
from .link_faults import LINK_KINDS
from .origin import refuse_other_sites
from .rule_format import RuleError, read_terms
from .rules import Rule
from .state import SandboxState
from .tasks import Task

#: how many tasks the page shows
SHOWN = 100
#: and how many notifications
SHOWN_MESSAGES = 20

_NUMBERS = ("times", "after", "every")


def page_blueprint(world: SandboxState) -> Blueprint:
    """`GET /`, its live part, and what its forms post to."""
    routes = Blueprint("page", __name__)
    routes.before_request(refuse_other_sites)

    @routes.get("/")
    def show() -> str:
        return _page(world, {})

    @routes.get("/live")
    def live() -> str:
        return render_template("live.html", **_live(world))

    @routes.post("/")
    def add() -> Response | tuple[str, int]:
        try:
            world.rules.add(read_terms(_given(request.form)))
        except RuleError as error:
            return _page(world, request.form, error), 400
        return _back()

    @routes.post("/remove/<rule_id>")
    def remove(rule_id: str) -> Response:
        # One that is gone already is as good as removed.
        world.rules.remove(rule_id)
        return _back()

    @routes.post("/forget")
    def forget() -> Response:
        world.rules.clear()
        world.forget()
        world.inbox.clear()
        world.inbox.mend()
        return _back()

    return routes


def _back() -> Response:
    # 303, so that reloading the page does not post again.
    return redirect(url_for("page.show"), 303)


def _page(world: SandboxState, entered: Mapping[str, str], error: RuleError | None = None) -> str:
    return render_template(
        "page.html",
        base=request.host_url.rstrip("/"),
        providers=world.providers.values(),
        stages=_by_stage(),
        reasons=REASONS,
        link_kinds=LINK_KINDS.values(),
        entered=entered,
        error=error,
        seed=world.settings.seed,
        **_live(world),
    )


def _by_stage() -> dict[Stage, list[Kind]]:
    return {stage: [kind for kind in CATALOGUE.values() if kind.stage is stage] for stage in Stage}


def _live(world: SandboxState) -> dict[str, Any]:
    tasks = list(world.store.newest_first())
    return {
        "accounts": world.store.accounts(),
        "rules": [rule for rule in world.rules.all() if rule.active],
        "tasks": list(islice(tasks, SHOWN)),
        "total": len(tasks),
        "messages": world.inbox.messages(SHOWN_MESSAGES),
        "inbox_faults": world.inbox.faults(),
        "time": _time,
        "links": _links,
        "redacted": redacted,
        "which": _which,
        "catalogue": CATALOGUE,
    }


def _given(form: Mapping[str, str]) -> dict[str, Any]:
    """The form's fields as a rule is written; a field left empty is one left out."""
    given: dict[str, Any] = {name: form[name] for name in ("provider", "match") if form.get(name)}
    for name in _NUMBERS:
        text = form.get(name, "").strip()
        if text:
            given[name] = int(text) if re.fullmatch("[0-9]{1,9}", text) else text
    share = form.get("share", "").strip()
    if share:
        given["share"] = share if share.endswith("%") else f"{share}%"
    given["faults"] = {form.get("fault", ""): form.get("value", "").strip() or None}
    return given


def _which(rule: Rule) -> str:
    """Which of the submissions that match a rule applies to, in words."""
    terms = rule.terms
    parts = (
        f"after the first {terms.after}" if terms.after else "",
        f"one in {terms.every}" if terms.every else "",
        f"a share of {terms.share:g}%" if terms.share else "",
        f"{rule.remaining} of {terms.times} left" if terms.times else "",
    )
    return ", ".join(part for part in parts if part) or "always"


def _time(at: float) -> str:
    """The time of day in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def _links(task: Task) -> list[str]:
    return task.links() if task.status == "succeeded" else []
