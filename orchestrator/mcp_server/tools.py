"""The tools: what each does with the API."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from anyio import create_task_group, sleep
from mcp.types import ContentBlock, ImageContent, ToolAnnotations
from pydantic import BaseModel

from orchestrator.mcp_server.api_calls import PASSING, ApiCalls, NoAnswer, Refused, job_path
from orchestrator.mcp_server.inputs import (
    MAX_WAIT_SECONDS,
    Arguments,
    ImageArguments,
    JobArguments,
    JobsArguments,
    ModelsArguments,
    SubmitArguments,
    WaitArguments,
    WantedImages,
)
from orchestrator.mcp_server.outputs import (
    JobResult,
    JobsResult,
    ModelsResult,
    QuoteResult,
    SubmittedJob,
    ThumbnailResult,
    job_fields,
)

#: The first and the longest time between two reports of progress. Seconds.
FIRST_PROGRESS_SECONDS, MAX_PROGRESS_SECONDS = 1.0, 5.0
#: The pause of a wait while the API is away. Seconds.
AWAY_SECONDS = 1.0
#: The lifetime of a link to an image. Seconds.
LINK_SECONDS = 86_400
#: The largest thumbnail. A client may refuse an answer of 1 MB. Bytes.
MAX_THUMBNAIL_BYTES = 512 * 1024

#: Reports progress: seconds that have passed, seconds in all, the state of the job.
Progress = Callable[[float, float, str], Awaitable[None]]


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool.

    Attributes:
        api: the API, with the key of the agent.
        arguments: are checked.
        progress: reports progress, if the agent asked for it.
    """

    api: ApiCalls
    arguments: Any
    progress: Progress


@dataclass(frozen=True)
class ToolAnswer:
    """The result of a tool, and pictures beside it."""

    result: BaseModel
    pictures: list[ContentBlock] = field(default_factory=list)


@dataclass(frozen=True)
class ImageTool:
    """A tool.

    Attributes:
        name, title, description: for the agent.
        takes: the model of the arguments.
        gives: the model of the result.
        run: does the work. It may raise Refused or NoAnswer.
        changes: whether it changes something; then `again` says whether a repetition changes more.
    """

    name: str
    title: str
    description: str
    takes: type[Arguments]
    gives: type[BaseModel]
    run: Callable[[ToolCall], Awaitable[ToolAnswer]]
    changes: bool = False

    @property
    def annotations(self) -> ToolAnnotations:
        """Return the hints for a client that asks a person before a call."""
        return ToolAnnotations(
            title=self.title,
            read_only_hint=not self.changes,
            destructive_hint=self.changes,
            idempotent_hint=True,
            open_world_hint=True,
        )


async def _list_models(call: ToolCall) -> ToolAnswer:
    wanted = call.arguments.provider
    found = (await call.api.get("/v1/providers"))["providers"]
    enabled = [each for each in found if each["on"]]
    chosen = [each for each in enabled if wanted in (None, each["name"])]
    if not chosen and wanted is not None:
        names = ", ".join(each["name"] for each in enabled) or "none"
        violation = {"field": "provider", "value": wanted, "allowed": f"one of {names}"}
        raise Refused({"title": "There is no such provider", "status": 404, "errors": [violation]})
    step = "Call quote with a provider, a model or a family, and a prompt."
    if wanted is None:
        step = f"Call list_models with a provider to see options and limits. Then: {step}"
    providers = [_provider(each, options=wanted is not None) for each in chosen]
    return ToolAnswer(ModelsResult.model_validate({"providers": providers, "next_step": step}))


def _provider(provider: Mapping[str, Any], *, options: bool) -> dict[str, Any]:
    circuit = provider["circuit"]
    return {
        "provider": provider["name"],
        "title": provider["title"],
        "submits_now": None if circuit is None else circuit not in ("open", "paused"),
        "until": provider["until"],
        "takes_unlisted_models": provider["takes_unlisted_models"],
        "families": provider["families"],
        "models": [
            {**model, "options": model["options"] if options else None}
            for model in provider["models"]
        ],
    }


async def _quote(call: ToolCall) -> ToolAnswer:
    body = call.arguments.body()
    answer = await call.api.call("POST", "/v1/jobs/quote", body=body, again=True)
    quote: dict[str, Any] = answer.json()
    problem = quote["problem"] or {}
    step = "To buy it, call submit_image_job with the same arguments and a key of your choice."
    if problem:
        step = "Nothing was bought. Correct the arguments that violations names, and quote again."
    if "limit" in problem:
        step = "Nothing was bought. Submit it after retry_after seconds, or ask a person."
    return ToolAnswer(
        QuoteResult.model_validate(
            {
                "accepted": quote["accepted"],
                "problem": problem.get("detail"),
                "violations": problem.get("errors", []),
                "retry_after": problem.get("retry_after"),
                "costs": quote["costs"],
                "next_step": step,
            }
        )
    )


async def _submit(call: ToolCall) -> ToolAnswer:
    wanted: SubmitArguments = call.arguments
    answer = await call.api.call("POST", "/v1/jobs", body=wanted.body(), key=wanted.key)
    fields = await _job_fields(call.api, answer.json())
    replayed = answer.headers.get("idempotent-replay") == "true"
    return ToolAnswer(
        SubmittedJob.model_validate({**fields, "key": wanted.key, "replayed": replayed})
    )


async def _wait(call: ToolCall) -> ToolAnswer:
    """Ask in parts, so that progress can be reported. The end of this call ends no job.

    While the API is away, for example during a restart, this goes on asking until the time is over.
    """
    wanted: WaitArguments = call.arguments
    began, hold = monotonic(), FIRST_PROGRESS_SECONDS
    while True:
        left = max(0.0, wanted.seconds - (monotonic() - began))
        try:
            job = await call.api.get(job_path(wanted.job_id), wait=min(left, hold))
        except (NoAnswer, Refused) as error:
            passes = isinstance(error, NoAnswer) or error.problem["status"] in PASSING
            left = wanted.seconds - (monotonic() - began)
            if not passes or left <= 0:
                raise
            await sleep(min(left, AWAY_SECONDS))
            continue
        passed = monotonic() - began
        if job["settled_at"] is not None or passed >= wanted.seconds:
            return await _job(call.api, job)
        await call.progress(passed, wanted.seconds, job["status"])
        hold = min(2 * hold, MAX_PROGRESS_SECONDS)


async def _get(call: ToolCall) -> ToolAnswer:
    return await _job(call.api, await call.api.get(job_path(call.arguments.job_id)))


async def _cancel(call: ToolCall) -> ToolAnswer:
    path = f"{job_path(call.arguments.job_id)}/cancel"
    return await _job(call.api, (await call.api.call("POST", path)).json())


async def _list_jobs(call: ToolCall) -> ToolAnswer:
    wanted: JobsArguments = call.arguments
    page = await call.api.get(
        "/v1/jobs",
        idempotency_key=wanted.key,
        **wanted.model_dump(include={"status", "provider", "limit", "cursor"}),
    )
    jobs = [job_fields(job, None) for job in page["jobs"]]
    return ToolAnswer(JobsResult.model_validate({**page, "jobs": jobs}))


async def _view_image(call: ToolCall) -> ToolAnswer:
    wanted: ImageArguments = call.arguments
    path = f"{job_path(wanted.job_id)}/images/{wanted.index}/thumbnail"
    answer = await call.api.call("GET", path, again=True, max_bytes=MAX_THUMBNAIL_BYTES)
    kind = answer.headers.get("content-type", "image/webp")
    data = base64.b64encode(answer.body).decode()
    result = ThumbnailResult(
        job_id=wanted.job_id, index=wanted.index, content_type=kind, bytes=len(answer.body)
    )
    return ToolAnswer(result, [ImageContent(type="image", data=data, mime_type=kind)])


async def _job(api: ApiCalls, job: Mapping[str, Any]) -> ToolAnswer:
    return ToolAnswer(JobResult.model_validate(await _job_fields(api, job)))


async def _job_fields(api: ApiCalls, job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a job, with links to its images."""
    links: dict[int, Mapping[str, str]] = {}

    async def link(index: int) -> None:
        try:
            path = f"{job_path(job['id'])}/images/{index}/link"
            links[index] = await api.get(path, expires_in=LINK_SECONDS)
        except Refused:  # there is no public URL, or the image is lost: the job says so
            return

    async with create_task_group() as group:
        for index in range(len(job["images"]) + len(job["late_images"])):
            group.start_soon(link, index)
    return job_fields(job, links)


TOOLS = {
    tool.name: tool
    for tool in (
        ImageTool(
            "list_models",
            "List image models",
            "Lists the providers that can be used now, with their models, families and prices. A"
            " family is a name that means the same kind of model at several providers. With a"
            " provider, it also shows the options and limits of each model.",
            ModelsArguments,
            ModelsResult,
            _list_models,
        ),
        ImageTool(
            "quote",
            "Quote an image",
            "Checks a request exactly as submit_image_job does, and says what it would cost or why"
            " it would be refused. It creates nothing and costs nothing. A cost without a price is"
            " unknown: amount is null, and the job is charged all the same.",
            WantedImages,
            QuoteResult,
            _quote,
        ),
        ImageTool(
            "submit_image_job",
            "Buy an image",
            "Submits an image job, which costs money, and returns at once. The required argument"
            " key makes it safe: choose one key for each wanted result, and after a crash, a"
            " time-out or a lost answer repeat the call with the same key and the same arguments."
            " Then you get the same job (replayed is true), and it is bought once. Never choose a"
            " new key only because an answer did not come. The same key with other arguments is an"
            " error. A key is kept for 24 hours; later, look with list_jobs and the key first. Call"
            " wait_for_job next.",
            SubmitArguments,
            SubmittedJob,
            _submit,
            changes=True,
        ),
        ImageTool(
            "wait_for_job",
            "Wait for an image",
            f"Waits until a job has its outcome, for at most {MAX_WAIT_SECONDS:g} seconds, and"
            " returns the job as it is then. If done is false, call it again; most jobs take from"
            " 10 seconds to some minutes. When this call ends or is cancelled, the job goes on.",
            WaitArguments,
            JobResult,
            _wait,
        ),
        ImageTool(
            "get_job",
            "Show a job",
            "Shows a job as it is now, with links to its images.",
            JobArguments,
            JobResult,
            _get,
        ),
        ImageTool(
            "list_jobs",
            "List jobs",
            "Lists your jobs, newest first, without links to their images. With a key, it finds the"
            " job that a lost call created.",
            JobsArguments,
            JobsResult,
            _list_jobs,
        ),
        ImageTool(
            "view_image",
            "Look at an image",
            "Shows an image of a job as a small thumbnail, so that you can judge it. It exists a"
            " moment after the outcome, when the image is archived. The links of get_job lead to"
            " the whole image.",
            ImageArguments,
            ThumbnailResult,
            _view_image,
        ),
        ImageTool(
            "cancel_job",
            "Cancel a job",
            "Cancels a job that was not sent to its provider yet, which costs nothing. A job that"
            " was sent cannot be cancelled: the error says so, and the job goes on.",
            JobArguments,
            JobResult,
            _cancel,
            changes=True,
        ),
    )
}
