"""Copies an image into the archive: from its link, or from bytes that came inside an answer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from orchestrator.jobs.model import Copy
from orchestrator.net.guard import Forbidden
from orchestrator.net.guarded_session import FetchedBody, RequestFailed, TooLarge
from orchestrator.net.links import normalized_link
from orchestrator.runtime import Runtime
from orchestrator.step_loop import in_thread
from orchestrator.storage.file_kinds import Unusable
from orchestrator.storage.images import FileFacts, inspect_file
from orchestrator.storage.storage import Bundle

#: A download of at most this length is held in memory. A longer one is written to the disk. Bytes.
MAX_MEMORY_BYTES = 5 * 512 * 1024
#: A step loop checks no longer file itself. Bytes.
LONG_FILE_BYTES = 64 * 1024
#: The statuses that say that a link has no file any more.
GONE_STATUSES = frozenset({404, 410})


#: Runs an action in another thread, and returns its result.
Run = Callable[[Callable[[], Any]], Any]


class Recovery(Enum):
    """Whether another try can succeed."""

    #: It may pass, for example an outage.
    POSSIBLE = "possible"
    #: It is usually final, for example 404. A few tries give the evidence.
    UNLIKELY = "unlikely"
    #: The link itself is wrong. No try can succeed.
    IMPOSSIBLE = "impossible"


class NotCopied(Exception):
    """An image could not be copied. The message is the reason.

    Attributes:
        recovery: whether another try can help.
        retry_after: the wait that a server asks for, seconds.
        storage_failed: our own storage failed, so the next image would fail too.
    """

    def __init__(
        self,
        reason: str,
        *,
        recovery: Recovery = Recovery.POSSIBLE,
        retry_after: float | None = None,
        storage_failed: bool = False,
    ) -> None:
        super().__init__(reason)
        self.recovery = recovery
        self.retry_after = retry_after or 0.0
        self.storage_failed = storage_failed


def copy_image(runtime: Runtime, bundle: Bundle, stem: str, url: str, *, run: Run) -> Copy:
    """Download one image and check it. The copy exists when the bundle is committed.

    Args:
        runtime: of this process.
        bundle: gets the file.
        stem: the path of the copy without an extension.
        url: the provider's link.
        run: runs in a step loop what blocks, or takes long.

    Raises:
        NotCopied: there is no copy.
    """
    try:
        with ExitStack() as closing:
            file = closing.enter_context(temporary_file(runtime.settings.data_dir))
            fetched = fetch_image(runtime, url, file, run=run)
            inspect = partial(inspect_file, file, max_pixels=runtime.settings.max_image_pixels)
            facts = run(inspect) if fetched.bytes > LONG_FILE_BYTES else inspect()
            copy = store_file(runtime, bundle, stem, CheckedFile(file, fetched, facts))
            closing.pop_all()  # the bundle closes the file
            return copy
    except Unusable as error:
        raise NotCopied(str(error)) from None
    except OSError as error:
        reason = f"no room for a download: {error.strerror or error}"
        raise NotCopied(reason, storage_failed=True) from error


def fetch_image(
    runtime: Runtime,
    url: str,
    file: BinaryIO,
    *,
    seconds: float | None = None,
    run: Run = in_thread,
) -> FetchedBody:
    """Download an image to an empty file.

    Args:
        runtime: of this process.
        url: the provider's link.
        file: gets the bytes.
        seconds: the time limit; None is that of the settings.
        run: runs in a step loop what blocks.

    Raises:
        NotCopied: there is no complete answer with status 200.
    """
    settings = runtime.settings
    plain_http = not settings.image_https_only
    link = normalized_link(url)
    if link is None:
        raise NotCopied("the link is not an http(s) URL", recovery=Recovery.IMPOSSIBLE)
    try:
        return runtime.session.fetch(
            link,
            file,
            seconds=settings.download_timeout_seconds if seconds is None else seconds,
            max_bytes=settings.max_image_bytes,
            plain_http=plain_http,
            run=run,
        )
    except Forbidden as error:
        recovery = _recovery(runtime, link, plain_http=plain_http)
        raise NotCopied(str(error), recovery=recovery) from None
    except RequestFailed as error:
        final = isinstance(error, TooLarge) or error.status in GONE_STATUSES
        recovery = Recovery.UNLIKELY if final else Recovery.POSSIBLE
        raise NotCopied(error.reason, recovery=recovery, retry_after=error.retry_after) from None


def _recovery(runtime: Runtime, link: str, *, plain_http: bool) -> Recovery:
    """Tell a link that is forbidden in itself from an address of its host, or from a redirect."""
    try:
        runtime.session.check(link, plain_http=plain_http)
    except Forbidden:
        return Recovery.IMPOSSIBLE
    return Recovery.UNLIKELY


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file that was paid for, how it was sent, and what its check found out."""

    content: BinaryIO
    fetched: FetchedBody
    facts: FileFacts


def store_file(runtime: Runtime, bundle: Bundle, stem: str, file: CheckedFile) -> Copy:
    """Add a file to a bundle, and return the copy that it is when the bundle is committed.

    `stem` is the path without an extension.
    """
    facts, fetched = file.facts, file.fetched
    target, checked = f"{stem}.{facts.extension}", facts.check_error is None
    bundle.put(target, file.content, facts.content_type, attachment=not checked)
    return Copy(
        path=target,
        sha256=fetched.sha256,
        bytes=fetched.bytes,
        width=facts.width,
        height=facts.height,
        content_type=facts.content_type,
        archived_at=runtime.clock(),
        thumbnail=f"{stem}.thumb.webp" if checked else None,
        check_error=facts.check_error,
    )


class _Buffer(tempfile.SpooledTemporaryFile[bytes]):
    """A file in memory. It moves to the disk when it grows, and the folder is made then."""

    def __init__(self, folder: Path) -> None:
        super().__init__(MAX_MEMORY_BYTES, dir=str(folder))
        self._downloads = folder

    def rollover(self) -> None:
        self._downloads.mkdir(parents=True, exist_ok=True)
        super().rollover()


def temporary_file(data_dir: Path) -> BinaryIO:
    """Return a file in memory. From MAX_MEMORY_BYTES on it is a file on the disk, without a name.

    The system deletes it when the process ends.
    """
    file: BinaryIO = _Buffer(data_dir / "downloads")  # type: ignore[assignment]
    return file
