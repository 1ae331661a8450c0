"""The values of `Retry-After` that the sandbox sends, useless ones included."""

import math
from collections.abc import Mapping
from email.utils import formatdate

from .choices import Choice, choices

#: Forms of the header that are no number of seconds.
RETRY_AFTER_FORMS = choices(
    Choice("negative", "`-1`"),
    Choice("fraction", "`0.05`"),
    Choice("past", "a date an hour ago"),
    Choice("date", "a date in two seconds"),
    Choice("text", "`soon`"),
    Choice("missing", "no header"),
)
_TEXTS: Mapping[str, str | None] = {
    "negative": "-1",
    "fraction": "0.05",
    "text": "soon",
    "missing": None,
}
#: The dates, as seconds from now.
_DATE_SECONDS = {"past": -3600.0, "date": 2.0}


def retry_after(value: object, now: float) -> str | None:
    """Return the header for seconds or for one of `RETRY_AFTER_FORMS`. None sends no header."""
    if isinstance(value, float):
        return str(whole_seconds(value))
    name = str(value)
    if name in _DATE_SECONDS:
        return formatdate(now + _DATE_SECONDS[name], usegmt=True)
    return _TEXTS.get(name)


def whole_seconds(seconds: float) -> int:
    """Return the seconds rounded up, because a Retry-After header has no fractions."""
    return math.ceil(seconds)
