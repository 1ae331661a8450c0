"""The thumbnail of an archived image: made when somebody first asks for it, and then stored."""

from __future__ import annotations

from hashlib import sha256

from orchestrator import log
from orchestrator.operations.image_copies import temporary_file
from orchestrator.operations.locate_image import Archived
from orchestrator.runtime import Runtime
from orchestrator.storage.storage import NotStored, StorageError
from orchestrator.storage.thumbnails import NoThumbnail, make_thumbnail

CONTENT_TYPE = "image/webp"
#: Is stored in place of the thumbnail of an image that cannot be decoded, so that it is tried once.
_NONE = b""


def store_thumbnail(runtime: Runtime, image: Archived, path: str) -> bytes | None:
    """Make and store the thumbnail of an image, if it was not stored before.

    Return the thumbnail only if the storage does not take it: then it is made each time.

    Args:
        runtime: of this process.
        image: our copy.
        path: of the thumbnail.

    Raises:
        NoThumbnail: the image cannot be decoded.
        DecodersBusy: other images are being decoded.
        NotStored: the image was removed.
        StorageError: the storage is away, or gave other bytes than were stored.
        OSError: this machine's disk is full.
    """
    size = runtime.storage.size(path)
    if size == len(_NONE):
        raise NoThumbnail("it cannot be decoded")
    if size is not None:
        return None
    failure, content = None, _NONE
    with temporary_file(runtime.settings.data_dir) as file:
        digest = sha256()
        for piece in runtime.storage.stream(image.path):
            digest.update(piece)
            file.write(piece)
        if digest.hexdigest() != image.sha256:
            raise StorageError(f"{runtime.storage}: {image.path} has another SHA-256")
        try:
            content = make_thumbnail(file, max_pixels=runtime.settings.max_image_pixels)
        except NoThumbnail as error:
            failure = error
    stored = True
    try:
        runtime.storage.put(path, content, CONTENT_TYPE)
    except StorageError as error:
        stored = False
        log.get().warning("thumbnail_not_stored", path=path, reason=str(error))
    if stored and runtime.storage.size(image.path) is None:  # its job was erased meanwhile
        runtime.storage.delete(path)
        raise NotStored(f"{runtime.storage}: {image.path} does not exist")
    if failure:
        raise failure
    return None if stored else content
