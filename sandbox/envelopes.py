"""The body of a callback, with the envelope and the encoding that a fault asks for."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from .faults import Faults
from .odd_json import make_odd

_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class CallbackBody:
    """The bytes that are sent and signed, and the headers that describe them."""

    data: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": _JSON})


def wrap(view: Mapping[str, Any], faults: Faults) -> CallbackBody:
    """Return the callback for a task."""
    envelope = faults.form("envelope")
    if envelope == "form":
        fields = {name: _text(value) for name, value in view.items()}
        return CallbackBody(urlencode(fields).encode(), {"Content-Type": _FORM})
    value: object = view
    if envelope == "data":
        value = {"code": 200, "message": "success", "data": view}
    body = make_odd(_json(value), faults.form("odd_json"))
    if envelope == "list":
        body = b"[" + body.removeprefix(b"\xef\xbb\xbf") + b"]"
    elif envelope == "text":
        body = _json(body.decode("utf-8-sig", "replace"))
    elif envelope == "form_data":
        return CallbackBody(urlencode({"data": body}).encode(), {"Content-Type": _FORM})
    elif envelope == "gzip":
        headers = {"Content-Type": _JSON, "Content-Encoding": "gzip"}
        return CallbackBody(gzip.compress(body, mtime=0), headers)
    return CallbackBody(body)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
