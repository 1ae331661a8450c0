"""Serves the pictures, drawn when they are fetched."""

from flask import Blueprint, Response, abort

from .pictures import draw
from .tasks import Status, Task
from .world import World

_PLACEHOLDER = """<!doctype html>
<title>Image not ready</title>
<p>The image you asked for is not available.</p>
"""


def files_blueprint(world: World) -> Blueprint:
    """`GET /files/<task id>-<number>.<extension>`; no API key, as with a real image link."""
    routes = Blueprint("files", __name__)

    @routes.get("/files/<name>")
    def show(name: str) -> Response:
        stem, _, extension = name.rpartition(".")
        task_id, _, number = stem.rpartition("-")
        task = world.store.get(task_id)
        if task is None or not number.isdigit() or int(number) >= len(task.pictures):
            abort(404)
        picture = task.pictures[int(number)]
        if picture.extension != extension or not _has_pictures(task):
            abort(404)
        if world.clock() >= (task.links_die_at() or 0):
            abort(410)
        if "placeholder_image" in task.faults:
            return Response(_PLACEHOLDER, mimetype="text/html")
        title = world.providers[task.provider].title
        caption = f"{title} · {task.model} · {task.id}"
        if len(task.pictures) > 1:
            # In front, where even a narrow picture shows it: no two of a task are the same.
            caption = f"{int(number) + 1}/{len(task.pictures)} · {caption}"
        return Response(draw(picture, task.prompt, caption), mimetype=picture.content_type)

    return routes


def _has_pictures(task: Task) -> bool:
    # The fault `conflict` also promises pictures for a task that failed.
    return task.status is Status.SUCCEEDED or "conflict" in task.faults or "forged" in task.faults
