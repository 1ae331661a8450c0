"""Serves the images. They are drawn when they are requested, or fail as the faults say."""

from functools import partial

from flask import Blueprint, Response, abort, request

from .broken_images import REDIRECT_TARGET, ImageLink, answer_broken_link, answer_expired_link
from .link_faults import LinkFault
from .pictures import draw
from .state import SandboxState
from .tasks import Task, TaskStatus


def files_blueprint(state: SandboxState) -> Blueprint:
    """Return the route `/files/<task id>-<number>.<extension>`. It needs no API key."""
    routes = Blueprint("files", __name__)

    @routes.get("/files/<name>")
    def show(name: str) -> Response:
        task, number = _find(state, name)
        fault = _fault(state, task, number)
        if state.clock() >= (task.links_expire_at() or 0):
            return answer_expired_link()
        picture = task.pictures[number]
        caption = _caption(task, number, state.providers[task.provider].title)
        image = partial(draw, picture, task.prompt, caption)
        if fault is None:
            return Response(image(), content_type=picture.content_type)
        link = ImageLink(task.links()[number], image, picture.content_type, state.stopping)
        return answer_broken_link(link, fault)

    return routes


def _find(state: SandboxState, name: str) -> tuple[Task, int]:
    """Return the task and the number of the picture that a file name stands for."""
    stem, _, extension = name.rpartition(".")
    task_id, _, digits = stem.rpartition("-")
    task = state.store.get(task_id)
    if task is None or not (digits.isascii() and digits.isdigit() and len(digits) < 4):
        abort(404)
    number = int(digits)
    if number >= len(task.links()) or not _has_pictures(task):
        abort(404)
    if task.pictures[number].extension != extension:
        abort(404)
    return task, number


def _has_pictures(task: Task) -> bool:
    if task.status is TaskStatus.SUCCEEDED:
        return True
    # These faults send a callback with images for a task that failed.
    return "conflict" in task.faults or "forged" in task.faults


def _fault(state: SandboxState, task: Task, number: int) -> LinkFault | None:
    """Count this request and return its fault, if any. HEAD requests are not counted."""
    if REDIRECT_TARGET in request.args:
        return None
    request_number = task.image_requests[number] + 1
    if request.method == "GET":
        request_number = state.store.count_image_request(task, number)
    text = "html" if "placeholder_image" in task.faults else task.faults.values.get("image")
    fault = None if text is None else LinkFault.read(str(text))
    return fault if fault and fault.applies_to(request_number) else None


def _caption(task: Task, number: int, title: str) -> str:
    caption = f"{title} · {task.model} · {task.id}"
    if len(task.pictures) == 1:
        return caption
    # The number comes first, because a narrow picture cuts the end of its caption.
    return f"{number + 1}/{len(task.pictures)} · {caption}"
