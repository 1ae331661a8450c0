"""Times and counts as they are written in a fault."""

import re

#: the longest wait a fault may ask for, in seconds
MAX_SECONDS = 86_400.0
#: the most callbacks `duplicate` sends, and the most requests `*N` covers
MAX_COUNT = 100
#: what a time looks like, in words
A_TIME = f"a time such as 2, 1.5s, 500ms, 2m, up to {MAX_SECONDS:g}s"

_SECONDS = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def read_seconds(text: str) -> float | None:
    """The seconds in `2`, `1.5s`, `500ms` or `2m`; None when it is none, or too long."""
    match = _SECONDS.fullmatch(text.strip())
    if match is None:
        return None
    seconds = float(match["number"]) * _UNITS[match["unit"] or "s"]
    return seconds if seconds <= MAX_SECONDS else None


def read_count(text: str) -> int | None:
    """A whole number from 1 to MAX_COUNT; None when it is anything else."""
    # Python refuses to read numbers of thousands of digits; none that long is allowed here.
    count = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return count if 1 <= count <= MAX_COUNT else None
