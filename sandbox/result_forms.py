"""The forms of a task's result that no document describes."""

import base64
import json
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

from .thin_success import Path, find_holder

#: Draws one image of a task by its number.
Draw = Callable[[int], bytes]


def _objects(links: Sequence[str]) -> list[dict[str, str]]:
    return [{"url": link} for link in links]


_FORMS: Mapping[str, Callable[[Sequence[str]], Any]] = {
    "strings": list,
    "objects": _objects,
    "string": lambda links: links[0],
    "object": lambda links: {"url": links[0]},
    "text": json.dumps,
    "twice": lambda links: json.dumps(json.dumps({"resultUrls": links})),
}


def reshape_result(
    view: MutableMapping[str, Any],
    fields: Sequence[Path],
    form: str,
    links: Sequence[str],
    draw: Draw,
) -> None:
    """Give the result of a task the form of `result_form`."""
    if form == "data_url":
        return
    if form in ("string", "object"):
        # These hold one image. Another field keeps the list of all, or the only field is a list.
        if len(links) > 1 and len(fields) == 1:
            form = f"{form}s"
        fields = fields[:1]
    if form == "b64_json":
        value: Any = [{"b64_json": _base64(draw(number))} for number in range(len(links))]
    else:
        value = _FORMS[form](links)
    for path in fields:
        holder = find_holder(view, path)
        if holder is not None:
            holder[path[-1]] = value


def data_url(file: bytes, content_type: str) -> str:
    """Return a `data:` URL of a file."""
    return f"data:{content_type};base64,{_base64(file)}"


def _base64(file: bytes) -> str:
    return base64.b64encode(file).decode()
