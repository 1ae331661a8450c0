"""`orchestrator notify`, `archive` and `prune`: commands for finished jobs."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict

import click

from orchestrator.cli.jobs import existing
from orchestrator.cli.number_options import Number, WholeNumber
from orchestrator.cli.output import (
    actor,
    as_json,
    line,
    print_json,
    progress,
    show_table,
    table,
    tell_unreadable,
)
from orchestrator.jobs.model import FollowUp, FollowUpStatus, Job
from orchestrator.jobs.tenant import DEFAULT_TENANT
from orchestrator.jsonio import rfc3339
from orchestrator.operations.current_jobs import current_views
from orchestrator.operations.rearchive import NothingToArchive, archive_again, given_up_archives
from orchestrator.operations.replay import failed_notifications, notify_all_again
from orchestrator.operations.test_event import send_test_event
from orchestrator.runtime import Runtime, default_runtime
from orchestrator.steps.archive import archive as archive_now
from orchestrator.steps.prune import prune as prune_now

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN = re.compile(r"([0-9]{1,6})([smhd])")


class TimeSpan(click.ParamType[int]):
    """A time span such as 90m, 2h or 3d, converted to seconds.

    Args:
        longest: the longest that is allowed, in this form. None: there is no limit.
    """

    name = "span"

    def __init__(self, longest: str | None = None) -> None:
        self._longest = longest

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return seconds, or end the command with what is allowed."""
        seconds = _seconds(value)
        if seconds is None:
            self.fail(f"{value!r} is not a time span; allowed: 30s, 90m, 2h, 3d", param, ctx)
        if self._longest and seconds > (_seconds(self._longest) or 0):
            self.fail(f"{value!r} is too long; allowed: at most {self._longest}", param, ctx)
        return seconds


def _seconds(span: str) -> int | None:
    match = _SPAN.fullmatch(span)
    return int(match[1]) * _UNITS[match[2]] if match else None


@click.command()
@click.argument("job_ids", nargs=-1, metavar="[JOB_ID]...")
@click.option("--dead", "all_dead", is_flag=True, help="All failed notifications.")
@click.option(
    "--since",
    type=TimeSpan(),
    metavar="SPAN",
    help="With --dead: failed in the last 90m, 2h or 3d.",
)
@click.option("--list", "only_list", is_flag=True, help="With --dead: list, and send nothing.")
@click.option("--limit", type=WholeNumber(1, 10_000), default=1000, show_default=True)
@click.option("--test", "test_url", metavar="URL", help="Send a test notification to this URL.")
@click.option(
    "--tenant", metavar="TENANT", help="With --test: whose secret signs it.  [default: default]"
)
@as_json
def notify(
    *,
    job_ids: tuple[str, ...],
    all_dead: bool,
    since: int | None,
    only_list: bool,
    limit: int,
    test_url: str | None,
    tenant: str | None,
    json_: bool,
) -> None:
    """Send notifications again, with the same message id.

    \b
    orchestrator notify job_01...           of one job, or of several
    orchestrator notify --dead --list       list those that failed, with reasons
    orchestrator notify --dead --since 2h   those that failed in the last 2 h

    orchestrator notify --test https://shop.example/hooks --tenant shop

    A paused host is tried again at once. Exit status 0 only if every notification was scheduled, or
    the receiver accepted the test.
    """
    chosen = bool(job_ids) + all_dead + (test_url is not None)
    if chosen > 1:
        raise click.UsageError("JOB_ID, --dead and --test exclude each other; keep one of them")
    if tenant is not None and test_url is None:
        raise click.UsageError("--tenant needs --test")
    if not all_dead and (since is not None or only_list):
        raise click.UsageError("--since and --list need --dead")
    if not chosen:
        raise click.UsageError("name at least one job, or use --dead or --test")
    runtime = default_runtime()
    if test_url is not None:
        _test(runtime, test_url, tenant or DEFAULT_TENANT, json_=json_)
        return
    if not all_dead:
        _replay(runtime, [existing(runtime, job_id) for job_id in job_ids], json_=json_)
        return
    from_ = runtime.clock() - since * 1000 if since is not None else 0
    _notify_dead(runtime, from_, limit, only_list=only_list, json_=json_)


def _notify_dead(runtime: Runtime, since: int, limit: int, *, only_list: bool, json_: bool) -> None:
    """List the notifications that failed since a time (ms), or send them."""
    number, jobs, unreadable = failed_notifications(runtime, since=since, limit=limit)
    tell_unreadable(unreadable)
    if only_list:
        _list(runtime, number, jobs, json_=json_)
    else:
        _replay(runtime, jobs, left=number - len(jobs), json_=json_)


@click.command()
@click.argument("job_ids", nargs=-1, metavar="[JOB_ID]...")
@click.option("--all-given-up", is_flag=True, help="All that were given up before a link expired.")
@click.option("--limit", type=WholeNumber(1, 10_000), default=1000, show_default=True)
@as_json
def archive(*, job_ids: tuple[str, ...], all_given_up: bool, limit: int, json_: bool) -> None:
    """Archive images that wait for their next try, or were given up. Try each once now.

    \b
    orchestrator archive job_01...        of one job, or of several
    orchestrator archive --all-given-up   those that `list --at-risk` calls dead

    Workers go on with an image that this try cannot copy, for at least ten minutes. A job that a
    worker archives now is left to it. Exit status 0 only if every image has a copy now.
    """
    if job_ids and all_given_up:
        raise click.UsageError(
            "JOB_ID and --all-given-up exclude each other; leave out one of them"
        )
    if not job_ids and not all_given_up:
        raise click.UsageError("name at least one job, or use --all-given-up")
    runtime = default_runtime()
    if all_given_up:
        number, jobs, unreadable = given_up_archives(runtime, limit)
        tell_unreadable(unreadable)
    else:
        jobs = [existing(runtime, job_id) for job_id in dict.fromkeys(job_ids)]
        number = len(jobs)
    archived: list[str] = []
    missing: dict[str, str] = {}
    with progress(quiet=json_) as shown:
        for job in shown.track(jobs, description="archiving images"):
            reason = _archive(runtime, job)
            if reason is None:
                archived.append(job.id)
            else:
                missing[job.id] = reason
    _print_archived(archived, missing, number - len(jobs), json_=json_)
    if missing:
        sys.exit(1)


def _archive(runtime: Runtime, job: Job) -> str | None:
    """Try once to archive the images of a job. Return why one has no copy, or None."""
    try:
        archive_again(runtime, job, actor=actor())
    except NothingToArchive as error:
        complete = all(image.copy for image in job.all_images) and job.all_images
        return None if complete else str(error)
    archive_now(runtime, job.id)
    current = runtime.ledger.get(job.id)
    state = current.archive if current else None
    if current is None or state is None:
        return "it has expired; jobs are kept for the retention time"
    if state.status is FollowUpStatus.DONE:
        return None
    reasons = [
        f"image {number}: {image.error or 'not tried yet'}"
        for number, image in enumerate(current.all_images)
        if image.copy is None
    ]
    return f"{', '.join(reasons) or state.error}; {_next_try(state, runtime.clock())}"


def _next_try(state: FollowUp, now: int) -> str:
    """Say when an archive is tried again. A time in the past is that of a worker's lease."""
    if state.status is not FollowUpStatus.PENDING:
        return "not tried again"
    if state.due_at is None or state.due_at <= now:
        return "a worker has it now, or takes it when the lease of a dead one ends"
    return f"tried again at {rfc3339(state.due_at)}"


def _print_archived(
    archived: list[str], missing: dict[str, str], left: int, *, json_: bool
) -> None:
    if json_:
        print_json({"archived": archived, "missing": missing, "left": left})
        return
    for job_id, reason in missing.items():
        line(f"{job_id}: {reason}", err=True)
    more = f". {left} are left: run the command again" if left else ""
    number = len(archived) + len(missing)
    line(f"jobs with a copy of every image: {len(archived)} of {number}{more}")


@click.command()
@click.option(
    "--days",
    type=Number(min=0, max=3650),
    help="The age of the jobs.  [default: the retention time]",
)
@click.option("--dry-run", is_flag=True, help="List, and delete nothing.")
@as_json
def prune(*, days: float | None, dry_run: bool, json_: bool) -> None:
    """Delete jobs whose retention time is over. Beat does this every day.

    Images and manifests stay in the archive. A job that is open, or has a pending archive or
    notification, is kept.
    """
    runtime = default_runtime()
    with progress(quiet=json_) as shown:
        bar = shown.add_task("checking jobs", total=runtime.ledger.overview.size())
        forgotten = prune_now(
            runtime, days=days, dry_run=dry_run, checked=lambda more: shown.advance(bar, more)
        )
    if json_:
        print_json({"forgotten": forgotten, "dry_run": dry_run})
    else:
        line(f"jobs {'to delete' if dry_run else 'deleted'}: {len(forgotten)}")


def _replay(runtime: Runtime, jobs: list[Job], *, json_: bool, left: int = 0) -> None:
    """Send the notifications of these jobs. `left` is the number of jobs over the limit."""
    with progress(quiet=json_) as shown:
        tracked = shown.track(jobs, description="scheduling notifications")
        result = notify_all_again(runtime, tracked, actor=actor())
    runtime.nudger.close()
    if json_:
        print_json({**asdict(result), "left": left})
    else:
        for job_id, reason in result.refused.items():
            line(f"{job_id}: {reason}", err=True)
        more = f". {left} are left: run the command again" if left else ""
        line(f"notifications scheduled: {len(result.begun)}{more}")
    if result.refused:
        sys.exit(1)


def _test(runtime: Runtime, url: str, tenant: str, *, json_: bool) -> None:
    """Send a test notification, and say what the receiver answered."""
    sent = send_test_event(runtime, url, tenant, actor=actor())
    if json_:
        print_json(sent.view())
    elif sent.accepted:
        line(f"{sent.host} answered {sent.status} after {sent.seconds:.1f} s: it works ({sent.id})")
    else:
        line(f"{sent.host} did not accept it after {sent.seconds:.1f} s: {sent.reason}", err=True)
    if not sent.accepted:
        sys.exit(1)


def _list(runtime: Runtime, number: int, jobs: list[Job], *, json_: bool) -> None:
    if json_:
        print_json({"number": number, "jobs": current_views(runtime, jobs)})
        return
    shown = table("job", "status", "to", "attempts", "last attempt", "reason")
    for job in jobs:
        notification = job.notification
        if notification:
            shown.add_row(
                job.id,
                job.status,
                job.request.notifies,
                str(notification.tries),
                rfc3339(notification.tried_at),
                notification.error,
            )
    below = f"{number} in all. Send them again: orchestrator notify --dead"
    show_table(shown, empty="No notification has failed.", below=below)
