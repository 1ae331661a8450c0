"""JSON with images in base64, written to a file and not held in memory."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from flask import Response
from werkzeug.exceptions import Gone, NotAcceptable

from orchestrator.api import holds
from orchestrator.api.compatible.held_call import is_lost
from orchestrator.api.images import FETCH_SECONDS, file_answer, open_at_provider
from orchestrator.jobs.model import Image, Job
from orchestrator.jsonio import dump
from orchestrator.operations.image_copies import temporary_file
from orchestrator.operations.locate_image import Archived, AtProvider, Lost, locate_image
from orchestrator.runtime import Runtime

#: The size of the parts that are encoded at once. A multiple of three. Bytes.
_PART_BYTES = 3 * 16 * 1024
#: The longest end of a stream that has begun: 48 MiB of images in base64. The server keeps it in
#: memory, however slowly the client reads. Bytes.
MAX_STREAM_BYTES = 64 * 1024 * 1024 + 64 * 1024


@dataclass(frozen=True, slots=True)
class JobImage:
    """An image, and its place in its job."""

    job_id: str
    index: int
    image: Image


@contextmanager
def image_document(runtime: Runtime, jobs: Sequence[Job]) -> Iterator[ImageDocument]:
    """Give a document for the images of jobs. After an error its files are closed."""
    with ExitStack() as files:
        document = ImageDocument(runtime, jobs, files)
        yield document
        files.pop_all()


class ImageDocument:
    """A file with JSON in which images stand in base64.

    Args:
        runtime: of this process.
        jobs: the jobs whose images they are.
        files: takes the files that are opened.

    Attributes:
        images: of all jobs, without lost ones. Their place in this list is their number here.
        file: holds what was written.
    """

    def __init__(self, runtime: Runtime, jobs: Sequence[Job], files: ExitStack) -> None:
        self._runtime = runtime
        images = [
            JobImage(job.id, index, image) for job in jobs for index, image in enumerate(job.images)
        ]
        self.images = [each for each in images if not is_lost(each.image)] or images
        self._mark = secrets.token_hex(16)
        self._fetched: dict[int, tuple[BinaryIO, str]] = {}
        self._files = files
        self.file = files.enter_context(temporary_file(runtime.settings.data_dir))

    def base64(self, number: int) -> str:
        """Return what stands in a document for the base64 of an image."""
        return f"{self._mark}{number:08d}{self._mark}"

    def write(self, document: Any) -> None:
        """Write a document with its images.

        Raises:
            Gone: an image could not be archived.
            ServiceUnavailable: an image cannot be fetched now.
            StorageError: the storage failed.
        """
        pieces = dump(document).split(self._mark.encode())
        for number, piece in enumerate(pieces):
            if number % 2 == 0:
                self.file.write(piece)
            else:
                self._write_image(int(piece))

    def _write_image(self, number: int) -> None:
        rest = b""
        for content in self._content(number):
            data = rest + content
            whole = len(data) - len(data) % 3
            self.file.write(b64encode(data[:whole]))
            rest = data[whole:]
        self.file.write(b64encode(rest))

    def answer(self, kind: str) -> Response:
        """Return an answer with what was written. `kind` is its content type.

        Raises:
            NotAcceptable: it is too large for a stream that has begun.
        """
        size, call = self.file.tell(), holds.state()
        if call is not None and call.stream is not None and size > MAX_STREAM_BYTES:
            paths = ", ".join(dict.fromkeys(f"/v1/jobs/{each.job_id}" for each in self.images))
            raise NotAcceptable(f"the images are too large for a stream: get them at {paths}")
        self.file.seek(0)
        answer = file_answer(self.file, size)
        answer.headers["Content-Type"] = kind
        answer.headers["Cache-Control"] = "no-store"
        return answer

    def content_type(self, number: int) -> str:
        """Return the type of an image. It raises as `write` does."""
        copy = self.images[number].image.copy
        return copy.content_type if copy else self._at_provider(number)[1]

    def _content(self, number: int) -> Iterator[bytes]:
        copy = self.images[number].image.copy
        if copy:
            yield from self._runtime.storage.stream(copy.path)
            return
        file, _ = self._at_provider(number)
        with file:
            while part := file.read(_PART_BYTES):
                yield part

    def _located(self, wanted: JobImage) -> Archived | AtProvider | Lost | None:
        if is_lost(wanted.image):
            return Lost(wanted.image.error or "")
        return locate_image(self._runtime, wanted.job_id, wanted.index, sees=lambda _: True)

    def _at_provider(self, number: int) -> tuple[BinaryIO, str]:
        """Return an image that is not archived, and its type. It is fetched once."""
        if number not in self._fetched:
            wanted = self.images[number]
            located = self._located(wanted)
            if not isinstance(located, AtProvider):
                reason = located.reason if isinstance(located, Lost) else "it is gone"
                raise Gone(f"the image {wanted.index} of {wanted.job_id} cannot be sent: {reason}")
            # The server gives few held answers at once, so their wait leaves threads for others.
            wait = 0 if holds.state() is None else FETCH_SECONDS
            file, kind, _ = open_at_provider(self._runtime, located, wait_seconds=wait)
            self._files.enter_context(file)
            self._fetched[number] = (file, kind.content_type)
        return self._fetched[number]
