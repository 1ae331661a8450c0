"""`/v1/jobs/{id}/images`: the archived images, and images on their way into the archive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, BinaryIO, Never

from flask import Response, redirect, request, send_file
from flask_smorest import Blueprint
from werkzeug.exceptions import Gone, NotFound, ServiceUnavailable
from werkzeug.wrappers import Response as Answer
from werkzeug.wsgi import wrap_file

from orchestrator.api.auth import caller
from orchestrator.api.openapi import operation
from orchestrator.operations.image_copies import NotCopied, Recovery, fetch_image, temporary_file
from orchestrator.operations.locate_image import Archived, AtProvider, Lost, locate_image
from orchestrator.operations.thumbnails import CONTENT_TYPE as THUMBNAIL_TYPE
from orchestrator.operations.thumbnails import store_thumbnail
from orchestrator.runtime import Runtime
from orchestrator.storage.file_kinds import FileKind, Unusable, check_end, identify
from orchestrator.storage.storage import NoFolder, NotStored, StorageError
from orchestrator.storage.thumbnails import DecodersBusy, NoThumbnail

#: Lifetime of a signed link to the storage. Seconds.
LINK_SECONDS = 300
#: Caches may keep an archived image for a year, because it never changes. Seconds.
CACHE_SECONDS = 31_536_000
#: The images that one process fetches from providers for callers at the same time. Each takes a
#: thread of the web server, which also takes callbacks.
MAX_FETCHES = 2
#: The time for such a fetch. Proxies wait for an answer for 60 s. Seconds.
FETCH_SECONDS = 30.0
#: The `Retry-After` of an image that cannot be fetched now. Seconds.
RETRY_AFTER_SECONDS = 10
#: The size of the parts in which a file is sent. Bytes.
_PART_BYTES = 64 * 1024

#: The answer when the storage is a bucket, in OpenAPI.
LINK = {
    "description": "The image is in a bucket: `Location` is a signed link.",
    "headers": {"Location": {"required": True, "schema": {"type": "string"}}},
}

_fetching = threading.BoundedSemaphore(MAX_FETCHES)


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the routes."""
    images = Blueprint("images", __name__, url_prefix="/v1/jobs", description="Archived images")

    @images.get("/<job_id>/images/<int:index>")
    @images.doc(**operation("get_image", {200: _file("The image"), 302: LINK}, 404, 410))
    def show(job_id: str, index: int) -> Answer:
        """Get an image of a job, numbered from 0. This also works after the retention time."""
        return image_answer(runtime, job_id, index, sees=caller().sees)

    @images.get("/<job_id>/images/<int:index>/thumbnail")
    @images.doc(**operation("get_thumbnail", {200: _file("The thumbnail"), 302: LINK}, 404, 410))
    def thumbnail(job_id: str, index: int) -> Answer:
        """Get a thumbnail (WebP) of an archived image."""
        return thumbnail_answer(runtime, job_id, index, sees=caller().sees)

    return images


def image_answer(
    runtime: Runtime,
    job_id: str,
    index: int,
    *,
    sees: Callable[[str], bool],
    redirects: bool = True,
) -> Answer:
    """Return an answer with an image, or a redirect to it.

    Args:
        runtime: of this process.
        job_id: the job.
        index: the number of the image, from 0.
        sees: whether the caller may see the jobs of a tenant.
        redirects: whether the answer may be a redirect to the storage.

    Raises:
        NotFound: there is no such image, or it belongs to another tenant.
        Gone: the image could not be archived.
        ServiceUnavailable: it is not archived yet, and its link gives none now.
        LedgerUnavailable: Redis is away.
        StorageError: the storage is away.
    """
    located = locate_image(runtime, job_id, index, sees=sees)
    if isinstance(located, Archived):
        name = located.path.rpartition("/")[2] if located.check_error is not None else None
        tag = located.sha256
        return _sent(runtime, located.path, located.content_type, tag, name, redirects=redirects)
    if not isinstance(located, AtProvider):
        _absent(located, job_id, index)
    return _passed_on(runtime, located, f"{job_id}-{index}")


def thumbnail_answer(
    runtime: Runtime,
    job_id: str,
    index: int,
    *,
    sees: Callable[[str], bool],
    redirects: bool = True,
) -> Answer:
    """Return an answer with a thumbnail (WebP), as `image_answer` does.

    It is made when it is asked for the first time.

    Raises:
        NotFound: there is no such image, or it has no thumbnail.
        ServiceUnavailable: it cannot be made now.
    """
    located = locate_image(runtime, job_id, index, sees=sees)
    if isinstance(located, AtProvider):
        raise NotFound("there is no thumbnail until the image is archived; ask again later")
    if not isinstance(located, Archived):
        _absent(located, job_id, index)
    if located.thumbnail is None:
        reason = located.check_error or "the file is not an image that we check"
        raise NotFound(f"the file has no thumbnail: {reason}")
    tag = f"{located.sha256}.thumbnail"
    try:
        content = store_thumbnail(runtime, located, located.thumbnail)
    except NoThumbnail as error:
        raise NotFound(f"the file has no thumbnail: {error}") from None
    except NoFolder:
        raise
    except NotStored:
        raise _removed() from None
    except DecodersBusy:
        raise _try_later("other thumbnails are being made") from None
    except OSError:
        raise _try_later("no file can be written") from None
    if content is not None:
        return _immutable(Response(content), THUMBNAIL_TYPE, tag)
    return _sent(runtime, located.thumbnail, THUMBNAIL_TYPE, tag, redirects=redirects)


def _sent(
    runtime: Runtime,
    path: str,
    content_type: str,
    tag: str,
    attachment: str | None = None,
    *,
    redirects: bool,
) -> Answer:
    """Redirect to the storage, or send the file itself. `attachment` is a name for downloads."""
    link = runtime.storage.link(path, seconds=LINK_SECONDS) if redirects else None
    if link:
        response: Answer = redirect(link)
        response.headers["Cache-Control"] = "no-store"
        return response
    if tag in request.if_none_match:  # the file need not be read
        response = Response(status=304)
    else:
        response = _read(runtime, path, content_type, tag)
    return _immutable(response, content_type, tag, attachment)


def _immutable(
    response: Answer, content_type: str, tag: str, attachment: str | None = None
) -> Answer:
    """Let caches keep an answer. `attachment` is a name for downloads."""
    response.set_etag(tag)
    response.cache_control.no_cache = None
    response.cache_control.private = True
    response.cache_control.immutable = True
    response.cache_control.max_age = CACHE_SECONDS
    return _safe(response, content_type, attachment)


def _read(runtime: Runtime, path: str, content_type: str, tag: str) -> Answer:
    """Answer with a file, or with the part of it that the request names."""
    local = runtime.storage.local_path(path)
    try:
        if local is not None and local.is_file():
            return send_file(local, content_type, etag=tag, conditional=True)
        file, size = _copied(runtime, path)
    except NoFolder:
        raise
    except (NotStored, FileNotFoundError):
        raise _removed() from None
    except OSError as error:
        raise StorageError(f"{runtime.storage}: {error.strerror}, at {path}") from None
    response = file_answer(file, size)
    response.set_etag(tag)
    return response.make_conditional(request, accept_ranges=True, complete_length=size)


def _removed() -> NotFound:
    reason = "it was removed, or this host does not share the folder of the workers"
    return NotFound(f"the image is not in the archive any more: {reason}")


def _copied(runtime: Runtime, path: str) -> tuple[BinaryIO, int]:
    """Copy an object of a bucket to a file without a name. Return the file and its size."""
    with ExitStack() as stack:
        try:
            file = temporary_file(runtime.settings.data_dir)
            stack.push(_closing_after_error(file))
            size = sum(map(file.write, runtime.storage.stream(path)))
        except OSError:
            raise _try_later("no file can be written") from None
        file.seek(0)
    return file, size


def file_answer(file: BinaryIO, size: int) -> Response:
    """Return an answer with a file, which it closes. The server need not read it into memory."""
    response = Response(wrap_file(request.environ, file, _PART_BYTES), direct_passthrough=True)
    response.call_on_close(file.close)
    response.content_length = size
    return response


def _safe(response: Answer, content_type: str, download_name: str | None) -> Answer:
    """Keep a browser from guessing the type of a file, and from running one that is not checked."""
    response.headers["Content-Type"] = content_type
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.pop("Content-Disposition", None)
    if download_name:
        response.headers["Content-Disposition"] = f'attachment; filename="{download_name}"'
        response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


def _passed_on(runtime: Runtime, image: AtProvider, name: str) -> Answer:
    """Fetch an image from its provider, and send it.

    A redirect would make many clients send our API key to the provider's host.
    """
    file, kind, size = open_at_provider(runtime, image)
    response = file_answer(file, size)
    response.headers["Cache-Control"] = "no-store"
    download_name = None if kind.inline else f"{name}.{kind.extension}"
    return _safe(response, kind.content_type, download_name)


def open_at_provider(
    runtime: Runtime, image: AtProvider, *, wait_seconds: float = 0
) -> tuple[BinaryIO, FileKind, int]:
    """Fetch an image that is not archived. Return an open file, its kind and its size in bytes.

    Args:
        runtime: of this process.
        image: the image.
        wait_seconds: the longest wait while other images are being fetched.

    Raises:
        Gone: its link is wrong.
        ServiceUnavailable: it gives none now, or other images are being fetched.
    """
    if not _fetching.acquire(timeout=wait_seconds):
        raise _try_later("the image is not archived yet, and other images are being fetched")
    with ExitStack() as stack:
        stack.callback(_fetching.release)
        try:
            file = temporary_file(runtime.settings.data_dir)
            stack.push(_closing_after_error(file))
            kind, size = _fetched(runtime, image.url, file)
        except OSError:
            raise _try_later("the image is not archived yet, and no file can be written") from None
    file.seek(0)
    return file, kind, size


def _closing_after_error(file: BinaryIO) -> Any:
    """Return an exit function that closes a file only when there was an error."""

    def leave(error: type[BaseException] | None, *_: object) -> None:
        if error is not None:
            file.close()

    return leave


def _fetched(runtime: Runtime, url: str, file: BinaryIO) -> tuple[FileKind, int]:
    seconds = min(FETCH_SECONDS, runtime.settings.download_timeout_seconds)
    try:
        fetched = fetch_image(runtime, url, file, seconds=seconds)
        kind = identify(file)
        check_end(file, kind)
    except NotCopied as error:
        if error.recovery is Recovery.IMPOSSIBLE:
            raise Gone(f"the image cannot be fetched: {error}") from None
        raise _try_later(f"the image is not archived yet, and its link fails: {error}") from None
    except Unusable as error:
        raise _try_later(f"the image is not archived yet, and its link gives {error}") from None
    return kind, fetched.bytes


def _try_later(reason: str) -> ServiceUnavailable:
    return ServiceUnavailable(reason, retry_after=RETRY_AFTER_SECONDS)


def _absent(lost: Lost | None, job_id: str, index: int) -> Never:
    if lost:
        raise Gone(f"the image could not be archived: {lost.reason}")
    raise no_image(job_id, index)


def no_image(job_id: str, index: int) -> NotFound:
    """Return the answer for an image that does not exist for the caller."""
    return NotFound(f"there is no job {job_id[:80]!r} with an image {index}; numbers start at 0")


def _file(description: str) -> dict[str, Any]:
    """Return the description of an answer with a file, in OpenAPI."""
    return {"description": description, "content": {"*/*": {"schema": {}}}}
