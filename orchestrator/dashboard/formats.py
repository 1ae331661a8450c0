"""How values are shown: Jinja filters."""

from __future__ import annotations

from math import floor, log10
from typing import Any

from flask import Flask
from markupsafe import Markup, escape

from orchestrator.jsonio import rfc3339
from orchestrator.plain_text import escaped, masked

#: Stands for a value that there is not.
NOTHING = "\N{EN DASH}"
#: The longest text of somebody else that a page shows. Characters.
MAX_TEXT_CHARACTERS = 2000
#: Text in a cell of a table. Characters.
MAX_CELL_CHARACTERS = 80
#: Steps of a time span: its seconds, and its unit.
_SPANS = ((86_400, "d"), (3600, "h"), (60, "min"))
#: Steps of a size: its bytes, and its unit.
_SIZES = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))
#: A bool in an answer of ours.
_WORDS = {True: "yes", False: "no"}

#: What the name of an exception says about a call.
_REASONS = {
    "ConnectionRefusedError": "nothing listens there",
    "ConnectionResetError": "the connection was cut",
    "RemoteDisconnected": "the connection ended without an answer",
    "ReadTimeoutError": "no answer came in time",
    "TimeoutError": "no answer came in time",
    "ConnectTimeoutError": "no connection was made in time",
    "gaierror": "the name of the host is unknown",
    "SSLCertVerificationError": "the certificate is not trusted",
}


def install(app: Flask) -> None:
    """Add the filters to the templates."""
    filters = {
        "count": count,
        "duration": duration,
        "money": money,
        "percent": percent,
        "reason": reason,
        "cell": cell,
        "shown": shown,
        "size": size,
        "time": time,
        "words": words,
    }
    for name, function in filters.items():
        app.add_template_filter(function, name)


def shown(value: object, longest: int = MAX_TEXT_CHARACTERS) -> str:
    """Return text of somebody else: cut, and with its control characters visible."""
    text = masked(str(value))
    cut = text[:longest]
    more = f"… ({len(text):,} characters)" if len(text) > longest else ""
    return escaped(cut, keep="\n") + more


def cell(value: object, longest: int = MAX_CELL_CHARACTERS) -> str:
    """Return the same in one short line."""
    text = " ".join(masked(str(value)).split())
    return escaped(text[:longest]) + ("…" if len(text) > longest else "")


def count(value: float | None) -> str:
    """Return a number with separators, or a dash."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def percent(part: float | None) -> str:
    """Return a part of one as a percentage, or a dash."""
    if part is None:
        return NOTHING
    return f"{part * 100:.0f} %" if part in (0, 1) else f"{part * 100:.1f} %"


def money(amount: float | None, unit: str | None = None) -> str:
    """Return an amount with its unit, such as `3.10 USD`, or `unknown`."""
    if amount is None:
        return "unknown"
    digits = f"{amount:,.2f}" if abs(amount) >= 1 or amount == 0 else _small(amount)
    return f"{digits} {unit}" if unit else digits


def _small(amount: float) -> str:
    """Return an amount under one: 0.04, 0.0125, 0.000031."""
    digits = max(2, 1 - floor(log10(abs(amount))))
    whole, _, part = f"{amount:.{max(digits, 4)}f}".partition(".")
    return f"{whole}.{part.rstrip('0'):0<2}"


def duration(seconds: float | None) -> str:
    """Return a time span with its unit, such as `45 ms`, `2.5 s` or `3 h 20 min`."""
    if seconds is None:
        return NOTHING
    for index, (length, unit) in enumerate(_SPANS):
        if seconds >= length:
            whole, rest = divmod(int(seconds), length)
            smaller = _SPANS[index + 1] if index + 1 < len(_SPANS) else (1, "s")
            part = rest // smaller[0]
            return f"{whole} {unit} {part} {smaller[1]}" if part else f"{whole} {unit}"
    if 0 < seconds < 1:
        return f"{max(round(seconds * 1000), 1)} ms"
    return f"{seconds:.0f} s" if seconds >= 10 or seconds == 0 else f"{seconds:.1f} s"


def size(number: int | None) -> str:
    """Return a number of bytes with its unit."""
    if number is None:
        return NOTHING
    for length, unit in _SIZES:
        if number >= length:
            return f"{number / length:.1f} {unit}"
    return f"{number} B"


def time(value: int | str | None) -> Markup:
    """Return a moment (ms, or RFC 3339 text). The browser shows it in the zone of its viewer."""
    text = rfc3339(value) if isinstance(value, int) else value
    if not text:
        return escape(NOTHING)
    plain = text[:19].replace("T", " ")
    return Markup('<time datetime="{}">{} UTC</time>').format(text, plain)


def reason(value: Any) -> str:
    """Return why a call failed. Names of exceptions of ours get their meaning."""
    text = str(value)
    return f"{_REASONS[text]} ({text})" if text in _REASONS else text


def words(value: Any) -> str:
    """Return a name of ours, such as a status, as words."""
    return _WORDS.get(value) or str(value).replace("_", " ")
