"""Objects by path, in a folder of this host or in a bucket of S3, Google Cloud or Azure.

An object is complete or absent, after every failure. Another put replaces it atomically.

Buckets use obstore: one wheel without dependencies. It uploads files in parts, removes the parts
of a put that fails, and signs links for all three clouds. It starts threads at the first call.
Threads do not survive a fork, so a process must fork before its first call.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import unquote, urlsplit

from orchestrator.step_loop import in_thread
from orchestrator.storage.bucket import SCHEMES, Bucket
from orchestrator.storage.bundle import SEGMENT, Bundle, checked_path
from orchestrator.storage.commits import Run
from orchestrator.storage.errors import NoFolder, NotStored, StorageError
from orchestrator.storage.folder import Folder

__all__ = [
    "ALLOWED_URLS",
    "MAX_LINK_SECONDS",
    "Bundle",
    "NoFolder",
    "NotStored",
    "Storage",
    "StorageError",
]

#: The URLs that `from_url` accepts.
ALLOWED_URLS = "file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
#: The longest lifetime of a signed link at S3.
MAX_LINK_SECONDS = 7 * 24 * 3600


class Storage:
    """Objects by path.

    A path is segments of letters, digits and `._-`, joined by `/`. Other paths raise ValueError.
    """

    def __init__(self, backend: Folder | Bucket) -> None:
        self._backend = backend
        #: The scheme, and the folder or the bucket with its prefix.
        self.description = backend.description

    @classmethod
    def from_url(cls, url: str, is_used: Callable[[], bool] = lambda: False) -> Self:
        """Return the storage of a URL. Nothing is connected or created yet.

        Args:
            url: the URL.
            is_used: returns whether the storage must have objects. An empty folder is refused then,
                because its disk is away.

        Raises:
            ValueError: the URL is not of an allowed form, or the environment lacks a variable.
        """
        # The error never shows the URL: it may hold a password.
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError(ALLOWED_URLS) from None
        if "?" not in url and "#" not in url:
            if url.startswith("file:///") and parts.path.strip("/"):
                return cls(Folder(Path(unquote(parts.path)), is_used))
            if parts.scheme in SCHEMES and SEGMENT.fullmatch(parts.netloc):
                prefix = parts.path.strip("/")
                return cls(Bucket(parts.scheme, parts.netloc, prefix and checked_path(prefix)))
        raise ValueError(ALLOWED_URLS)

    def put(
        self,
        path: str,
        content: BinaryIO | bytes,
        content_type: str,
        *,
        attachment: bool = False,
    ) -> None:
        """Store an object. An existing object is replaced. The object survives a crash of the host.

        Args:
            path: the place of the object.
            content: bytes, or a file that is read from its start. It is closed.
            content_type: is kept with an object in a bucket.
            attachment: a browser that opens a link to the bucket saves the object, and does not
                show it.

        Raises:
            StorageError: the object is not stored. An existing object is unchanged.
            Exception: reading the file raised this. The object is not stored.
        """
        with Bundle() as bundle:
            bundle.put(path, content, content_type, attachment=attachment)
            self.commit(bundle)

    def commit(
        self, bundle: Bundle, run: Run = in_thread, written: Callable[[], None] = lambda: None
    ) -> None:
        """Store the objects of a bundle, and empty it. They survive a crash of the host.

        Args:
            bundle: the objects. Bundles of one step loop share the syncs of a folder.
            run: runs in a step loop what blocks.
            written: may be called before the end, when the contents use no more memory.

        Raises:
            StorageError: not all objects are stored. An existing object is whole, old or new.
            Exception: reading a file raised this, such as an OSError.
        """
        try:
            self._backend.commit(bundle.objects, run, written)
        except StorageError:
            failures = [each.source.failure for each in bundle.objects]
            if failure := next(filter(None, failures), None):
                raise failure from None
            raise
        finally:
            bundle.clear()

    def get(self, path: str) -> bytes:
        """Return a whole object. The caller knows that it fits into memory.

        Raises:
            NotStored: the object does not exist.
            StorageError: the storage failed.
        """
        return b"".join(self.stream(path))

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield an object's bytes in parts. Iteration raises the errors of `get`."""
        return self._backend.stream(checked_path(path))

    def size(self, path: str) -> int | None:
        """Return the length of an object, bytes; None if it does not exist.

        Raises:
            StorageError: the storage failed.
        """
        return self._backend.size(checked_path(path))

    def modified(self, path: str) -> int | None:
        """Return when an object was put, ms; None if it does not exist.

        Raises:
            StorageError: the storage failed.
        """
        return self._backend.modified(checked_path(path))

    def put_before(self, folder: str, before: int) -> Iterator[str]:
        """Yield the paths of the objects in a folder that were put before a time (ms).

        Raises:
            StorageError: the storage failed.
        """
        return self._backend.put_before(checked_path(folder), before)

    def named(self, name: str) -> Iterator[str]:
        """Yield the paths of all objects with this last segment, in no particular order.

        Raises:
            StorageError: the storage failed.
        """
        for path in self._backend.paths():
            if path.rpartition("/")[2] == name:
                yield path

    def local_path(self, path: str) -> Path | None:
        """Return the place of an object in the file system. It is None for a bucket.

        The object may be missing.
        """
        return self._backend.local_path(checked_path(path))

    def link(self, path: str, *, seconds: int) -> str | None:
        """Return a public URL, valid for 1 to MAX_LINK_SECONDS. It is None for a folder.

        Raises:
            StorageError: there are no credentials for the signature.
        """
        if not 1 <= seconds <= MAX_LINK_SECONDS:
            raise ValueError(f"seconds must be 1 to {MAX_LINK_SECONDS}, not {seconds}")
        return self._backend.link(checked_path(path), seconds)

    def delete(self, path: str) -> None:
        """Delete an object. A missing object is not an error.

        Raises:
            StorageError: the object may still exist.
        """
        self._backend.delete(checked_path(path))

    def sweep(self) -> None:
        """Remove the partial files of killed processes that are older than an hour. Folders only.

        In a bucket such parts are invisible. They need a lifecycle rule of the bucket.

        Raises:
            StorageError: the folder cannot be read.
        """
        self._backend.sweep()

    def check(self) -> None:
        """Put, get and delete a small object.

        Raises:
            StorageError: one of these failed.
        """
        path, content = f"probe-{secrets.token_hex(4)}.txt", secrets.token_bytes(16)
        self.put(path, content, "text/plain")
        try:
            if self.get(path) != content:
                raise StorageError(f"{self}: returned other bytes than were stored")
        finally:
            self.delete(path)

    def __repr__(self) -> str:
        return self.description
