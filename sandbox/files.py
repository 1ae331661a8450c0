"""Serves the images. They are drawn when they are requested, or fail as the faults say."""

import gzip
import sys
from collections.abc import Callable, Mapping
from functools import partial

import brotli
from flask import Blueprint, Response, abort, request

from .broken_images import REDIRECT_TARGET, ImageLink, answer_broken_link, answer_expired_link
from .choices import ChosenValue
from .http_types import send_interim
from .image_files import ImageData
from .link_forms import FOLDERS
from .state import SandboxState
from .tasks import Task, TaskStatus

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: Values of Content-Encoding that differ from the name of their choice.
_CODINGS = {"empty": "", "aws-chunked+gzip": "aws-chunked,gzip", "not_gzip": "gzip"}
#: The choices with a compressed body.
_COMPRESSED: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": partial(gzip.compress, mtime=0),
    "aws-chunked+gzip": partial(gzip.compress, mtime=0),
    "br": brotli.compress,
    "zstd": zstd.compress,
}


def files_blueprint(state: SandboxState) -> Blueprint:
    """Return the routes of `<task id>-<number>.<extension>`. They need no API key."""
    routes = Blueprint("files", __name__)

    @routes.get("/files/<name>")
    @routes.get("/files/<folder>/<name>")
    def show(name: str, folder: str = "") -> Response:
        if folder not in FOLDERS:
            abort(404)
        task, number = _find(state, name)
        fault = _fault(state, task, number)
        if state.clock() >= (task.links_expire_at() or 0):
            return answer_expired_link()
        if (status := task.faults.form("early_hints")) is not None:
            send_interim(int(status))
        provider = state.providers[task.provider]
        if fault is None:
            return _answer(provider.draw(task, number), task.faults.form("encoding"))
        content_type = task.pictures[number].content_type
        link = ImageLink(
            task.links()[number],
            lambda: provider.draw(task, number).data,
            content_type,
            state.stopping,
        )
        return answer_broken_link(link, fault)

    return routes


def _answer(file: ImageData, encoding: str | None) -> Response:
    """Return the file with the Content-Encoding that the fault `encoding` names."""
    if encoding is None:
        return Response(file.data, content_type=file.content_type)
    compress = _COMPRESSED.get(encoding)
    data = compress(file.data) if compress else file.data
    answer = Response(data, content_type=file.content_type)
    answer.headers["Content-Encoding"] = _CODINGS.get(encoding, encoding)
    return answer


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


def _fault(state: SandboxState, task: Task, number: int) -> ChosenValue | None:
    """Count this request and return its fault, if any. HEAD requests are not counted."""
    if REDIRECT_TARGET in request.args:
        return None
    request_number = task.image_requests[number] + 1
    if request.method == "GET":
        request_number = state.store.count_image_request(task, number)
    is_placeholder = "placeholder_image" in task.faults
    fault = ChosenValue("html") if is_placeholder else task.faults.choice("image")
    return fault if fault and fault.applies_to(request_number) else None
