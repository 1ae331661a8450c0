"""`orchestrator enqueue`, `get`, `watch`, `cancel` and `retry`: commands for one job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, Any

import click

from orchestrator.cli.batches import enqueue_file
from orchestrator.cli.output import actor, as_json, console, exact, line, print_json, status
from orchestrator.cli.piped_text import piped_text
from orchestrator.enqueuing import (
    CELERY_SCOPE,
    EnqueueResult,
    cancel_job,
    create_job,
    job_of_key,
)
from orchestrator.jobs.model import FollowUpStatus, Job, Status
from orchestrator.jobs.tenant import DEFAULT_TENANT, tenant_name
from orchestrator.jobs.uploads import ImageFile
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.jobs.views import event_view
from orchestrator.jsonio import NotJson, parse, rfc3339
from orchestrator.operations import search
from orchestrator.operations.current_jobs import current_view
from orchestrator.operations.poll_now import AskedRecently, NothingToPoll, poll_now
from orchestrator.operations.rerun import MayBePaid, NotRetryable
from orchestrator.operations.rerun import retry as retry_job
from orchestrator.providers import BROKEN, PROVIDERS
from orchestrator.runtime import Runtime, default_runtime

#: The longest wait before `watch` reads a job again.
_WATCH_SECONDS = 1.0


class JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object on the command line."""

    name = "json"

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, Any]:
        """Parse the value, or end the command with the reason."""
        try:
            parsed = parse(value)
        except NotJson as error:
            self.fail(f"{value!r} is not JSON: {error}", param, ctx)
        if not isinstance(parsed, dict):
            self.fail(f"{value!r} is not a JSON object", param, ctx)
        return parsed


class FallbackTarget(click.ParamType[dict[str, str]]):
    """A provider and its model, as `provider:model`."""

    name = "provider:model"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, str]:
        """Return the fallback as the request has it."""
        provider, colon, model = str(value).partition(":")
        if not (provider and colon and model):
            self.fail(f"{value!r} is not PROVIDER:MODEL, such as hiapi:Nano-Banana-2", param, ctx)
        return {"provider": provider, "model": model}


@click.command()
@click.option("--provider", type=click.Choice([*PROVIDERS, *BROKEN]), help="The provider.")
@click.option(
    "--model", help="A model of the provider, or a family name. The file of --request may name it."
)
@click.option("--prompt", help="The prompt; `-` reads it from standard input.")
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="URL",
    help="A reference image. Repeat the option for more.",
)
@click.option(
    "--image-file",
    metavar="PATH",
    help="A reference image on this machine, for providers that accept files.",
)
@click.option("--aspect-ratio", metavar="W:H", help="For example 16:9.")
@click.option("--resolution", help="For example 2K.")
@click.option("--output-format", help="For example png.")
@click.option("--n", type=int, help="The number of images.")
@click.option("--request", type=click.File("rb"), help="The provider's own body, from a JSON file.")
@click.option(
    "--provider-options",
    type=JsonObject(),
    help="More fields of the provider's own body, as a JSON object. They are merged last.",
)
@click.option("--metadata", type=JsonObject(), help="A JSON object that is returned with the job.")
@click.option("--deadline-seconds", type=float, help="The job fails after this time.")
@click.option(
    "--on-unconfirmed",
    type=click.Choice(["fail", "resubmit"]),
    help="When it is unknown whether the provider accepted the task: fail, or submit again and risk"
    " a second charge.",
)
@click.option(
    "--fallback",
    "fallbacks",
    multiple=True,
    type=FallbackTarget(),
    metavar="PROVIDER:MODEL",
    help="The next provider to try, if the one before has certainly not accepted the job. Repeat"
    " the option for more.",
)
@click.option("--notify-url", help="A URL that gets the outcome as a signed POST.")
@click.option("--notify-task", help="The name of a Celery task that gets the outcome.")
@click.option("--notify-queue", help="The Celery queue of --notify-task.  [default: celery]")
@click.option("--notify-stream", help="A Redis stream that gets the outcome.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="The owner of the job.")
@click.option(
    "--idempotency-key", help="The same key and request return the same job for 24 hours."
)
@click.option(
    "--file",
    "job_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Enqueue each line of a file: JSON lines (.jsonl), or CSV with a header (.csv).",
)
@click.option("--wait", is_flag=True, help="Watch the job until it is done.")
@as_json
def enqueue(
    *,
    tenant: str,
    idempotency_key: str | None,
    wait: bool,
    json_: bool,
    job_file: Path | None,
    request: IO[bytes] | None,
    prompt: str | None,
    images: tuple[str, ...],
    image_file: str | None,
    fallbacks: tuple[dict[str, str], ...],
    **options: Any,
) -> None:
    """Enqueue a job and print its id.

    \b
    orchestrator enqueue --provider hiapi --model Nano-Banana-2 \\
        --prompt "A lighthouse at dusk" --aspect-ratio 16:9 --wait

    With --file, each line is a job: an object with the fields of POST /v1/jobs, or a row of a CSV
    file whose header names the fields. A column metadata.x is a value of the metadata. Lists and
    objects are JSON. The other options are for the lines that do not name the field. All lines are
    checked before the first job is enqueued.

    \b
    orchestrator enqueue --file prompts.csv --provider hiapi --model Nano-Banana-2

    The jobs are one batch, whose id is printed. The command may be interrupted. Run it again within
    24 hours, and it enqueues the rest: the idempotency key of each job is made from the content of
    the file, the options and the number of the line. So a changed file is another file, and all its
    lines are enqueued. To enqueue the same file once more, give another --idempotency-key.

    Exit status 0 only if every job is in the ledger, or with --wait if every job succeeded.
    """
    options |= {
        "prompt": piped_text("prompt") if prompt == "-" else prompt,
        "images": list(images) or None,
        "fallback": list(fallbacks) or None,
    }
    wanted = {name: value for name, value in options.items() if value is not None}
    if job_file is not None:
        if image_file or request is not None:
            raise click.UsageError("--image-file and --request cannot be used with --file")
        enqueue_file(job_file, wanted, tenant=tenant, key=idempotency_key, wait=wait, json_=json_)
        return
    needed = ("provider",) if request is not None else ("provider", "model")
    if missing := [name for name in needed if name not in wanted]:
        raise click.UsageError(f"Missing option '--{missing[0]}'.")
    runtime = default_runtime()
    if request is not None:
        wanted["request"] = _native(request)
    file = ImageFile.read(Path(image_file)) if image_file else None
    result = create_job(runtime, wanted, scope="cli", tenant=tenant, key=idempotency_key, file=file)
    _show_enqueued(runtime, result, wait=wait, json_=json_)
    runtime.nudger.close()


def _show_enqueued(runtime: Runtime, result: EnqueueResult, *, wait: bool, json_: bool) -> None:
    """Print a job, or watch it until it is done."""
    if wait:
        # At once, so that the id is known if the wait is interrupted.
        line(result.job.id, err=json_)
        _follow(runtime, result.job, json_=json_)
    elif json_:
        print_json(current_view(runtime, result.job, result.wait))
    else:
        line(result.job.id)


@click.command()
@click.argument("job_id", required=False)
@click.option("--celery-id", help="Instead of JOB_ID: the id of the Celery task that enqueued it.")
@click.option("--tenant", default=DEFAULT_TENANT, help="With --celery-id: the owner of the job.")
@as_json
def get(job_id: str | None, celery_id: str | None, tenant: str, json_: bool) -> None:
    """Show a job and its timeline. Exit status 0 only if there is such a job."""
    runtime = default_runtime()
    if job_id is not None and celery_id is not None:
        raise click.UsageError("JOB_ID and --celery-id exclude each other; leave out one of them")
    if job_id is None and celery_id is None:
        raise click.UsageError("name a job by JOB_ID or --celery-id")
    if celery_id is not None:
        job = _of_celery_task(runtime, celery_id, tenant_name(tenant))
    else:
        job = existing(runtime, job_id or "")
    if json_:
        events = [event_view(event) for event in search.job_timeline(runtime, job)]
        print_json({**current_view(runtime, job), "events": events})
        return
    _show(runtime, job)


@click.command()
@click.argument("job_id")
@as_json
def watch(job_id: str, json_: bool) -> None:
    """Follow a job until it is done. Exit status 0 only if it succeeded."""
    runtime = default_runtime()
    _follow(runtime, existing(runtime, job_id), json_=json_)


@click.command()
@click.argument("job_id")
@as_json
def cancel(job_id: str, json_: bool) -> None:
    """Cancel a job that was not submitted yet. Exit status 0 only if it is cancelled."""
    runtime = default_runtime()
    cancelled = cancel_job(runtime, job_id, actor=actor())
    job = existing(runtime, job_id)
    if not cancelled:
        raise click.ClickException(f"{job_id} is {job.status}. Only a queued job can be cancelled.")
    if json_:
        print_json(current_view(runtime, job))
    else:
        line(f"{job_id} is cancelled")


@click.command()
@click.argument("job_id")
@as_json
def poll(job_id: str, json_: bool) -> None:
    """Ask the provider about a running job now.

    Its outcome otherwise comes by a callback or by the next poll. Exit status 0 only if a poll is
    due. A worker does it: follow it with `orchestrator watch JOB_ID`.
    """
    runtime = default_runtime()
    job = existing(runtime, job_id)
    try:
        poll_now(runtime, job, actor=actor())
    except (NothingToPoll, AskedRecently) as error:
        raise click.ClickException(f"{job_id}: {error}") from None
    if json_:
        print_json(current_view(runtime, existing(runtime, job_id)))
    else:
        line(f"{job_id} is polled now")
    runtime.nudger.close()


@click.command()
@click.argument("job_id")
@click.option("--yes", is_flag=True, help="Retry although the first job may have been charged.")
@as_json
def retry(job_id: str, yes: bool, json_: bool) -> None:
    """Enqueue the request of a failed or cancelled job again. Print the id of the new job."""
    runtime = default_runtime()
    job = existing(runtime, job_id)
    try:
        result = retry_job(runtime, job, actor=actor(), accept_risk=yes)
    except MayBePaid as error:
        raise click.ClickException(f"{job_id}: {error}. Use --yes to retry nevertheless.") from None
    except NotRetryable as error:
        raise click.ClickException(f"{job_id}: {error}") from None
    if json_:
        print_json(current_view(runtime, result.job, result.wait))
    else:
        line(result.job.id)
    runtime.nudger.close()


def _of_celery_task(runtime: Runtime, celery_id: str, tenant: str) -> Job:
    job = job_of_key(runtime, CELERY_SCOPE, celery_id, tenant, name="--celery-id")
    if job is None:
        raise click.ClickException(
            f"no job of the tenant {tenant!r} came from the Celery task {celery_id!r}; name its"
            " owner with --tenant, or its message waits, or it is in `orchestrator rejected list`"
        )
    return job


def _native(file: IO[bytes]) -> Any:
    content = file.read()
    try:
        return parse(content)
    except NotJson as error:
        text = content[:200].decode("utf-8", "replace")
        raise InvalidRequest(Violation("request", text, f"JSON ({error})")) from None


def existing(runtime: Runtime, job_id: str) -> Job:
    """Return a job, or end the command with an error."""
    job = search.find_job(runtime, job_id)
    if job is None:
        raise click.ClickException(
            f"job {job_id!r} does not exist in this ledger or its history; see: orchestrator list"
        )
    return job


def _follow(runtime: Runtime, job: Job, *, json_: bool) -> None:
    """Print a job's events as they happen, until the job is terminal."""
    shown = 0
    while True:
        current = existing(runtime, job.id)
        if not json_:
            shown = _print_events(runtime, job, shown)
        if current.status.terminal:
            break
        runtime.ledger.outcomes.wait(job.id, _WATCH_SECONDS)
    if json_:
        print_json(current_view(runtime, current))
    else:
        _show(runtime, current, events=False)
    if current.status is not Status.SUCCEEDED:
        sys.exit(1)


def _print_events(runtime: Runtime, job: Job, shown: int) -> int:
    events = search.job_timeline(runtime, job)
    for event in events[shown:]:
        detail = "  ".join(f"{name}={value}" for name, value in event.detail.items())
        line(f"{rfc3339(event.at)}  {event.name:<12} {detail}".rstrip())
    return len(events)


def _show(runtime: Runtime, job: Job, *, events: bool = True) -> None:
    if events:
        _print_events(runtime, job, 0)
        line()
    out, view = console(), current_view(runtime, job)
    by = f" (settled by {job.settled_by})" if job.settled_by else ""
    out.print(f"{job.id}  {job.provider}  {job.model} ", status(job.status), by)
    if view.get("waiting_for"):
        until = f" until {view['next_attempt_at']}" if view["next_attempt_at"] else ""
        out.print(f"  waits for {view['waiting_for']}{until}", markup=False)
    for name in ("retry_of", "retried_as"):
        if view[name]:
            out.print(f"  {name.replace('_', ' ')} {view[name]}", markup=False)
    for image in [*view["images"], *view["late_images"]]:
        out.print(f"  image  {_image(image, view['archive'])}")
    if job.error:
        out.print(f"  {job.error.code}: {job.error.message}")
    cost = view["cost"]
    if cost and cost["source"] != "unknown":
        out.print(f"  cost   {exact(cost['amount'])} {cost['unit']} ({cost['source']})")
    notification = view["notification"]
    if notification:
        reason = f": {notification['error']}" if notification["error"] else ""
        out.print(f"  notify {notification['to']}: {notification['status']}{reason}")


def _image(image: dict[str, Any], archive: dict[str, Any] | None) -> str:
    """Return our link of an image. If there will be no copy: the provider's link and the reason."""
    if image["archived_at"]:
        size = f"{image['width']}x{image['height']} " if image["width"] else ""
        unchecked = "" if image["checked"] else f"  (not checked: {image['check_error']})"
        return f"{image['url']}  {size}{image['content_type']}{unchecked}"
    reason = f": {image['error']}" if image["error"] else ""
    if archive and archive["status"] == FollowUpStatus.PENDING:
        return f"{image['url']}  (not archived yet{reason})"
    note = f"  (not archived{reason})" if reason else ""
    return f"{image['source_url'] or 'no link'}{note}"
