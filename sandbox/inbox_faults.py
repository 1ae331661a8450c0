"""How an inbox can fail, and how a request for it is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from .durations import MAX_SECONDS
from .rule_format import RuleError, check_fields

#: Every field of a fault.
FIELDS = ("answer", "retry_after", "times", "slow_seconds", "drop", "redirect")

_REDIRECT_STATUSES = (301, 302, 303, 307, 308)
#: Longest redirect URL. Characters.
_MAX_URL_CHARS = 2048


@dataclass(frozen=True)
class InboxFault:
    """How an inbox answers. The defaults are the answer of a working inbox."""

    #: HTTP status.
    answer: int = 204
    #: Value of Retry-After. Seconds.
    retry_after: int | None = None
    #: Number of notifications that the fault applies to. None has no limit.
    times: int | None = None
    #: Delay of the answer. Seconds.
    slow_seconds: float = 0.0
    #: True closes the connection without an answer.
    drop: bool = False
    #: Value of Location.
    redirect: str | None = None

    def __str__(self) -> str:
        parts = ["no answer" if self.drop else f"answers {self.answer}"]
        if self.retry_after is not None:
            parts.append(f"Retry-After: {self.retry_after}")
        if self.redirect is not None:
            parts.append(f"to {self.redirect}")
        if self.slow_seconds:
            parts.append(f"after {self.slow_seconds:g} s")
        return ", ".join(parts)


def read_inbox_fault(document: object) -> InboxFault:
    """Read the fault of an inbox.

    Raises:
        RuleError: A field is unknown, or its value is not allowed.
    """
    if not isinstance(document, dict) or not document:
        raise RuleError("fault", document, "an object with one or more of " + ", ".join(FIELDS))
    check_fields(document, FIELDS)
    answer = _whole_number(document, "answer", 200, 599)
    retry_after = _whole_number(document, "retry_after", 0, int(MAX_SECONDS))
    times = _whole_number(document, "times", 1, 1_000_000)
    drop, redirect = _drop(document), _redirect(document)
    if redirect and answer is not None and answer not in _REDIRECT_STATUSES:
        allowed = ", ".join(map(str, _REDIRECT_STATUSES))
        raise RuleError("answer", answer, f"one of {allowed} with redirect, or null for 302")
    if drop:
        for name in ("answer", "retry_after", "redirect"):
            if document.get(name) is not None:
                raise RuleError(name, document[name], "null with drop, which sends no answer")
    return InboxFault(
        answer=answer or _default_answer(retry_after, redirect),
        retry_after=retry_after,
        times=times,
        slow_seconds=_seconds(document),
        drop=drop,
        redirect=redirect,
    )


def write_inbox_fault(fault: InboxFault, remaining: int | None) -> dict[str, object]:
    """Return a fault in the form of the control API."""
    return {
        "answer": None if fault.drop else fault.answer,
        "retry_after": fault.retry_after,
        "times": fault.times,
        "slow_seconds": fault.slow_seconds,
        "drop": fault.drop,
        "redirect": fault.redirect,
        "remaining": remaining,
    }


def _default_answer(retry_after: int | None, redirect: str | None) -> int:
    if redirect:
        return 302
    return 204 if retry_after is None else 503


def _whole_number(
    document: Mapping[str, object], name: str, minimum: int, maximum: int
) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise RuleError(name, value, f"a whole number from {minimum} to {maximum}, or null")
    return value


def _seconds(document: Mapping[str, object]) -> float:
    value = document.get("slow_seconds")
    if value is None:
        return 0.0
    if not isinstance(value, int | float) or isinstance(value, bool):
        value = -1.0
    if not 0 <= value <= MAX_SECONDS:
        allowed = f"a number of seconds from 0 to {MAX_SECONDS:g}, or null"
        raise RuleError("slow_seconds", document["slow_seconds"], allowed)
    return float(value)


def _drop(document: Mapping[str, object]) -> bool:
    value = document.get("drop")
    if value is not None and not isinstance(value, bool):
        raise RuleError("drop", value, "true, false or null")
    return value is True


def _redirect(document: Mapping[str, object]) -> str | None:
    value = document.get("redirect")
    if value is None:
        return None
    if not isinstance(value, str) or not _is_url(value):
        allowed = f"an http or https URL of at most {_MAX_URL_CHARS} characters, or null"
        raise RuleError("redirect", value, allowed)
    return value


def _is_url(text: str) -> bool:
    # Spaces and line breaks are not valid in a header.
    if len(text) > _MAX_URL_CHARS or not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
