"""The commands about what follows from an outcome: `notify` and `prune`."""

from __future__ import annotations

import re
import sys
from math import isnan

import click

from orchestrator.cli.jobs import existing
from orchestrator.cli.output import as_json, console, print_json, progress, table
from orchestrator.jobs.model import Job
from orchestrator.jobs.schemas import job_view, rfc3339
from orchestrator.operations.replay import NothingToTell, dead, tell_again
from orchestrator.runtime import Runtime, default_runtime
from orchestrator.steps.prune import prune as prune_now

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN = re.compile(r"([0-9]{1,6})([smhd])")


class Ago(click.ParamType[int]):
    """A span of time, as 90m, 2h or 3d; in seconds."""

    name = "span"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds, or an error that says what is allowed."""
        found = _SPAN.fullmatch(value)
        if not found:
            self.fail(f"{value!r} is not a span of time; allowed: 30s, 90m, 2h, 3d", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


@click.command()
@click.argument("job_ids", nargs=-1, metavar="[JOB_ID]...")
@click.option("--dead", "all_dead", is_flag=True, help="Every caller that could not be told.")
@click.option(
    "--since", type=Ago(), metavar="SPAN", help="With --dead: given up since 90m, 2h, 3d."
)
@click.option("--list", "only_list", is_flag=True, help="With --dead: only list them.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True)
@as_json
def notify(
    *,
    job_ids: tuple[str, ...],
    all_dead: bool,
    since: int | None,
    only_list: bool,
    limit: int,
    json_: bool,
) -> None:
    """Tell callers again of their jobs' outcomes, with the same message id.

    \b
    orchestrator notify job_01...              one job, or several
    orchestrator notify --dead --list          who could not be told, and why
    orchestrator notify --dead --since 2h      tell those who were given up since then

    A host that is paused is asked again at once. Exit status 0 only if all could be begun.
    """
    if bool(job_ids) == all_dead:
        raise click.UsageError("name jobs, or give --dead")
    if not all_dead and (since is not None or only_list):
        raise click.UsageError("--since and --list go with --dead")
    runtime = default_runtime()
    if not all_dead:
        _replay(runtime, [existing(runtime, job_id) for job_id in job_ids], json_=json_)
        return
    from_ = runtime.clock() - since * 1000 if since is not None else 0
    number, jobs = dead(runtime, since=from_, limit=limit)
    if only_list:
        _list(runtime, number, jobs, json_=json_)
    else:
        _replay(runtime, jobs, left=number - len(jobs), json_=json_)


@click.command()
@click.option(
    "--days",
    type=click.FloatRange(min=0, max=3650),
    help="Done longer ago; the retention time.",
)
@click.option("--dry-run", is_flag=True, help="Only tell which.")
@as_json
def prune(*, days: float | None, dry_run: bool, json_: bool) -> None:
    """Forget jobs whose retention time is over; beat does so daily.

    Images and manifests stay in the archive. A job that is open, or whose images or caller are
    still to be seen to, is kept.
    """
    if days is not None and isnan(days):  # which no range of click's keeps out
        raise click.BadParameter("nan is not a number of days", param_hint="--days")
    runtime = default_runtime()
    with progress(quiet=json_) as shown:
        bar = shown.add_task("looking at jobs", total=runtime.ledger.overview.size())
        forgotten = prune_now(
            runtime, days=days, dry_run=dry_run, looked=lambda more: shown.advance(bar, more)
        )
    if json_:
        print_json({"forgotten": forgotten, "dry_run": dry_run})
    else:
        click.echo(f"jobs {'to forget' if dry_run else 'forgotten'}: {len(forgotten)}")


def _replay(runtime: Runtime, jobs: list[Job], *, json_: bool, left: int = 0) -> None:
    """Tell these again. `left`: how many more match, over the limit."""
    refused: dict[str, str] = {}
    with progress(quiet=json_) as shown:
        for job in shown.track(jobs, description="telling callers"):
            try:
                tell_again(runtime, job)
            except NothingToTell as error:
                refused[job.id] = str(error)
    runtime.nudger.close()
    begun = [job.id for job in jobs if job.id not in refused]
    if json_:
        print_json({"begun": begun, "refused": refused, "left": left})
    else:
        for job_id, why in refused.items():
            click.echo(f"{job_id}: {why}", err=True)
        more = f"; left: {left}, do it again" if left else ""
        click.echo(f"callers told again: {len(begun)}{more}")
    if refused:
        sys.exit(1)


def _list(runtime: Runtime, number: int, jobs: list[Job], *, json_: bool) -> None:
    if json_:
        print_json(
            {"number": number, "jobs": [job_view(job, runtime.settings.public_url) for job in jobs]}
        )
        return
    shown = table("job", "status", "to", "attempts", "last attempt", "why")
    for job in jobs:
        told = job.notification
        if told:
            shown.add_row(
                job.id,
                job.status,
                job.request.notifies,
                str(told.tries),
                rfc3339(told.tried_at),
                told.error,
            )
    console().print(shown)
    click.echo(f"{number} in all. Tell them again: orchestrator notify --dead")
