"""`orchestrator tenants` and `audit`: limits of tenants, and who changed what."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import click

from orchestrator.cli.number_options import WholeNumber
from orchestrator.cli.output import (
    Group,
    actor,
    as_json,
    exact,
    has_terminal,
    line,
    print_json,
    progress,
    show_table,
    table,
)
from orchestrator.cli.piped_text import piped_text
from orchestrator.jobs.tenant import BUDGET, tenant_name
from orchestrator.jsonio import rfc3339
from orchestrator.operations import tenants as operations
from orchestrator.operations.tenants import NONE, tenant_view
from orchestrator.runtime import default_runtime
from orchestrator.security import standard_webhooks

#: Values of --notify-secret that are no secrets.
STDIN, NEW = "-", "new"


@click.group(cls=Group)
def tenants() -> None:
    """Set and list the limits of tenants.

    A tenant owns jobs and API keys. It needs no entry here: a tenant without settings has no
    limits. Every process knows a change within 5 seconds.
    """


@tenants.command(name="set")
@click.argument("tenant")
@click.option("--max-open", metavar="N", help="The most jobs that are open at once.")
@click.option("--requests-per-second", metavar="R", help="The most new jobs per second.")
@click.option(
    "--daily-budget",
    "budgets",
    multiple=True,
    metavar="PROVIDER=AMOUNT",
    help="The most cost per day (UTC), in the unit of {PROVIDER}_PRICES. Repeat it for more"
    " providers.",
)
@click.option(
    "--notify-secret",
    metavar="SECRET",
    help="Signs the tenant's notifications; `new` makes and prints one, `-` reads it from standard"
    " input. The old one signs beside it for 24 hours.",
)
@as_json
def set_(tenant: str, json_: bool, budgets: tuple[str, ...], **options: str | None) -> None:
    """Change limits and the secret of a tenant. The value `none` removes a setting.

    \b
    orchestrator tenants set shop --max-open 500 --requests-per-second 20
    orchestrator tenants set shop --daily-budget hiapi=50
    orchestrator tenants set shop --daily-budget evolink=none
    orchestrator tenants set shop --notify-secret new
    """
    changes = {name: value for name, value in options.items() if value is not None}
    for text in budgets:
        provider, is_pair, amount = text.partition("=")
        if not is_pair:
            raise click.BadParameter(
                f"{text!r} is not PROVIDER=AMOUNT", param_hint="--daily-budget"
            )
        if BUDGET + provider in changes:
            raise click.BadParameter(
                f"{provider} has two budgets; name one", param_hint="--daily-budget"
            )
        changes[BUDGET + provider] = amount
    if not changes:
        raise click.UsageError("name at least one setting; see: orchestrator tenants set --help")
    runtime, secret = default_runtime(), changes.get("notify_secret")
    if secret == STDIN:
        changes["notify_secret"] = piped_text("notify_secret").strip()
    elif secret == NEW:
        changes["notify_secret"] = standard_webhooks.new_secret()
    operations.set_tenant(runtime, tenant, changes, actor=actor())
    new = {"notify_secret": changes["notify_secret"]} if secret == NEW else {}
    view = {**tenant_view(runtime, tenant), **new}
    if json_:
        print_json(view)
        return
    for name in ("max_open", "requests_per_second"):
        value = view["limits"][name]
        line(f"{name}: {NONE if value is None else value}")
    line(f"daily_budgets: {_budgets(view) or NONE}")
    if new:
        line(new["notify_secret"])


@tenants.command(name="list")
@as_json
def list_(json_: bool) -> None:
    """List the tenants with settings, keys or jobs."""
    views = operations.list_tenants(default_runtime())
    if json_:
        print_json({"tenants": views})
        return
    shown = table("tenant", "open", "max open", "per second", "budgets", "secrets")
    for view in views:
        jobs, limits = view["jobs"], view["limits"]
        numbers = (jobs["open"], limits["max_open"], limits["requests_per_second"])
        cells = ["" if each is None else exact(each) for each in numbers]
        secrets = str(view["notify_secrets"])
        shown.add_row(view["tenant"], *cells, _budgets(view), secrets)
    show_table(shown, empty="There is no tenant yet. It is there with its first key, job or limit.")


@tenants.command()
@click.argument("tenant")
@click.option("--dry-run", is_flag=True, help="Count, and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed without a terminal.")
@as_json
def erase(tenant: str, *, dry_run: bool, yes: bool, json_: bool) -> None:
    """Delete the ended jobs of a tenant for good, with their images.

    They leave Redis, the history, its figures, and the archive. Jobs that are open, or have a
    pending archive or notification, are kept and named. Everything may run meanwhile. The command
    may be interrupted and run again. It reads every manifest in the archive, so it takes long.
    """
    from orchestrator.operations.erasure import erase_tenant  # noqa: PLC0415  # loads SQLAlchemy

    tenant_name(tenant)
    if not (yes or dry_run):
        if not has_terminal():
            raise click.UsageError("without a terminal nobody can be asked; use --yes or --dry-run")
        click.confirm(f"Delete the jobs and images of {tenant}?", abort=True, err=json_)
    runtime = default_runtime()
    with progress(quiet=json_) as shown:
        bar, looked_at = shown.add_task("", total=None), 0

        def advanced(more: int) -> None:
            nonlocal looked_at
            looked_at += more
            shown.update(bar, description=f"looked at {looked_at} jobs")

        advanced(0)
        erased = erase_tenant(runtime, tenant, actor=actor(), dry_run=dry_run, advanced=advanced)
    if json_:
        print_json({"tenant": tenant, **asdict(erased), "dry_run": dry_run})
    else:
        for job_id in erased.kept:
            line(
                f"{job_id}: kept; it is open, has a pending follow-up, or cannot be read", err=True
            )
        what = "to delete" if dry_run else "deleted"
        line(f"jobs {what}: {erased.jobs}, files: {erased.files}, kept: {len(erased.kept)}")
        if not (erased.jobs or erased.kept):
            line(f"No job of {tenant} was found. Upper and lower case differ.", err=True)
    if erased.kept and not dry_run:
        sys.exit(1)


def _budgets(view: dict[str, Any]) -> str:
    """Return the spent part of each budget today."""
    return ", ".join(
        f"{provider}: {exact(b['spent'])} of {exact(b['amount'])} {b['unit']}"
        for provider, b in view["limits"]["daily_budgets"].items()
    )


@click.command()
@click.option("--limit", type=WholeNumber(1, 10_000), default=50, show_default=True)
@as_json
def audit(limit: int, json_: bool) -> None:
    """Show who changed what, newest first: jobs, keys, tenants and providers."""
    entries = default_runtime().ledger.audit.entries(limit)
    views = [
        {**e.detail, "at": rfc3339(e.at), "actor": e.actor, "action": e.action, "target": e.target}
        for e in entries
    ]
    if json_:
        print_json({"entries": views})
        return
    shown = table("at", "actor", "action", "target", "detail")
    for entry, view in zip(entries, views, strict=True):
        detail = "  ".join(f"{name}={value}" for name, value in entry.detail.items())
        cells = (view["at"] or "", entry.actor, entry.action, entry.target, detail)
        shown.add_row(*cells)
    show_table(shown, empty="Nobody has changed anything yet.")
