"""New objects that are stored together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self

from orchestrator.storage.source import Source

#: A part of a path, and the name of a bucket.
SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object that is to be stored. See `Storage.put`."""

    path: str
    source: Source
    content_type: str
    attachment: bool


class Bundle:
    """New objects for `Storage.commit`. Nothing is written before that.

    The exit of a `with` block closes the files that were not committed.
    """

    def __init__(self) -> None:
        self.objects: list[NewObject] = []

    def put(
        self, path: str, content: BinaryIO | bytes, content_type: str, *, attachment: bool = False
    ) -> None:
        """Add an object. The bundle closes `content`. For arguments see `Storage.put`."""
        source = Source(content)
        self.objects.append(NewObject(checked_path(path), source, content_type, attachment))

    def clear(self) -> None:
        """Forget the objects, and close their files."""
        for each in self.objects:
            each.source.close()
        self.objects.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear()


def checked_path(path: str) -> str:
    """Return a path of segments of letters, digits and `._-`, joined by `/`.

    Raises:
        ValueError: the path has another form.
    """
    if not all(map(SEGMENT.fullmatch, path.split("/"))):
        raise ValueError(f"path: {path[:100]!r} is not letters, digits and ._- joined by /")
    return path
