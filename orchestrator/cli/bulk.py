"""`orchestrator bulk`: cancel, retry or notify many jobs at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from orchestrator.cli.filters import filter_options, metadata_filter
from orchestrator.cli.number_options import WholeNumber
from orchestrator.cli.output import (
    Group,
    actor,
    as_json,
    console,
    exact,
    has_terminal,
    line,
    print_json,
    progress,
    show_table,
    table,
)
from orchestrator.jsonio import rfc3339
from orchestrator.ledger.bulk import MAX_LISTED, BulkAction, BulkKind, BulkState
from orchestrator.operations import bulk as operations
from orchestrator.operations.bulk import UnknownBulkAction, applies_to, bulk_view
from orchestrator.runtime import Runtime, default_runtime

#: The time between two looks at an action. Seconds.
_WATCH_SECONDS = 0.5


@click.group(cls=Group)
def bulk() -> None:
    """Cancel, retry or notify many jobs at once.

    A command finds the jobs, shows their number and the money at risk, and asks. The workers then
    act on exactly these jobs. They go on after a restart.

    \b
    orchestrator bulk retry --status failed --error provider_unavailable --dry-run
    orchestrator bulk cancel --status queued --provider hiapi
    orchestrator bulk list
    orchestrator bulk show BULK_ID
    orchestrator bulk stop BULK_ID
    """


def _bulk_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of all bulk actions."""
    options = (
        filter_options,
        click.option("--unconfirmed", is_flag=True, help="Only jobs with an unconfirmed attempt."),
        click.option("--at-risk", is_flag=True, help="Only jobs with an image at risk."),
        click.option("--all", "all_", is_flag=True, help="All jobs, in the place of filters."),
        click.option("--dry-run", is_flag=True, help="Only show what would happen."),
        click.option("--yes", is_flag=True, help="Do not ask. Needed without a terminal."),
        click.option(
            "--wait", is_flag=True, help="Wait until it is done. A terminal waits anyway."
        ),
        as_json,
    )
    for option in reversed(options):
        command = option(command)
    return command


@bulk.command()
@_bulk_options
def cancel(**options: Any) -> None:
    """Cancel queued jobs. A job that was submitted continues to its outcome."""
    _run(BulkKind.CANCEL, accept_risk=False, **options)


@bulk.command()
@_bulk_options
@click.option("--accept-risk", is_flag=True, help="Also retry jobs that may have been charged.")
def retry(*, accept_risk: bool, **options: Any) -> None:
    """Enqueue the requests of failed and cancelled jobs again, each once."""
    _run(BulkKind.RETRY, accept_risk=accept_risk, **options)


@bulk.command()
@_bulk_options
def notify(**options: Any) -> None:
    """Send the notifications of finished jobs again, with the same message ids."""
    _run(BulkKind.NOTIFY, accept_risk=False, **options)


@bulk.command()
@click.argument("bulk_id")
@click.option("--wait", is_flag=True, help="Wait until it is done.")
@as_json
def show(bulk_id: str, wait: bool, json_: bool) -> None:
    """Show a bulk action: how many jobs are done, and why others were refused."""
    runtime = default_runtime()
    action = _find(runtime, bulk_id)
    if wait and action.state is BulkState.RUNNING:
        action = _follow(runtime, action, json_=json_)
    _show(action, json_=json_)


@bulk.command("list")
@click.option("--tenant", help="Only actions on jobs of this tenant.")
@click.option("--limit", type=WholeNumber(1, MAX_LISTED), default=20, show_default=True)
@as_json
def list_(tenant: str | None, limit: int, json_: bool) -> None:
    """List the bulk actions that were started in the last days, newest first."""
    actions = default_runtime().ledger.bulk.newest(limit, tenant=tenant)
    if json_:
        print_json({"actions": [bulk_view(action) for action in actions]})
        return
    shown = table("bulk action", "action", "tenant", "state", "done", "started", "by")
    for each in actions:
        number = f"{each.done} of {each.total}"
        who = (each.id, each.kind, each.tenant or "all", each.state, number)
        shown.add_row(*who, rfc3339(each.started_at), each.actor)
    show_table(shown, empty="No bulk action was started lately.")


@bulk.command()
@click.argument("bulk_id")
@as_json
def stop(bulk_id: str, json_: bool) -> None:
    """Stop a bulk action. What was done to its jobs stays done."""
    try:
        action = operations.stop(default_runtime(), bulk_id, actor=actor())
    except UnknownBulkAction as error:
        raise _unknown(error) from None
    _show(action, json_=json_)


def _run(
    kind: BulkKind,
    *,
    accept_risk: bool,
    dry_run: bool,
    yes: bool,
    wait: bool,
    json_: bool,
    **chosen: Any,
) -> None:
    """Preview an action, ask, start it, and watch it."""
    filters = _filters(**chosen)
    asks = not (yes or dry_run)
    if asks and not has_terminal():
        raise click.UsageError("without a terminal nobody can be asked; use --yes or --dry-run")
    runtime, who = default_runtime(), actor()
    action = operations.preview(runtime, kind, filters, actor=who, accept_risk=accept_risk)
    if dry_run:
        _show(action, json_=json_)
        return
    _show_preview(action, err=json_)
    if asks:
        click.confirm(f"{kind} {applies_to(action)} jobs?", abort=True, err=json_)
    started, _ = operations.start(runtime, action, actor=who, accept_risk=accept_risk)
    if wait or console().is_terminal:
        started = _follow(runtime, started, json_=json_)
    _show(started, json_=json_)
    if started.state is not BulkState.RUNNING and started.done < applies_to(action):
        sys.exit(1)


def _filters(
    *, metadata: tuple[str, ...], unconfirmed: bool, at_risk: bool, all_: bool, **named: str | None
) -> dict[str, Any]:
    filters: dict[str, Any] = {name: text for name, text in named.items() if text is not None}
    filters |= dict(map(metadata_filter, metadata))
    filters |= {"unconfirmed": True} if unconfirmed else {}
    filters |= {"at_risk": True} if at_risk else {}
    if filters and all_:
        raise click.UsageError("filters and --all exclude each other; leave out one of them")
    if not filters and not all_:
        raise click.UsageError("name at least one filter, or use --all")
    return filters


def _find(runtime: Runtime, bulk_id: str) -> BulkAction:
    try:
        return operations.find(runtime, bulk_id)
    except UnknownBulkAction as error:
        raise _unknown(error) from None


def _unknown(error: UnknownBulkAction) -> click.ClickException:
    return click.ClickException(f"{error}; see: orchestrator bulk list")


def _follow(runtime: Runtime, action: BulkAction, *, json_: bool) -> BulkAction:
    """Show the progress of an action until it is done. Ctrl-C leaves it running."""
    try:
        with progress(quiet=json_) as shown:
            bar = shown.add_task(f"{action.kind} jobs", total=action.total)
            while action.state is BulkState.RUNNING:
                ended = action.done + sum(action.refused.values())
                waits = f", waits for {action.waits_for}" if action.waits_for else ""
                shown.update(bar, completed=ended, description=f"{action.kind} jobs{waits}")
                runtime.sleep(_WATCH_SECONDS)
                action = _find(runtime, action.id)
    except KeyboardInterrupt:
        line(f"It goes on. To see how far it is: orchestrator bulk show {action.id}", err=True)
        sys.exit(130)
    return action


def _show(action: BulkAction, *, json_: bool) -> None:
    if json_:
        print_json(bulk_view(action))
        return
    if action.state is BulkState.PREVIEWED:
        _show_preview(action)
        return
    view = bulk_view(action)
    running = action.state is BulkState.RUNNING
    waits = f"; it waits for {action.waits_for}" if action.waits_for and running else ""
    line(
        f"{action.id}: {action.kind} is {action.state}, {action.done} of {action.total} jobs{waits}"
    )
    _show_refused(view)
    if action.state is BulkState.RUNNING:
        line(f"To see how far it is: orchestrator bulk show {action.id}")


def _show_preview(action: BulkAction, *, err: bool = False) -> None:
    view = bulk_view(action)
    statuses = ", ".join(f"{number} {name}" for name, number in view["by_status"].items())
    line(
        f"{action.kind}: {view['applies_to']} of {action.total} jobs ({statuses or 'none'})",
        err=err,
    )
    if err:
        return
    _show_refused(view)
    if view["may_be_paid"] and action.kind is BulkKind.RETRY:
        left_out = "" if action.accept_risk else "; they are left out without --accept-risk"
        line(f"  {view['may_be_paid']} jobs may have been charged already{left_out}")
    if view["money"]:
        shown = table("provider", "unit", "reserved", "paid again", "unconfirmed")
        for row in view["money"]:
            amounts = (exact(row[name]) for name in ("reserved", "paid_again", "unconfirmed"))
            shown.add_row(row["provider"], row["unit"], *amounts)
        console().print(shown)
    if view["unpriced_jobs"]:
        number = view["unpriced_jobs"]
        line(f"  {number} {'job has' if number == 1 else 'jobs have'} no known price")


def _show_refused(view: dict[str, Any]) -> None:
    for each in view["refused"]:
        line(f"  {each['jobs']} refused: {each['reason']}")
