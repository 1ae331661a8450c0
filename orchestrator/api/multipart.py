"""Reads a multipart form whose parts are texts and files.

Flask takes a part without a file name for text, also if its type says that it is a file. Clients
that send a stream have no file name for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flask import request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

#: The size of the parts in which a body is read. Bytes.
_READ_BYTES = 64 * 1024
#: The types of a part without a file name that are text.
_TEXT_TYPES = ("text/plain", "")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form: its name and its bytes."""

    name: str
    content: bytes
    is_file: bool


def read_form(max_bytes: int, max_parts: int) -> list[Part]:
    """Return the parts of the request's form.

    Args:
        max_bytes: the largest body.
        max_parts: the most parts.

    Raises:
        RequestEntityTooLarge: the form is larger, or has more parts.
        BadRequest: the body is not a form, or ended early.
    """
    request.max_content_length = max_bytes
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    boundary = request.mimetype_params.get("boundary", "").encode("latin-1", "replace")
    if not boundary:
        raise BadRequest("the body is not a multipart form: its Content-Type has no boundary")
    try:
        return list(_parts(MultipartDecoder(boundary, max_parts=max_parts)))
    except RequestEntityTooLarge:
        read = request.stream.read(1) == b""
        detail = f"the form may have {max_parts} parts" if read else None
        raise (RequestEntityTooLarge(detail) if detail else _too_large(max_bytes)) from None
    except (ValueError, AttributeError) as error:  # AttributeError: a header without its line end
        raise BadRequest(f"the body is not a multipart form: {error}") from None


def _parts(decoder: MultipartDecoder) -> Iterator[Part]:
    head: Field | File | None = None
    content = bytearray()
    while True:
        event = decoder.next_event()
        if isinstance(event, NeedData):
            decoder.receive_data(request.stream.read(_READ_BYTES) or None)
        elif isinstance(event, Field | File):
            head, content = event, bytearray()
        elif isinstance(event, Data):
            content += event.data
            if not event.more_data and head is not None:
                yield Part(head.name or "", bytes(content), _is_file(head))
        elif isinstance(event, Epilogue):
            return


def _is_file(head: Field | File) -> bool:
    kind = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    return isinstance(head, File) or kind not in _TEXT_TYPES


def _too_large(max_bytes: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"the body may have {max_bytes} bytes")
