"""Reference images that callers hand over as files, for providers that take them in the request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.jobs.model import Upload
from orchestrator.jobs.validation import InvalidRequest, Violation

#: The longest file name that is kept. Characters.
MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file as it was handed over: its name and its bytes."""

    name: str
    content: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> ImageFile:
        """A file of this machine.

        Raises:
            InvalidRequest: it cannot be read.
        """
        try:
            return cls(path.name, path.read_bytes())
        except OSError as error:
            allowed = f"a file that can be read ({error.strerror})"
            raise InvalidRequest(Violation("image_file", str(path), allowed)) from None


def described(file: ImageFile, most: int) -> Upload:
    """What is known of a file; `most` is the size limit in bytes.

    Raises:
        InvalidRequest: it is too large, or no image.
    """
    size, kind = len(file.content), content_type(file.content)
    allowed = f"a PNG, JPEG or WebP image of at most {most} bytes"
    if size > most:
        raise InvalidRequest(Violation("image_file", f"{size} bytes", allowed))
    if kind is None:
        raise InvalidRequest(Violation("image_file", file.name, allowed))
    name = "".join(c for c in file.name if c.isprintable())[-MAX_NAME:] or "image"
    return Upload(name, kind, size, hashlib.sha256(file.content).hexdigest())


def content_type(content: bytes) -> str | None:
    """The media type of an image, by its first bytes; None for anything else."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    return None
