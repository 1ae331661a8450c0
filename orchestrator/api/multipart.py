"""Reads a multipart form whose parts are texts and files.

Flask takes a part without a file name for text, also if its type says that it is a file. Clients
that send a stream have no file name for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flask import request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.sansio.multipart import (
    Data,
    Epilogue,
    Field,
    File,
    MultipartDecoder,
    NeedData,
    State,
)

#: The size of the parts in which a body is read. Bytes.
_READ_BYTES = 64 * 1024
#: The longest headers of all parts, and the most bytes before the first part. Decoding of headers
#: takes much time and memory. Bytes.
MAX_HEADER_BYTES = 64 * 1024
#: The states of the decoder in which it keeps what it has read, and searches it.
_BEFORE_CONTENT = (State.PREAMBLE, State.PART)
#: The types of a part without a file name that are text.
_TEXT_TYPES = ("text/plain", "")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form: its name, its bytes, and the name of its file."""

    name: str
    content: bytes
    is_file: bool
    file_name: str | None


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
        raise too_large(max_bytes)
    boundary = request.mimetype_params.get("boundary", "").encode("latin-1", "replace")
    if not boundary:
        raise BadRequest("the body is not a multipart form: its Content-Type has no boundary")
    parts = list[Part]()
    try:
        for part in _parts(MultipartDecoder(boundary, max_parts=max_parts)):
            parts.append(part)  # an error needs their number
        return parts
    except RequestEntityTooLarge:
        if len(parts) == max_parts:
            raise RequestEntityTooLarge(f"the form may have {max_parts} parts") from None
        raise too_large(max_bytes) from None
    except (ValueError, AttributeError) as error:  # AttributeError: a header without its line end
        raise BadRequest(f"the body is not a multipart form: {error}") from None


def _parts(decoder: MultipartDecoder) -> Iterator[Part]:
    head: Field | File | None = None
    content, header_bytes = bytearray(), 0
    while True:
        event = decoder.next_event()
        if isinstance(event, NeedData):
            _check_headers(len(decoder.buffer) if decoder.state in _BEFORE_CONTENT else 0)
            decoder.receive_data(request.stream.read(_READ_BYTES) or None)
        elif isinstance(event, Field | File):
            if not event.name:
                raise ValueError("a part has no name")
            header_bytes += sum(len(name) + len(value) for name, value in event.headers)
            _check_headers(header_bytes)
            head, content = event, bytearray()
        elif isinstance(event, Data):
            content += event.data
            if not event.more_data and head is not None:
                file_name = head.filename if isinstance(head, File) else None
                yield Part(head.name, bytes(content), _is_file(head), file_name)
        elif isinstance(event, Epilogue):
            return


def _check_headers(size: int) -> None:
    if size > MAX_HEADER_BYTES:
        raise ValueError(f"the headers of its parts have more than {MAX_HEADER_BYTES} bytes")


def _is_file(head: Field | File) -> bool:
    kind = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    return isinstance(head, File) or kind not in _TEXT_TYPES


def too_large(max_bytes: float) -> RequestEntityTooLarge:
    """Return the refusal of a body that is larger than this."""
    return RequestEntityTooLarge(f"the body may have {max_bytes:.0f} bytes")
