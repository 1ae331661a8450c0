"""Reads durations and counts as they are written in a fault."""

import re

#: Longest duration in a fault. Seconds.
MAX_SECONDS = 86_400.0
#: Largest count in a fault: callbacks of `duplicate`, and requests of `*N`.
MAX_COUNT = 100
#: The allowed durations in words, for error messages.
DURATION_FORMAT = f"a time such as 2, 1.5s, 500ms or 2m, at most {MAX_SECONDS:g}s"
#: The allowed counts in words, for error messages.
COUNT_FORMAT = f"a whole number from 1 to {MAX_COUNT}"

_SECONDS = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m)?")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def read_seconds(text: str) -> float | None:
    """Return the seconds in `2`, `1.5s`, `500ms` or `2m`.

    Returns:
        None when the text is not a duration or is longer than `MAX_SECONDS`.
    """
    match = _SECONDS.fullmatch(text.strip())
    if match is None:
        return None
    seconds = float(match["number"]) * _UNIT_SECONDS[match["unit"] or "s"]
    return seconds if seconds <= MAX_SECONDS else None


def read_count(text: str) -> int | None:
    """Return a whole number from 1 to `MAX_COUNT`, or None when the text is anything else."""
    # int() raises for thousands of digits. No allowed count has 10 digits.
    count = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return count if 1 <= count <= MAX_COUNT else None
