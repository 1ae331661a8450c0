"""`orchestrator list`, `stats`, `verify` and `reconcile`: the ledger as a whole."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, Any

import click
import requests
from rich.table import Table

from orchestrator.cli.output import as_json, console, print_json, progress, status, table
from orchestrator.jobs.model import Job, Status
from orchestrator.jobs.schemas import job_view, rfc3339
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.jsonio import NotJson, parse
from orchestrator.ledger.overview import PAGE
from orchestrator.operations.stats import stats as figures
from orchestrator.operations.unconfirmed import possible_charges, unconfirmed_attempts
from orchestrator.operations.verify import Charge, Finding, Verification, view
from orchestrator.providers import PROVIDERS
from orchestrator.runtime import default_runtime
from orchestrator.steps.reconcile import reconcile as sweep

_JOB = re.compile(r"job_[0-9a-z]{28}")
#: How long the sandbox may take to list its tasks. Seconds.
_PATIENCE = 60


@click.command(name="list")
@click.option("--status", "state", type=click.Choice([s.value for s in Status]), help="Only these.")
@click.option("--provider", type=click.Choice(list(PROVIDERS)), help="Only this provider's.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option(
    "--unconfirmed", is_flag=True, help="Attempts that may have been charged, and nobody knows."
)
@as_json
def list_(
    *, state: str | None, provider: str | None, limit: int, unconfirmed: bool, json_: bool
) -> None:
    """List jobs, the newest first; or, with --unconfirmed, the money at risk."""
    if unconfirmed:
        _list_unconfirmed(limit, json_=json_)
        return
    runtime = default_runtime()
    jobs = list(islice(_jobs(Status(state) if state else None, provider), limit))
    if json_:
        print_json({"jobs": [job_view(job, runtime.settings.public_url) for job in jobs]})
        return
    shown = table("job", "provider", "model", "status", "created", "error")
    for job in jobs:
        shown.add_row(
            job.id,
            job.request.provider,
            job.request.model,
            status(job.status),
            rfc3339(job.created_at),
            job.error.code if job.error else "",
        )
    console().print(shown)


def _jobs(state: Status | None, provider: str | None) -> Iterator[Job]:
    """Every job that matches, page by page."""
    overview, cursor = default_runtime().ledger.overview, None
    while True:
        page = overview.page(PAGE, cursor=cursor, status=state, provider=provider)
        yield from page.jobs
        cursor = page.cursor
        if cursor is None:
            return


def _list_unconfirmed(limit: int, *, json_: bool) -> None:
    runtime = default_runtime()
    number, attempts = unconfirmed_attempts(runtime, limit)
    if json_:
        risk = possible_charges(runtime, attempts)
        print_json({"number": number, "attempts": [a.view() for a in attempts], "money": risk})
        return
    shown = table("job", "attempt", "provider", "status", "since")
    for entry in attempts:
        seen = entry.view()
        shown.add_row(
            entry.job_id,
            str(entry.attempt),
            seen["provider"] or "expired",
            status(seen["status"] or ""),
            seen["since"],
        )
    console().print(shown)
    click.echo(f"{number} in all. {_money(possible_charges(runtime, attempts))}")


@click.command()
@as_json
def stats(json_: bool) -> None:
    """Show jobs by status, what is overdue, contradictions, and money at risk."""
    told = figures(default_runtime())
    if json_:
        print_json(told)
        return
    table = Table.grid(padding=(0, 2))
    for name, number in told["jobs"].items():
        table.add_row(status(name), str(number))
    console().print(table)
    click.echo(f"\n{_look(told)}\n{_contradictions(told)}\n{_unknown(told)}")
    click.echo(f"{_archive(told['archive'])}\n{_notifications(told['notifications'])}")
    for host in told["notifications"]["paused_hosts"]:
        click.echo(f"paused: {host['host']}, failing since {host['since']}")


def _look(told: dict[str, Any]) -> str:
    agenda, swept = told["agenda"], told["last_sweep_seconds_ago"]
    last = "never" if swept is None else f"{swept:.1f} s ago"
    due = f"{agenda['due']} due, the oldest by {agenda['lag_seconds']:.1f} s"
    return f"{agenda['open']} open, {due}; last sweep {last}"


def _archive(told: dict[str, Any]) -> str:
    risk = f"{told['at_risk']} with links that may die within {told['at_risk_hours']:g} h"
    ended = f"{told['ended']['done']} archived, {told['ended']['dead']} given up"
    return f"archives: {told['pending']} to do, {risk}; {ended}"


def _notifications(told: dict[str, Any]) -> str:
    waiting = f"{told['pending']} to tell, {told['dead']} given up (orchestrator notify --dead)"
    return f"callers: {waiting}; {told['ended']['done']} told, {told['ended']['gone']} left"


def _contradictions(told: dict[str, Any]) -> str:
    seen = ", ".join(f"{number} {name}" for name, number in told["contradictions"].items())
    return f"callbacks that repeat or contradict: {seen}"


def _unknown(told: dict[str, Any]) -> str:
    unconfirmed = told["unconfirmed"]
    risk = _money(unconfirmed["money_at_risk"])
    return f"{unconfirmed['attempts']} attempts of unknown fate. {risk}"


@click.command()
@click.option(
    "--tasks",
    type=click.File("rb"),
    metavar="FILE",
    help="Every task that providers charged: a JSON list of {provider, task_id}.",
)
@click.option("--sandbox", metavar="URL", help="The same, as the sandbox at URL lists it.")
@click.option("--images", is_flag=True, help="Also read every archived image.")
@as_json
def verify(*, tasks: IO[bytes] | None, sandbox: str | None, images: bool, json_: bool) -> None:
    """Check the promise on this ledger: nothing lost, one outcome each, nothing paid twice.

    With a list of what was charged, each charge is held against the ledger too; with --images every
    archived image is read, and held against its SHA-256. Changes nothing, and may run while
    everything works. Exit status 0 only if every invariant holds.
    """
    runtime = default_runtime()
    charges = [*(_listed(tasks) if tasks else ()), *(_charges(sandbox) if sandbox else ())]
    verification = Verification(runtime, charges if tasks or sandbox else None, images=images)
    with progress(quiet=json_) as shown:
        bar = shown.add_task("looking at jobs", total=runtime.ledger.overview.size())
        for _ in verification.run():
            shown.advance(bar)
    findings = verification.findings()
    if json_:
        print_json(view(findings))
    else:
        _print(findings)
    if any(found.breaches for found in findings):
        sys.exit(1)


@click.command()
@as_json
def reconcile(json_: bool) -> None:
    """Sweep once, by hand: nudge every job that is due. Beat does so every second."""
    runtime = default_runtime()
    due = sweep(runtime)
    runtime.nudger.close()
    if json_:
        print_json({"due": due})
    else:
        click.echo(f"{due} jobs were due")


def _listed(file: IO[bytes]) -> Iterable[Charge]:
    """The charges in a file.

    Raises:
        InvalidRequest: it holds something else.
    """
    form = 'a JSON list of {"provider": "hiapi", "task_id": "..."}'
    try:
        listed = parse(file.read())
    except NotJson as error:
        raise InvalidRequest(Violation("tasks", file.name, f"{form} ({error})")) from None
    for entry in listed if isinstance(listed, list) else [listed]:
        told = entry if isinstance(entry, dict) else {}
        provider, task_id = told.get("provider"), told.get("task_id")
        if (
            not isinstance(provider, str)
            or provider not in PROVIDERS
            or not isinstance(task_id, str)
        ):
            raise InvalidRequest(Violation("tasks", entry, f"{form}, of {', '.join(PROVIDERS)}"))
        yield Charge(provider, task_id)


def _charges(url: str) -> Iterable[Charge]:
    """Every task that the sandbox made; our job's id stands in its key or its callback URL."""
    try:
        answer = requests.get(f"{url.rstrip('/')}/control/tasks", timeout=_PATIENCE)
        answer.raise_for_status()
        tasks: list[dict[str, Any]] = answer.json()
    except requests.RequestException as error:
        raise click.ClickException(f"no list of tasks at {url}: {error}") from None
    for task in tasks:
        named = f"{task['idempotency_key'] or ''} {task['callback_url'] or ''}"
        found = _JOB.search(named)
        yield Charge(task["provider"], task["id"], found[0] if found else None)


def _print(findings: list[Finding]) -> None:
    table = Table.grid(padding=(0, 2))
    for found in findings:
        mark = "[bold red]broken[/]" if found.breaches else "[green]holds[/]"
        table.add_row(mark, str(found.looked_at), found.meaning)
        for breach in found.breaches:
            table.add_row("", "", f"[red]{breach}[/]")
    console().print(table)


def _money(risk: dict[str, Any]) -> str:
    sums = [f"{entry['amount']:g} {entry['unit']}" for entry in risk["amounts"]]
    if risk["unpriced"]:
        sums.append(f"{risk['unpriced']} without a known price")
    return f"Money at risk: {', '.join(sums) or 'none'}."
