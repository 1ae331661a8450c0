"""`orchestrator dashboard-link`: a link that shows one tenant in the dashboard."""

from __future__ import annotations

import click

from orchestrator.cli.follow_ups import TimeSpan
from orchestrator.cli.output import actor, as_json, line, print_json
from orchestrator.jsonio import rfc3339
from orchestrator.operations import dashboard_links
from orchestrator.runtime import default_runtime


@click.command()
@click.option("--tenant", required=True, help="Whose jobs the link shows.")
@click.option(
    "--expires",
    type=TimeSpan("7d"),
    default="1h",
    show_default=True,
    metavar="SPAN",
    help="The link ends after this time; at most 7d.",
)
@as_json
def dashboard_link(tenant: str, expires: int, json_: bool) -> None:
    """Make a link to the dashboard of one tenant.

    Whoever has the link sees the tenant's jobs, images and costs, and changes nothing. It cannot be
    revoked before it ends. So give it to the tenant only.

    \b
    orchestrator dashboard-link --tenant shop --expires 1h
    """
    url, expires_at = dashboard_links.make(
        default_runtime(), tenant, lifetime_ms=expires * 1000, actor=actor()
    )
    if json_:
        print_json({"url": url, "tenant": tenant, "expires_at": rfc3339(expires_at)})
    else:
        line(url)
