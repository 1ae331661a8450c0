"""The page at `/`: it shows tasks, charges and callbacks, and adds and removes faults."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from .callbacks import redact
from .catalogue import CATALOGUE, REASONS
from .fault_kinds import FaultKind, Stage
from .origin import refuse_other_sites
from .retry_after import RETRY_AFTER_FORMS
from .rule_format import RuleError, read_rule
from .rules import Rule
from .state import SandboxState
from .tasks import Task

#: Largest number of tasks on the page.
MAX_SHOWN_TASKS = 100
#: Largest number of notifications on the page.
MAX_SHOWN_NOTIFICATIONS = 20

_NUMBERS = ("times", "after", "every")


def page_blueprint(state: SandboxState) -> Blueprint:
    """Return the routes of the page, of its live part and of its forms."""
    routes = Blueprint("page", __name__)
    routes.before_request(refuse_other_sites)

    @routes.get("/")
    def show() -> str:
        return _page(state, {})

    @routes.get("/live")
    def live() -> str:
        return render_template("live.html", **_live(state))

    @routes.post("/")
    def add() -> Response | tuple[str, int]:
        try:
            state.rules.add(read_rule(_rule_from_form(request.form)))
        except RuleError as error:
            return _page(state, request.form, error), 400
        return _back()

    @routes.post("/remove/<rule_id>")
    def remove(rule_id: str) -> Response:
        # An unknown rule is no error, because another page may have removed it.
        state.rules.remove(rule_id)
        return _back()

    @routes.post("/forget")
    def forget() -> Response:
        state.rules.clear()
        state.forget()
        state.inbox.clear()
        state.inbox.clear_fault()
        state.account_faults.clear()
        return _back()

    return routes


def _back() -> Response:
    # After a 303, reloading the page does not post the form again.
    return redirect(url_for("page.show"), 303)


def _page(state: SandboxState, entered: Mapping[str, str], error: RuleError | None = None) -> str:
    return render_template(
        "page.html",
        base=request.host_url.rstrip("/"),
        providers=state.providers.values(),
        stages=_by_stage(),
        reasons=REASONS,
        waits=RETRY_AFTER_FORMS.values(),
        entered=entered,
        error=error,
        seed=state.settings.seed,
        **_live(state),
    )


def _by_stage() -> dict[Stage, list[FaultKind]]:
    return {stage: [kind for kind in CATALOGUE.values() if kind.stage is stage] for stage in Stage}


def _live(state: SandboxState) -> dict[str, Any]:
    tasks = list(state.store.newest_first())
    return {
        "accounts": state.store.accounts(),
        "rules": [rule for rule in state.rules.all() if rule.active],
        "tasks": list(islice(tasks, MAX_SHOWN_TASKS)),
        "total": len(tasks),
        "messages": state.inbox.messages(MAX_SHOWN_NOTIFICATIONS),
        "account_faults": state.account_faults.active(),
        "inbox_faults": state.inbox.faults(),
        "time": _time,
        "links": _links,
        "redact": redact,
        "which": _describe_selection,
        "catalogue": CATALOGUE,
    }


def _rule_from_form(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the form's fields as a rule. An empty field is omitted."""
    document: dict[str, Any] = {
        name: form[name] for name in ("provider", "match") if form.get(name)
    }
    for name in _NUMBERS:
        text = form.get(name, "").strip()
        if text:
            document[name] = int(text) if re.fullmatch("[0-9]{1,9}", text) else text
    share = form.get("share", "").strip()
    if share:
        document["share"] = share if share.endswith("%") else f"{share}%"
    document["faults"] = {form.get("fault", ""): form.get("value", "").strip() or None}
    return document


def _describe_selection(rule: Rule) -> str:
    """Return a text about the matching submissions that get the faults."""
    spec = rule.spec
    parts = (
        f"after the first {spec.after}" if spec.after else "",
        f"one in {spec.every}" if spec.every else "",
        f"a share of {spec.share:g}%" if spec.share else "",
        f"{rule.remaining} of {spec.times} left" if spec.times else "",
    )
    return ", ".join(part for part in parts if part) or "always"


def _time(at: float) -> str:
    """Return the time of day in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def _links(task: Task) -> list[str]:
    return task.links() if task.status == "succeeded" else []
