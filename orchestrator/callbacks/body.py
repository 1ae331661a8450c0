"""Reads the body of a callback: JSON, a form with JSON in it, or one of them compressed.

The headers do not count: providers and proxies set wrong ones, and the spool keeps none.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

from orchestrator.jsonio import NotJson, parse_lenient

#: The largest body after decompression. Bytes.
MAX_BYTES = 4 * 1024 * 1024
#: The most fields of a form.
MAX_FIELDS = 200
#: zlib's window sizes: gzip or zlib by its header, then deflate without a header.
_WINDOWS = (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS)
#: Compressed data inside compressed data is opened this often.
_MAX_LAYERS = 2
_FORM = re.compile(rb"\s*[\w.%+\-\[\]]+=")
_MULTIPART = re.compile(rb"\s*--([\x21-\x7e]{1,70})\r?\n")
_NAME = re.compile(rb'[ ;]name="?([^";\r\n]{1,200})', re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


def read_body(body: bytes) -> Any:
    """Return the JSON of a callback. The fields of a form are the fields of an object.

    Raises:
        NotJson: the body is neither JSON nor a form.
    """
    try:
        return parse_lenient(body)
    except NotJson as error:
        reason = error
    for plain in _decompressed(body, _MAX_LAYERS):
        try:
            return parse_lenient(plain)
        except NotJson:
            continue
    for plain in (body, *_decompressed(body, _MAX_LAYERS)):
        fields = _form(plain)
        if fields:
            return fields
    raise reason


def _decompressed(body: bytes, layers: int) -> Iterator[bytes]:
    """Yield what the body is as gzip, zlib or deflate, at most MAX_BYTES long."""
    for window in _WINDOWS if layers else ():
        decoder = zlib.decompressobj(window)
        try:
            plain = decoder.decompress(body, MAX_BYTES)
        except zlib.error:
            continue
        if plain and decoder.eof:
            yield plain
            yield from _decompressed(plain, layers - 1)


def _form(body: bytes) -> dict[str, Any]:
    """Return the fields of a form. A name that is repeated, or ends in `[]`, is a list."""
    boundary = _MULTIPART.match(body)
    if boundary:
        pairs = _parts(body, boundary[1])
    elif _FORM.match(body):
        try:
            text = body.decode("utf-8", "replace").strip("\0 \r\n")
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except ValueError:  # too many fields
            return {}
    else:
        return {}
    fields: dict[str, Any] = {}
    for name, value in pairs:
        plain = name.removesuffix("[]")
        if plain in fields or plain != name:
            known = fields.get(plain, [])
            fields[plain] = [*(known if isinstance(known, list) else [known]), value]
        else:
            fields[plain] = value
    return fields


def _parts(body: bytes, boundary: bytes) -> list[tuple[str, str]]:
    """Return the fields of a multipart form."""
    pairs = []
    for part in body.split(b"--" + boundary, MAX_FIELDS + 1)[1:]:
        head, *content = _BLANK_LINE.split(part, maxsplit=1)
        name = _NAME.search(head)
        if name and content:
            value = content[0].removesuffix(b"\r\n").removesuffix(b"\n")
            pairs.append((name[1].decode("utf-8", "replace"), value.decode("utf-8", "replace")))
    return pairs
