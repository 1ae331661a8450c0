"""The files that the image links of a task lead to."""

from dataclasses import dataclass

from .file_kinds import FILE_KINDS
from .pictures import draw
from .tasks import Task


@dataclass(frozen=True)
class ImageData:
    """One file and its media type."""

    data: bytes
    content_type: str


def draw_image(task: Task, number: int, title: str) -> ImageData:
    """Draw one image of a task, and turn it into the kind of file that the fault `file` names.

    Args:
        task: The task.
        number: The number of the image.
        title: The name of the provider, for the caption.
    """
    picture = task.pictures[number]
    data = draw(picture, task.prompt, _caption(task, number, title))
    form = task.faults.form("file")
    if form is None:
        return ImageData(data, picture.content_type)
    kind = FILE_KINDS[form]
    return ImageData(kind.make(data), kind.content_type)


def _caption(task: Task, number: int, title: str) -> str:
    caption = f"{title} · {task.model} · {task.id}"
    if len(task.pictures) == 1:
        return caption
    # The number comes first, because a narrow picture cuts the end of its caption.
    return f"{number + 1}/{len(task.pictures)} · {caption}"
