"""`orchestrator enqueue --file` and `orchestrator batch`: commands for many jobs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.output import (
    actor,
    as_json,
    console,
    counting,
    line,
    print_json,
    status,
    table,
)
from orchestrator.jobs.batch import Batch
from orchestrator.jobs.model import Status
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.jobs.views import batch_view
from orchestrator.jsonio import rfc3339
from orchestrator.operations.batches import (
    MAX_JOBS,
    BatchEntry,
    OpenBatch,
    add_jobs,
    check_request,
    open_batch,
    seal_batch,
)
from orchestrator.operations.job_files import JobFile
from orchestrator.operations.replay import NothingToNotify, notify_batch_again
from orchestrator.runtime import Runtime, default_runtime

#: The scope of the idempotency keys, as for single jobs of the command line.
CLI_SCOPE = "cli"
#: The most bad lines that are shown.
MAX_SHOWN_LINES = 20
#: The command waits for a limit of the tenant, if it is said to end within this time. Seconds.
MAX_LIMIT_WAIT_SECONDS = 60
#: The longest wait before `batch --wait` reads a batch again. Seconds.
_WAIT_SECONDS = 1.0
#: The exit status of a command that Ctrl-C ended.
_INTERRUPTED = 130


@dataclass
class _Progress:
    """What became of the lines of a file so far."""

    total: int
    jobs: dict[int, str] = field(default_factory=dict)
    replayed: int = 0
    problems: dict[int, Any] = field(default_factory=dict)

    def add(self, entry: BatchEntry) -> None:
        if entry.job:
            self.jobs[entry.index] = entry.job.id
            self.replayed += entry.replayed
        else:
            self.problems[entry.index] = entry.problem

    @property
    def done(self) -> int:
        return len(self.jobs) + len(self.problems)


def enqueue_file(
    path: Path,
    defaults: dict[str, Any],
    *,
    tenant: str,
    key: str | None,
    wait: bool,
    json_: bool,
) -> None:
    """Enqueue the jobs of a file as one batch. It may be interrupted and run again.

    Args:
        path: of the file.
        defaults: the fields that every line has, unless the line names them.
        tenant: the owner of the jobs.
        key: the idempotency key in the place of the hash of the file.
        wait: also wait until every job has its outcome.
        json_: print JSON.
    """
    runtime = default_runtime()
    file = JobFile.read(path, defaults)
    progress = _Progress(_check(runtime, file, tenant, json_=json_))
    batch = open_batch(
        runtime, scope=CLI_SCOPE, tenant=tenant, key=key or file.digest, content=file.digest
    )
    try:
        _enqueue(runtime, batch, file, progress, json_=json_)
        seal_batch(runtime, batch)
    except KeyboardInterrupt:
        again = "Run the same command again for the rest. It makes no second job."
        line(f"interrupted: {len(progress.jobs)} of {progress.total} jobs. {again}", err=True)
        sys.exit(_INTERRUPTED)
    finally:
        runtime.nudger.close()
    _show(batch, progress, json_=json_ and not wait)
    if wait:
        _follow(runtime, batch.id, json_=json_)
    if progress.problems:
        sys.exit(1)


def _check(runtime: Runtime, file: JobFile, tenant: str, *, json_: bool) -> int:
    """Check every line. Return the number of jobs, or end the command with the bad lines."""
    bad: dict[int, InvalidRequest] = {}
    number = 0
    lines = len(file.content.splitlines())
    with counting("checking lines", lines, quiet=json_) as show:
        for number, each in enumerate(file.lines(), 1):
            try:
                if each.error:
                    raise each.error
                check_request(runtime, tenant, each.request)
            except InvalidRequest as error:
                bad[each.number] = error
            if number % MAX_JOBS == 0:
                show(number)
    if not number:
        raise click.ClickException(f"{file.path} has no jobs")
    if bad and json_:
        problems = [{"line": n, "detail": str(error)} for n, error in bad.items()]
        print_json({"batch": None, "jobs": [], "problems": problems})
        sys.exit(1)
    if bad:
        shown = [f"line {n}: {error}" for n, error in islice(bad.items(), MAX_SHOWN_LINES)]
        more = len(bad) - len(shown)
        rest = [f"and {more} more"] if more else []
        counted = "1 bad line" if len(bad) == 1 else f"{len(bad)} bad lines"
        text = f"{file.path} has {counted} of {number}. Nothing was enqueued."
        raise click.ClickException("\n  ".join([text, *shown, *rest]))
    return number


def _enqueue(
    runtime: Runtime, batch: OpenBatch, file: JobFile, progress: _Progress, *, json_: bool
) -> None:
    """Create the jobs of all lines. Wait when a limit of the tenant is reached."""
    lines = ((each.number, each.request) for each in file.lines())
    waiting: list[tuple[int, Any]] = []
    with counting("enqueuing", progress.total, quiet=json_) as show:
        while chunk := [*waiting, *islice(lines, MAX_JOBS - len(waiting))]:
            limited, seconds = set(), 0
            for entry in add_jobs(runtime, batch, chunk):
                problem = entry.problem or {}
                if "retry_after" in problem:
                    limited.add(entry.index)
                    seconds = max(seconds, problem["retry_after"])
                    _give_up(problem, progress)
                else:
                    progress.add(entry)
            show(progress.done)
            waiting = [(number, request) for number, request in chunk if number in limited]
            if waiting:
                runtime.sleep(seconds)


def _give_up(problem: Mapping[str, Any], progress: _Progress) -> None:
    """End the command if a limit lasts too long."""
    if problem["retry_after"] > MAX_LIMIT_WAIT_SECONDS:
        raise click.ClickException(
            f"{problem['detail']}. {len(progress.jobs)} of {progress.total} jobs are enqueued. Run"
            " the same command again later for the rest. It makes no second job."
        )


def _show(batch: OpenBatch, progress: _Progress, *, json_: bool) -> None:
    if json_:
        jobs = [{"line": number, "id": job_id} for number, job_id in progress.jobs.items()]
        problems = [{"line": n, "detail": p["detail"]} for n, p in progress.problems.items()]
        print_json({"batch": batch.id, "jobs": jobs, "problems": problems})
        return
    for number, problem in islice(progress.problems.items(), MAX_SHOWN_LINES):
        line(f"line {number}: {problem['detail']}", err=True)
    before = f", {progress.replayed} of them before" if progress.replayed else ""
    line(f"jobs enqueued: {len(progress.jobs)} of {progress.total}{before}", err=True)
    line(batch.id)


@click.command("batch")
@click.argument("batch_id")
@click.option("--wait", is_flag=True, help="Wait until every job of the batch has its outcome.")
@click.option("--notify", is_flag=True, help="Send the notification of the batch again.")
@as_json
def batch_command(batch_id: str, wait: bool, notify: bool, json_: bool) -> None:
    """Show the jobs of a batch by status.

    `orchestrator list --batch BATCH_ID` lists them. `orchestrator batch BATCH_ID --notify` sends
    the notification batch.completed again, for example after the receiver was repaired.

    Exit status 0 only if there is such a batch, with --wait if every job succeeded, and with
    --notify if the notification is sent again.
    """
    runtime = default_runtime()
    if notify:
        _notify(runtime, batch_id)
    if wait:
        _follow(runtime, batch_id, json_=json_)
    else:
        _print(_existing(runtime.ledger.batches.get(batch_id), batch_id), json_=json_)


def _notify(runtime: Runtime, batch_id: str) -> None:
    batch = _existing(runtime.ledger.batches.get(batch_id), batch_id)
    try:
        notify_batch_again(runtime, batch, actor=actor())
    except NothingToNotify as error:
        raise click.ClickException(f"{batch_id}: {error}") from None
    finally:
        runtime.nudger.close()


def _follow(runtime: Runtime, batch_id: str, *, json_: bool) -> None:
    """Wait until a batch is completed, and show it."""
    batch = _existing(runtime.ledger.batches.get(batch_id), batch_id)
    with counting("jobs done", batch.total, quiet=json_) as show:
        while not batch.complete:
            show(batch.total - batch.open_jobs)
            batch = _existing(
                runtime.ledger.outcomes.wait_for_batch(batch_id, _WAIT_SECONDS), batch_id
            )
    _print(batch, json_=json_)
    if batch.counts.get(Status.SUCCEEDED, 0) != batch.total:
        sys.exit(1)


def _existing(batch: Batch | None, batch_id: str) -> Batch:
    if batch is None:
        raise click.ClickException(f"there is no batch {batch_id!r} in this ledger; check its id")
    return batch


def _print(batch: Batch, *, json_: bool) -> None:
    if json_:
        print_json(batch_view(batch))
        return
    view = batch_view(batch)
    line(f"{batch.id}  {view['status']}  {batch.total} jobs  since {rfc3339(batch.created_at)}")
    shown = table("status", "jobs")
    for name in Status:
        if batch.counts.get(name):
            shown.add_row(status(name), str(batch.counts[name]))
    console().print(shown)
    if notification := view["notification"]:
        reason = f": {notification['error']}" if notification["error"] else ""
        line(f"notify {notification['to']}: {notification['status']}{reason}")
