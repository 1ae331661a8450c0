"""Reference images that callers send as files, for providers that accept files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.jobs.validation import InvalidRequest, Violation

#: The longest file name that is kept. Characters.
MAX_NAME_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Upload:
    """A reference image that the caller sent as a file. The ledger holds its bytes."""

    name: str
    content_type: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file of a caller: its name and its bytes."""

    name: str
    content: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> ImageFile:
        """Read a file of this machine.

        Raises:
            InvalidRequest: the file cannot be read.
        """
        try:
            return cls(path.name, path.read_bytes())
        except OSError as error:
            allowed = f"a readable file ({error.strerror})"
            raise InvalidRequest(Violation("image_file", str(path), allowed)) from None


def describe(file: ImageFile, max_bytes: int) -> Upload:
    """Return the name, type, size and digest of a file.

    Raises:
        InvalidRequest: the file is larger than `max_bytes`, or not an image.
    """
    size, kind = len(file.content), content_type(file.content)
    allowed = f"a PNG, JPEG or WebP image of at most {max_bytes} bytes"
    if size > max_bytes:
        raise InvalidRequest(Violation("image_file", f"{size} bytes", allowed))
    if kind is None:
        raise InvalidRequest(Violation("image_file", file.name, allowed))
    name = "".join(c for c in file.name if c.isprintable())[-MAX_NAME_CHARACTERS:] or "image"
    return Upload(name, kind, size, hashlib.sha256(file.content).hexdigest())


def content_type(content: bytes) -> str | None:
    """Return the media type of an image by its first bytes, or None."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    return None
