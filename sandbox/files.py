"""Serves the pictures, drawn when they are fetched, or spoiled as the faults ask for."""

from functools import partial

from flask import Blueprint, Response, abort, request

from .broken_images import FOLLOWED, Link, dead, spoil
from .link_faults import LinkFault
from .pictures import draw
from .state import SandboxState
from .tasks import Status, Task


def files_blueprint(world: SandboxState) -> Blueprint:
    """`GET /files/<task id>-<number>.<extension>`; no API key, as with a real image link."""
    routes = Blueprint("files", __name__)

    @routes.get("/files/<name>")
    def show(name: str) -> Response:
        task, number = _find(world, name)
        fault = _fault(world, task, number)
        if world.clock() >= (task.links_die_at() or 0):
            return dead()
        picture = task.pictures[number]
        caption = _caption(task, number, world.providers[task.provider].title)
        image = partial(draw, picture, task.prompt, caption)
        if fault is None:
            return Response(image(), content_type=picture.content_type)
        return spoil(Link(task.links()[number], image, picture.content_type, world.stopping), fault)

    return routes


def _find(world: SandboxState, name: str) -> tuple[Task, int]:
    """The task that a file's name names, and which of its pictures."""
    stem, _, extension = name.rpartition(".")
    task_id, _, digits = stem.rpartition("-")
    task = world.store.get(task_id)
    if task is None or not (digits.isascii() and digits.isdigit() and len(digits) < 4):
        abort(404)
    number = int(digits)
    if number >= len(task.links()) or not _has_pictures(task):
        abort(404)
    if task.pictures[number].extension != extension:
        abort(404)
    return task, number


def _has_pictures(task: Task) -> bool:
    # The fault `conflict` also promises pictures for a task that failed.
    return task.status is Status.SUCCEEDED or "conflict" in task.faults or "forged" in task.faults


def _fault(world: SandboxState, task: Task, number: int) -> LinkFault | None:
    """Count this request, and say which fault it meets."""
    if FOLLOWED in request.args:
        return None
    asked = task.asked[number] + 1
    if request.method == "GET":
        asked = world.store.asked(task, number)
    wanted = "html" if "placeholder_image" in task.faults else task.faults.values.get("image")
    fault = None if wanted is None else LinkFault.read(str(wanted))
    return fault if fault and fault.hits(asked) else None


def _caption(task: Task, number: int, title: str) -> str:
    caption = f"{title} · {task.model} · {task.id}"
    if len(task.pictures) == 1:
        return caption
    # In front, where even a narrow picture shows it: no two of a task are the same.
    return f"{number + 1}/{len(task.pictures)} · {caption}"
