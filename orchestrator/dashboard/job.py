"""The page of one job: what it is, what happened to it, what it cost, and what can be done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from shlex import quote
from typing import Any

from flask import Blueprint, Response, request

from orchestrator.dashboard import views
from orchestrator.dashboard.job_choices import choices
from orchestrator.dashboard.job_rows import prompt_of
from orchestrator.dashboard.pictures import pictures
from orchestrator.dashboard.timeline import lines, rows
from orchestrator.history import Entry
from orchestrator.jobs.model import FollowUp, FollowUpStatus, Job, Status
from orchestrator.jobs.views import cost_view, event_view
from orchestrator.jsonio import dump, ms
from orchestrator.ledger.admission import WaitReason
from orchestrator.operations.cost import expected_cost
from orchestrator.operations.current_jobs import current_view
from orchestrator.operations.rerun import known_retry, may_be_paid, request_body
from orchestrator.operations.search import find_entries
from orchestrator.plain_text import escaped_json, masked
from orchestrator.providers.base import Provider
from orchestrator.runtime import Runtime

#: The longest JSON or command that a page shows. Characters.
MAX_RAW_CHARACTERS = 100_000
#: What an open job waits for, as a sentence. `{provider}` is the provider's name.
WAITS = {
    WaitReason.PAUSED: "{provider} is paused. The job waits until somebody resumes it.",
    WaitReason.CIRCUIT_OPEN: "{provider} fails now. No job is sent until it is tried again.",
    WaitReason.CIRCUIT_PROBING: "Another job finds out whether {provider} works again.",
    WaitReason.RATE_LIMIT: "{provider} has got as many requests as it may get a second.",
    WaitReason.IN_FLIGHT_LIMIT: "{provider} has as many open tasks as it may have.",
    WaitReason.WORKER: "The job is due. A worker takes it next.",
    WaitReason.RETRY: "{provider} did not take the last attempt. The next one waits.",
    WaitReason.ANSWER: "A worker sends the request to {provider}, and waits for the answer.",
    WaitReason.CALLBACK: "Nobody knows whether {provider} has accepted the request. The job waits"
    " for the callback, or for another answer.",
    WaitReason.OUTCOME: "{provider} works on the task. A callback may come at any time.",
}
#: What the time of the next try means. The others are tries of the submission.
_UNTIL = {WaitReason.CALLBACK: "It waits until", WaitReason.OUTCOME: "The next poll is due at"}


@dataclass(frozen=True, slots=True)
class FollowUpRow:
    """A follow-up in words."""

    title: str
    follow_up: FollowUp
    remark: str


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the route."""

    @pages.get("/jobs/<job_id>")
    def job(job_id: str) -> Response:
        """One job."""
        if answer := views.unchanged(runtime):
            return answer
        entry = find_visible(runtime, job_id)
        if entry is None:
            return missing(job_id)
        return views.render("job", **_context(runtime, entry))


def find_visible(runtime: Runtime, job_id: str) -> Entry | None:
    """Return a job that whoever is signed in may see, or None.

    Raises:
        LedgerUnavailable: Redis is away.
        UnreadableJob: this version cannot read it.
        HistoryUnavailable: the ledger has no such job, and the history does not answer.
    """
    found, unreadable = find_entries(runtime, [job_id])
    for each in unreadable:
        if views.caller().sees(each.tenant):
            raise each
    entry = found.get(job_id)
    return entry if entry and views.caller().sees(entry.job.tenant) else None


def missing(job_id: str) -> Response:
    """Answer that there is no such job. It is the same for another tenant's job."""
    return views.render("job_missing", 404, job_id=job_id)


def provider_title(runtime: Runtime, name: str) -> str:
    """Return the name of a provider as its documents write it."""
    known = runtime.providers.get(name)
    return known.title if isinstance(known, Provider) else name


def provider_titles(runtime: Runtime) -> dict[str, str]:
    """Return the names of all providers, by their names in requests."""
    return {name: provider_title(runtime, name) for name in runtime.providers}


def _context(runtime: Runtime, entry: Entry) -> dict[str, Any]:
    job, now = entry.job, runtime.clock()
    view = current_view(runtime, job)
    retry = known_retry(runtime, job)
    title = provider_title(runtime, job.provider)
    events = entry.events
    return {
        "job": job,
        "title": title,
        "pictures": pictures(job, now=now),
        "lines": lines(job, events, now=now),
        "rows": rows(events),
        "omitted": int(entry.stored.fields.get("omitted", 0)),
        "unconfirmed": entry.stored.unconfirmed,
        "has_key": "key" in entry.stored.fields,
        "wait": _wait(view, title),
        "cost": _cost(runtime, job, title),
        "follow_ups": _follow_ups(job),
        "retry": retry,
        "choices": choices(runtime, job, retry),
        "prompt": prompt_of(job.request),
        "fields": _fields(job),
        "metadata": [(name, _plain(value)) for name, value in job.request.metadata.items()],
        "raw": _raw(view, entry),
        "curl": _curl(runtime, job),
        "link": f"{request.url_root}jobs/{job.id}",
        "providers": provider_titles(runtime),
    }


def _wait(view: dict[str, Any], title: str) -> dict[str, Any] | None:
    """Return why an open job waits, and until when (ms)."""
    if not view.get("waiting_for"):
        return None
    reason, until = WaitReason(view["waiting_for"]), view.get("next_attempt_at")
    return {
        "text": WAITS[reason].format(provider=title),
        "label": _UNTIL.get(reason, "The next try is due at"),
        "until": ms(until) if until else None,
    }


def _cost(runtime: Runtime, job: Job, title: str) -> dict[str, Any]:
    """Return what the job cost, and where the figure comes from."""
    known = cost_view(job)
    if known and known["amount"] is not None:
        source = f"The price table of {title} gives this cost."
        if known["source"] == "reported":
            source = f"{title} reported this cost."
        elif not job.status.terminal:
            source = f"The price table of {title} gives this cost, if the job succeeds."
        return {"amount": known["amount"], "unit": known["unit"], "source": source}
    if job.status.terminal and known is None and not may_be_paid(job):
        return {"amount": 0, "unit": None, "source": "No provider accepted the job."}
    expected = expected_cost(runtime, job, job.provider)
    about = {"amount": expected.amount, "unit": expected.unit} if expected else {}
    also = "The figure is that of the price table." if expected else "No price is configured."
    if not job.status.terminal:
        text = "The cost is known with the outcome."
    elif job.status is Status.SUCCEEDED:
        text = "Nobody has reported the cost."
    elif may_be_paid(job):
        text = "The job may have been charged, and nobody has reported the cost."
    else:
        text = f"{title} did not report a cost. A failure may be free."
        return {"amount": None, "unit": None, "source": text}
    return {**about, "source": f"{text} {also}", "expected": True}


def _follow_ups(job: Job) -> list[FollowUpRow]:
    """Return what follows the outcome: archive, notification, confirmation."""
    follow_ups = []
    if job.archive:
        copies = sum(image.copy is not None for image in job.all_images)
        remark = f"{copies} of {len(job.all_images)} images have a copy."
        follow_ups.append(FollowUpRow("Archive", job.archive, remark))
    if job.notification:
        remark = f"It goes to {job.request.notifies}."
        if job.notification.status is FollowUpStatus.WAITING:
            remark += " It is sent with the outcome."
        follow_ups.append(FollowUpRow("Notification", job.notification, remark))
    if job.confirmation:
        remark = "It asks the provider about a task whose callback came late."
        follow_ups.append(FollowUpRow("Confirmation", job.confirmation, remark))
    return follow_ups


def _fields(job: Job) -> list[tuple[str, str]]:
    """Return the fields of the request without the prompt, and their values as text."""
    body = request_body(job)
    native = body.pop("request", None)
    given = {**body, **{f"request.{k}": v for k, v in (native or {}).items()}}
    for name in ("provider", "model", "prompt", "request.prompt", "metadata", "notify_url"):
        given.pop(name, None)
    return [(name, _plain(value)) for name, value in given.items()]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _raw(view: dict[str, Any], entry: Entry) -> str:
    """Return the job as the API gives it, and its events, as JSON for people."""
    whole = {**view, "events": [event_view(event) for event in entry.events]}
    text = json.dumps(whole, ensure_ascii=False, indent=2)
    lines_ = (escaped_json(line) for line in masked(text).split("\n"))
    return _limited("\n".join(lines_))


def _curl(runtime: Runtime, job: Job) -> str:
    """Return a command that enqueues the same request again. It names no key and no notify URL."""
    body = request_body(job)
    body.pop("notify_url", None)
    base = (runtime.settings.public_url or request.url_root).rstrip("/")
    tenant = f"?tenant={job.tenant}" if views.caller().admin else ""
    data = escaped_json(dump(body).decode())
    return _limited(
        f"curl {quote(f'{base}/v1/jobs{tenant}')} \\\n"
        '  -H "Authorization: Bearer $ORCHESTRATOR_API_KEY" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d {quote(masked(data))}"
    )


def _limited(text: str) -> str:
    more = len(text) - MAX_RAW_CHARACTERS
    return text[:MAX_RAW_CHARACTERS] + (f"\n… {more:,} more characters" if more > 0 else "")
