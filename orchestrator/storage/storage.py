"""Objects by path, in a folder of this host or in a bucket of S3, Google Cloud or Azure.

An object is there whole or not at all, under every failure; putting it again replaces it at once.

Buckets are obstore's: one wheel without further requirements; files go in parts, of which it takes
back those of a put that fails; links for all three clouds are signed by the same call. It makes its
threads at the first call, and they do not survive a fork: make the calls after it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import unquote, urlsplit

from orchestrator.storage.bucket import SCHEMES, Bucket
from orchestrator.storage.errors import NotStored, StorageError
from orchestrator.storage.folder import Folder
from orchestrator.storage.source import Source

__all__ = ["ALLOWED", "MOST_SECONDS", "NotStored", "Storage", "StorageError"]

#: What `from_url` takes.
ALLOWED = "file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
#: The longest life of a signed link that S3 takes. Seconds.
MOST_SECONDS = 7 * 24 * 3600
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


class Storage:
    """Objects by path: segments of letters, digits and `._-`, joined by `/`; others: ValueError."""

    def __init__(self, place: Folder | Bucket) -> None:
        self._place = place
        #: The scheme, and the folder or the bucket with its prefix.
        self.description = place.description

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The storage that a URL names; nothing is connected to or made yet.

        Raises:
            ValueError: it names none, or the environment does not say enough for it.
        """
        # The URL itself is never repeated: some write a password into it.
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError(ALLOWED) from None
        if "?" not in url and "#" not in url:
            if url.startswith("file:///") and parts.path.strip("/"):
                return cls(Folder(Path(unquote(parts.path))))
            if parts.scheme in SCHEMES and _SEGMENT.fullmatch(parts.netloc):
                prefix = parts.path.strip("/")
                return cls(Bucket(parts.scheme, parts.netloc, prefix and _checked(prefix)))
        raise ValueError(ALLOWED)

    def put(self, path: str, content: BinaryIO | bytes, content_type: str) -> None:
        """Keep an object, in the place of what was there; a file is read from its start.

        Raises:
            StorageError: it is not kept. What was there before still is.
            Exception: what reading the file raised, as it came; nothing is kept either.
        """
        _checked(path)
        source = Source(content)
        try:
            self._place.put(path, source, content_type)
        except StorageError:
            if source.failure is not None:
                raise source.failure from None
            raise

    def get(self, path: str) -> bytes:
        """A whole object, whose size is the caller's to limit.

        Raises:
            NotStored: there is no such object.
            StorageError: the storage does not give it.
        """
        return b"".join(self.stream(path))

    def stream(self, path: str) -> Iterator[bytes]:
        """An object's bytes, piece by piece; what `get` raises comes with one of them."""
        return self._place.stream(_checked(path))

    def link(self, path: str, *, seconds: int) -> str | None:
        """A URL that anybody can GET the object by, for 1 to MOST_SECONDS; None: there are none.

        Raises:
            StorageError: there are no credentials to sign it with.
        """
        if not 1 <= seconds <= MOST_SECONDS:
            raise ValueError(f"a link lives 1 to {MOST_SECONDS} s, not {seconds}")
        return self._place.link(_checked(path), seconds)

    def delete(self, path: str) -> None:
        """Forget an object; one that is not there is no error.

        Raises:
            StorageError: it may still be there.
        """
        self._place.delete(_checked(path))

    def sweep(self) -> None:
        """Remove what killed processes had half written, an hour ago or more; only in folders.

        In a bucket the parts of such a put are seen by nobody, and need a lifecycle rule.

        Raises:
            StorageError: the folder cannot be read.
        """
        self._place.sweep()

    def check(self) -> None:
        """Put, get and delete a small object.

        Raises:
            StorageError: one of these failed.
        """
        path, content = f"probe-{secrets.token_hex(4)}.txt", secrets.token_bytes(16)
        self.put(path, content, "text/plain")
        try:
            if self.get(path) != content:
                raise StorageError(f"{self}: gives back something else than was put")
        finally:
            self.delete(path)

    def __repr__(self) -> str:
        return self.description


def _checked(path: str) -> str:
    if not all(_SEGMENT.fullmatch(segment) for segment in path.split("/")):
        raise ValueError(f"not a path of a storage: {path[:100]!r}")
    return path
