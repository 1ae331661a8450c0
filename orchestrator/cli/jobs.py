"""`orchestrator enqueue`, `get`, `watch`, `cancel`, `retry`: one job from the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, Any

import click

from orchestrator.cli.output import as_json, console, print_json, status
from orchestrator.enqueue import cancel_job, create_job
from orchestrator.jobs.model import Job, Status
from orchestrator.jobs.schemas import event_view, job_view, rfc3339
from orchestrator.jobs.uploads import ImageFile
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.jsonio import NotJson, parse
from orchestrator.ledger import Ledger
from orchestrator.operations.rerun import MayBePaid, NotRetryable
from orchestrator.operations.rerun import retry as try_again
from orchestrator.providers import PROVIDERS
from orchestrator.runtime import Runtime, default_runtime

#: How long one wait in the ledger lasts before the job's news are shown. Seconds.
_LOOK = 1.0


class JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object on the command line."""

    name = "json"

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, Any]:
        """Parse it, or say what is wrong."""
        try:
            parsed = parse(value)
        except NotJson as error:
            self.fail(f"{value!r} is not JSON: {error}", param, ctx)
        if not isinstance(parsed, dict):
            self.fail(f"{value!r} is not a JSON object", param, ctx)
        return parsed


@click.command()
@click.option("--provider", required=True, type=click.Choice(list(PROVIDERS)), help="Whose API.")
@click.option("--model", required=True, help="A model of that provider, or a family name.")
@click.option("--prompt", help="What to draw; `-` reads it from standard input.")
@click.option("--image", "images", multiple=True, metavar="URL", help="A reference image; repeat.")
@click.option(
    "--image-file", metavar="PATH", help="A reference image on this machine, where files are taken."
)
@click.option("--aspect-ratio", metavar="W:H", help="Such as 16:9.")
@click.option("--resolution", help="Such as 2K.")
@click.option("--output-format", help="Such as png.")
@click.option("--n", type=int, help="How many images.")
@click.option("--request", type=click.File("rb"), help="The provider's own body, from a JSON file.")
@click.option(
    "--provider-options",
    type=JsonObject(),
    help="More fields of the provider's own body, as a JSON object; merged last.",
)
@click.option("--metadata", type=JsonObject(), help="A JSON object that comes back with the job.")
@click.option("--deadline-seconds", type=float, help="Fail after this long.")
@click.option(
    "--on-unconfirmed",
    type=click.Choice(["fail", "resubmit"]),
    help="When nobody can tell whether the provider took it: fail, or risk paying twice.",
)
@click.option("--notify-url", help="Told of the outcome by a signed POST.")
@click.option("--notify-task", help="A Celery task that is told, by its name.")
@click.option("--notify-queue", help="The Celery queue of --notify-task.  [default: celery]")
@click.option("--notify-stream", help="A Redis stream that is told.")
@click.option("--idempotency-key", help="The same key and request give the same job for 24 h.")
@click.option("--wait", is_flag=True, help="Watch the job until it is done.")
@as_json
def enqueue(
    *,
    idempotency_key: str | None,
    wait: bool,
    json_: bool,
    request: IO[bytes] | None,
    prompt: str | None,
    images: tuple[str, ...],
    image_file: str | None,
    **options: Any,
) -> None:
    """Enqueue one job, and print its id.

    \b
    orchestrator enqueue --provider hiapi --model Nano-Banana-2 \\
        --prompt "A lighthouse at dusk" --aspect-ratio 16:9 --wait

    Exit status 0: the job is in the ledger; with --wait, it succeeded.
    """
    runtime = default_runtime()
    wanted = {name: value for name, value in options.items() if value is not None}
    if prompt is not None:
        wanted["prompt"] = sys.stdin.read() if prompt == "-" else prompt
    if images:
        wanted["images"] = list(images)
    if request is not None:
        wanted["request"] = _native(request)
    file = ImageFile.read(Path(image_file)) if image_file else None
    placed = create_job(runtime, wanted, scope="cli", key=idempotency_key, file=file)
    if wait:
        _follow(runtime, placed.job, json_=json_)
    elif json_:
        print_json(job_view(placed.job, runtime.settings.public_url))
    else:
        click.echo(placed.job.id)
    runtime.nudger.close()


@click.command()
@click.argument("job_id")
@as_json
def get(job_id: str, json_: bool) -> None:
    """Show a job and its timeline. Exit status 0 only if there is such a job."""
    runtime = default_runtime()
    job = existing(runtime, job_id)
    if json_:
        events = [event_view(event) for event in runtime.ledger.events(job_id)]
        print_json({**job_view(job, runtime.settings.public_url), "events": events})
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
    """Call a job off that was not sent yet. Exit status 0 only if it is cancelled."""
    runtime = default_runtime()
    cancelled = cancel_job(runtime, job_id)
    job = existing(runtime, job_id)
    if not cancelled:
        raise click.ClickException(
            f"{job_id} is {job.status}: only a job that is still queued can be cancelled"
        )
    if json_:
        print_json(job_view(job, runtime.settings.public_url))
    else:
        click.echo(f"{job_id} is cancelled")


@click.command()
@click.argument("job_id")
@click.option("--yes", is_flag=True, help="Go on although the first job may have been charged.")
@as_json
def retry(job_id: str, yes: bool, json_: bool) -> None:
    """Enqueue the request of a failed or cancelled job again, once; print the new job's id."""
    runtime = default_runtime()
    job = existing(runtime, job_id)
    try:
        placed = try_again(runtime, job, caller="cli", accept_risk=yes)
    except MayBePaid as error:
        raise click.ClickException(f"{job_id}: {error}; --yes does it all the same") from None
    except NotRetryable as error:
        raise click.ClickException(f"{job_id}: {error}") from None
    if json_:
        print_json(job_view(placed.job, runtime.settings.public_url))
    else:
        click.echo(placed.job.id)
    runtime.nudger.close()


def _native(file: IO[bytes]) -> Any:
    content = file.read()
    try:
        return parse(content)
    except NotJson as error:
        text = content[:200].decode("utf-8", "replace")
        raise InvalidRequest(Violation("request", text, f"JSON ({error})")) from None


def existing(runtime: Runtime, job_id: str) -> Job:
    """A job that was named, or the end of the command."""
    job = runtime.ledger.get(job_id)
    if job is None:
        raise click.ClickException(f"there is no job {job_id!r} in this ledger")
    return job


def _follow(runtime: Runtime, job: Job, *, json_: bool) -> None:
    """Print a job's events as they happen, until it is terminal."""
    shown = 0
    while True:
        current = existing(runtime, job.id)
        if not json_:
            shown = _print_events(runtime.ledger, job.id, shown)
        if current.status.terminal:
            break
        runtime.ledger.wait(job.id, _LOOK)
    if json_:
        print_json(job_view(current, runtime.settings.public_url))
    else:
        _show(runtime, current, events=False)
    if current.status is not Status.SUCCEEDED:
        sys.exit(1)


def _print_events(ledger: Ledger, job_id: str, shown: int) -> int:
    events = ledger.events(job_id)
    for event in events[shown:]:
        detail = "  ".join(f"{name}={value}" for name, value in event.detail.items())
        click.echo(f"{rfc3339(event.at)}  {event.name:<12} {detail}".rstrip())
    return len(events)


def _show(runtime: Runtime, job: Job, *, events: bool = True) -> None:
    if events:
        _print_events(runtime.ledger, job.id, 0)
        click.echo()
    out, seen = console(), job_view(job, runtime.settings.public_url)
    by = f" (settled by {job.settled_by})" if job.settled_by else ""
    out.print(f"{job.id}  {job.request.provider}  {job.request.model} ", status(job.status), by)
    for image in seen["images"]:
        out.print(f"  image  {_image(image)}", markup=False)
    if job.error:
        out.print(f"  {job.error.code}: {job.error.message}", markup=False)
    cost = seen["cost"]
    if cost and cost["source"] != "unknown":
        out.print(f"  cost   {cost['amount']:g} {cost['unit']} ({cost['source']})", markup=False)
    told = seen["notification"]
    if told:
        why = f": {told['error']}" if told["error"] else ""
        out.print(f"  told   {told['to']}: {told['status']}{why}", markup=False)


def _image(image: dict[str, Any]) -> str:
    """Our own copy, once there is one, else the provider's link and why there is none."""
    if image["archived_at"]:
        return f"{image['url']}  {image['width']}x{image['height']} {image['content_type']}"
    why = f"  (not archived: {image['error']})" if image["error"] else ""
    return f"{image['source_url']}{why}"
