"""`orchestrator list`, `stats`, `verify` and `reconcile`: commands for the whole ledger."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import IO, Any

import click
import requests

from orchestrator.cli.filters import filter_options, metadata_filter
from orchestrator.cli.number_options import WholeNumber
from orchestrator.cli.output import (
    as_json,
    console,
    exact,
    grid,
    line,
    print_json,
    progress,
    show_table,
    status,
    styled,
    table,
    tell_unreadable,
)
from orchestrator.history import Query
from orchestrator.jobs.model import Job
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.jsonio import NotJson, parse, rfc3339
from orchestrator.ledger import identifiers
from orchestrator.ledger.overview import PAGE_JOBS
from orchestrator.operations.current_jobs import current_views
from orchestrator.operations.filters import read_query
from orchestrator.operations.history_state import HistoryState
from orchestrator.operations.invariants import InvariantReport, reports_view
from orchestrator.operations.search import Source, search
from orchestrator.operations.stats import images_at_risk
from orchestrator.operations.stats import stats as ledger_stats
from orchestrator.operations.unconfirmed import possible_charges, unconfirmed_attempts
from orchestrator.operations.unreadable_jobs import unreadable_views
from orchestrator.operations.verify import Charge, Verification
from orchestrator.providers import PROVIDERS
from orchestrator.runtime import Runtime, default_runtime
from orchestrator.steps.reconcile import reconcile as sweep

_JOB = re.compile(r"job_[0-9a-z]{28}")
#: For the sandbox to list its tasks.
_TIMEOUT_SECONDS = 60


@click.command(name="list")
@filter_options
@click.option("--limit", type=WholeNumber(1, 10_000), default=20, show_default=True)
@click.option(
    "--unconfirmed", is_flag=True, help="Attempts that may have been charged without a known task."
)
@click.option(
    "--at-risk", is_flag=True, help="Jobs with an image that has no copy and may be lost soon."
)
@as_json
def list_(
    *,
    metadata: tuple[str, ...],
    limit: int,
    unconfirmed: bool,
    at_risk: bool,
    json_: bool,
    **filters: str | None,
) -> None:
    """List jobs, newest first. Several filters together narrow the list.

    \b
    orchestrator list --status failed --provider hiapi --created-after 2026-11-01
    orchestrator list --metadata sku=17 --model Nano-Banana-2
    orchestrator list --q TASK_ID            an id of any kind

    With --unconfirmed: attempts and the money at risk. With --at-risk: images at risk. Both show
    the whole installation, so they take no filter.
    """
    given = [(name, value) for name, value in filters.items() if value is not None]
    if unconfirmed + at_risk + bool(given or metadata) > 1:
        raise click.UsageError(
            "--unconfirmed, --at-risk and filters exclude each other; keep one of them"
        )
    if unconfirmed:
        _list_unconfirmed(limit, json_=json_)
        return
    if at_risk:
        _list_at_risk(limit, json_=json_)
        return
    runtime = default_runtime()
    query = read_query(runtime, [*given, *map(metadata_filter, metadata)])
    jobs, unreadable, source = _found(runtime, query, limit, quiet=json_)
    if source is Source.AWAY:
        line("The history does not answer, so older jobs are missing.", err=True)
    tell_unreadable(unreadable)
    if json_:
        lost = {"unreadable": unreadable_views(unreadable)} if unreadable else {}
        print_json({"jobs": current_views(runtime, jobs), **lost})
    else:
        _print_jobs(jobs)


def _print_jobs(jobs: Iterable[Job]) -> None:
    shown = table("job", "tenant", "provider", "model", "status", "created", "error")
    for job in jobs:
        shown.add_row(
            job.id,
            job.tenant,
            job.provider,
            job.model,
            status(job.status),
            rfc3339(job.created_at),
            job.error.code if job.error else "",
        )
    show_table(shown, empty="No job matches.")


def _found(
    runtime: Runtime, query: Query, limit: int, *, quiet: bool
) -> tuple[list[Job], list[str], Source]:
    """Return up to `limit` matching jobs, read in pages, and ids of jobs that cannot be read.

    Without a history that is up to date, every job may be read. So it shows how far it is.
    """
    page = search(runtime, query, limit=min(limit, PAGE_JOBS))
    jobs, unreadable = page.jobs, page.unreadable
    with progress(quiet=quiet or page.cursor is None) as shown:
        bar = shown.add_task("searching jobs", total=None)
        while page.cursor and len(jobs) < limit:
            before = rfc3339(identifiers.created_at(page.cursor))
            shown.update(bar, description=f"searching jobs before {before}")
            left = min(limit - len(jobs), PAGE_JOBS)
            page = search(runtime, query, limit=left, cursor=page.cursor)
            jobs += page.jobs
            unreadable += page.unreadable
    return jobs, unreadable, page.source


def _list_unconfirmed(limit: int, *, json_: bool) -> None:
    runtime = default_runtime()
    number, attempts = unconfirmed_attempts(runtime, limit)
    tell_unreadable(list(dict.fromkeys(a.job_id for a in attempts if a.is_unreadable)))
    if json_:
        risk = possible_charges(runtime, attempts)
        print_json({"number": number, "attempts": [a.view() for a in attempts], "money": risk})
        return
    shown = table("job", "attempt", "provider", "status", "since")
    for entry in attempts:
        view = entry.view()
        shown.add_row(
            entry.job_id,
            str(entry.attempt),
            "cannot be read" if entry.is_unreadable else view["provider"] or "expired",
            status(view["status"] or ""),
            view["since"],
        )
    below = f"{number} in all. {_money(possible_charges(runtime, attempts))}"
    show_table(shown, empty="No attempt is unconfirmed.", below=below)


def _list_at_risk(limit: int, *, json_: bool) -> None:
    runtime = default_runtime()
    number, jobs, unreadable = images_at_risk(runtime, limit)
    tell_unreadable(unreadable)
    if json_:
        views = current_views(runtime, jobs)
        print_json({"number": number, "jobs": views})
        return
    shown = table("job", "image", "provider", "archive", "link expires", "error")
    for job in jobs:
        for index, image in enumerate(job.all_images):
            if image.copy is None:
                shown.add_row(
                    job.id,
                    str(index),
                    job.provider,
                    job.archive.status if job.archive else "",
                    rfc3339(image.expires_at) or "unknown",
                    image.error or "",
                )
    below = f"{number} jobs in all. Their images have no copy, and their links expire."
    show_table(shown, empty="No image is at risk.", below=below)


@click.command()
@as_json
def stats(json_: bool) -> None:
    """Show jobs by status, overdue jobs, contradictions, money at risk, and providers' states."""
    stats_ = ledger_stats(default_runtime())
    if json_:
        print_json(stats_)
        return
    table = grid()
    for name, number in stats_["jobs"].items():
        table.add_row(status(name), str(number))
    console().print(table)
    line()
    for text in (
        _agenda(stats_),
        _contradictions(stats_),
        _unconfirmed(stats_),
        _archive(stats_["archive"]),
        _notifications(stats_["notifications"]),
        _confirmations(stats_["confirmations"]),
    ):
        line(text)
    line(_history(stats_["history"]))
    for name, known in stats_["providers"].items():
        found = known["found_limit"]
        limit = "" if found is None else f", found limit {found}"
        line(f"provider {name}: circuit {known['circuit']}, {known['in_flight']} in flight{limit}")
    for process in stats_["processes"]:
        state = f"silent since {process['seen_at']}" if process["silent"] else "alive"
        line(
            f"process {process['kind']}: {state}, pid {process['pid']} on {process['host']},"
            f" version {process['version']}, since {process['started_at']}"
        )
    for host in stats_["notifications"]["paused_hosts"]:
        line(f"paused host: {host['host']}, failing since {host['since']}")


def _agenda(stats_: dict[str, Any]) -> str:
    agenda, swept = stats_["agenda"], stats_["last_sweep_seconds_ago"]
    last = "never" if swept is None else f"{swept:.1f} s ago"
    due = f"{agenda['due']} due, the oldest by {agenda['lag_seconds']:.1f} s"
    return f"jobs: {agenda['open']} open, {due}; last sweep {last}"


def _archive(archive: dict[str, Any]) -> str:
    risk = f"{archive['at_risk']} at risk (orchestrator list --at-risk)"
    ended = f"{archive['ended']['done']} done, {archive['ended']['dead']} failed"
    return f"archives: {archive['pending']} pending, {risk}; {ended}"


def _notifications(notifications: dict[str, Any]) -> str:
    ended = notifications["ended"]
    failed = f"{notifications['dead']} failed (orchestrator notify --dead)"
    counts = f"{notifications['pending']} pending, {failed}, {ended['done']} delivered"
    return f"notifications: {counts}, {ended['gone']} with a receiver that is gone"


def _confirmations(confirmations: dict[str, Any]) -> str:
    pending, ended = confirmations["pending"], confirmations["ended"]
    counts = f"{pending} pending, {ended['done']} done, {ended['dead']} failed"
    return f"queries after late callbacks: {counts}"


def _history(history: dict[str, Any]) -> str:
    lag = history["lag_seconds"]
    late = "" if lag is None else f", the oldest missing change is {lag:.1f} s old"
    return f"history: {history['state']}{late if lag else ''}"


def _contradictions(stats_: dict[str, Any]) -> str:
    counts = ", ".join(f"{number} {name}" for name, number in stats_["contradictions"].items())
    return f"repeated or contradicting callbacks: {counts}"


def _unconfirmed(stats_: dict[str, Any]) -> str:
    unconfirmed = stats_["unconfirmed"]
    risk = _money(unconfirmed["money_at_risk"])
    return f"unconfirmed attempts: {unconfirmed['attempts']}. {risk}"


@click.command()
@click.option(
    "--tasks",
    type=click.File("rb"),
    metavar="FILE",
    help="All tasks that providers charged: a JSON list of {provider, task_id}.",
)
@click.option("--sandbox", metavar="URL", help="Take the charged tasks from the sandbox at URL.")
@click.option("--images", is_flag=True, help="Also read every archived image.")
@as_json
def verify(*, tasks: IO[bytes] | None, sandbox: str | None, images: bool, json_: bool) -> None:
    """Check the invariants of this ledger: nothing lost, one outcome per job, nothing paid twice.

    With a list of charged tasks, each charge is compared with the ledger. With --images, every
    archived image is read and compared with its SHA-256. The command changes nothing, and may run
    at any time. Exit status 0 only if every invariant holds.
    """
    runtime = default_runtime()
    charges = [*(_listed(tasks) if tasks else ()), *(_charges(sandbox) if sandbox else ())]
    verification = Verification(runtime, charges if tasks or sandbox else None, images=images)
    with progress(quiet=json_) as shown:
        phase = verification.phase
        bar = shown.add_task(phase, total=runtime.ledger.overview.size())
        for _ in verification.run():
            if verification.phase != phase:
                phase = verification.phase
                shown.reset(bar, description=phase)
            shown.advance(bar)
    reports = verification.reports()
    if json_:
        print_json(reports_view(reports))
    else:
        _print(reports)
    _tell_of_history(verification, reports)
    if any(report.broken for report in reports):
        sys.exit(1)


@click.command()
@as_json
def reconcile(json_: bool) -> None:
    """Nudge every due job once. Beat does this every second."""
    runtime = default_runtime()
    due = sweep(runtime)
    runtime.nudger.close()
    if json_:
        print_json({"due": due})
    else:
        line(f"{due} jobs were due")


def _tell_of_history(verification: Verification, reports: list[InvariantReport]) -> None:
    """Say on standard error that the history was not compared, or how it is mended."""
    state = verification.history.state if verification.history else HistoryState.ABSENT
    if state not in (HistoryState.CURRENT, HistoryState.ABSENT):
        line(f"The history is {state}, so it was not compared. See: orchestrator doctor", err=True)
    if any(report.name == "recorded" and report.broken for report in reports):
        line("To write these jobs into the history: orchestrator history rebuild", err=True)


def _listed(file: IO[bytes]) -> Iterable[Charge]:
    """Yield the charges in a file.

    Raises:
        InvalidRequest: the file has another form.
    """
    form = 'a JSON list of {"provider": "hiapi", "task_id": "..."}'
    try:
        listed = parse(file.read())
    except NotJson as error:
        raise InvalidRequest(Violation("tasks", file.name, f"{form} ({error})")) from None
    for entry in listed if isinstance(listed, list) else [listed]:
        fields = entry if isinstance(entry, dict) else {}
        provider, task_id = fields.get("provider"), fields.get("task_id")
        if (
            not isinstance(provider, str)
            or provider not in PROVIDERS
            or not isinstance(task_id, str)
        ):
            raise InvalidRequest(Violation("tasks", entry, f"{form}, of {', '.join(PROVIDERS)}"))
        yield Charge(provider, task_id)


def _charges(url: str) -> Iterable[Charge]:
    """Yield the tasks of the sandbox. The idempotency key or the callback URL names our job."""
    try:
        answer = requests.get(f"{url.rstrip('/')}/control/tasks", timeout=_TIMEOUT_SECONDS)
        answer.raise_for_status()
        tasks: list[dict[str, Any]] = answer.json()
    except requests.RequestException as error:
        problem = _problem(error)
        raise click.ClickException(
            f"--sandbox: {url} returned no list of tasks: {problem}. Start the sandbox, or name the"
            " address that it printed at its start"
        ) from None
    for task in tasks:
        text = f"{task['idempotency_key'] or ''} {task['callback_url'] or ''}"
        match = _JOB.search(text)
        yield Charge(task["provider"], task["id"], match[0] if match else None)


def _problem(error: requests.RequestException) -> str:
    """Return in plain words why a call of the sandbox failed."""
    if isinstance(error, requests.HTTPError):
        return f"it answered {error.response.status_code}"
    if isinstance(error, requests.JSONDecodeError):
        return "its answer is not JSON"
    if isinstance(error, requests.Timeout):
        return f"it did not answer within {_TIMEOUT_SECONDS} s"
    if isinstance(error, requests.ConnectionError):
        return "the connection was not made, or was closed"
    return "it is not an http:// or https:// URL of a server"


def _print(reports: list[InvariantReport]) -> None:
    table = grid()
    for report in reports:
        mark = styled("broken", "bold red") if report.broken else styled("holds", "green")
        table.add_row(mark, str(report.checked), report.meaning)
        for breach in report.breaches:
            table.add_row("", "", styled(breach, "red"))
        if more := report.broken - len(report.breaches):
            table.add_row("", "", styled(f"and {more} more", "red"))
    console().print(table)


def _money(risk: dict[str, Any]) -> str:
    sums = [f"{exact(entry['amount'])} {entry['unit']}" for entry in risk["amounts"]]
    if risk["unpriced"]:
        sums.append(f"{risk['unpriced']} without a known price")
    return f"Money at risk: {', '.join(sums) or 'none'}."
