"""What an inbox does wrong, and how a request for it is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from .durations import MAX_SECONDS
from .rule_format import RuleError

#: everything that can be said
FIELDS = ("answer", "retry_after", "times", "slow_seconds", "drop", "redirect")

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_URL = 2048


@dataclass(frozen=True)
class InboxFault:
    """How an inbox answers. As it stands, in good order: 204, at once, always."""

    answer: int = 204
    #: for Retry-After, in seconds
    retry_after: int | None = None
    #: for so many notifications; None: until it is mended
    times: int | None = None
    #: how long it takes to answer
    slow_seconds: float = 0.0
    #: the connection is closed unanswered
    drop: bool = False
    #: for Location
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


def read_inbox_fault(given: object) -> InboxFault:
    """Read what an inbox shall do wrong; RuleError says what is wrong with the first field."""
    if not isinstance(given, dict) or not given:
        raise RuleError("fault", given, "an object with one or more of " + ", ".join(FIELDS))
    for name in given:
        if name not in FIELDS:
            raise RuleError(str(name), given[name], ", ".join(FIELDS))
    answer = _whole(given, "answer", 200, 599)
    retry_after = _whole(given, "retry_after", 0, int(MAX_SECONDS))
    times = _whole(given, "times", 1, 1_000_000)
    drop, redirect = _drop(given), _redirect(given)
    if redirect and answer is not None and answer not in _REDIRECTS:
        allowed = ", ".join(map(str, _REDIRECTS))
        raise RuleError("answer", answer, f"with redirect one of {allowed}, or none for 302")
    if drop:
        for name in ("answer", "retry_after", "redirect"):
            if given.get(name) is not None:
                raise RuleError(name, given[name], "none with drop, which gives no answer")
    return InboxFault(
        answer=answer or _answer(retry_after, redirect),
        retry_after=retry_after,
        times=times,
        slow_seconds=_seconds(given),
        drop=drop,
        redirect=redirect,
    )


def write_inbox_fault(fault: InboxFault, left: int | None) -> dict[str, object]:
    """A fault as the control API shows it."""
    return {
        "answer": None if fault.drop else fault.answer,
        "retry_after": fault.retry_after,
        "times": fault.times,
        "slow_seconds": fault.slow_seconds,
        "drop": fault.drop,
        "redirect": fault.redirect,
        "remaining": left,
    }


def _answer(retry_after: int | None, redirect: str | None) -> int:
    """What is answered when nothing is said of it."""
    if redirect:
        return 302
    return 204 if retry_after is None else 503


def _whole(given: Mapping[str, object], name: str, least: int, most: int) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise RuleError(name, value, f"a whole number from {least} to {most}, or null")
    return value


def _seconds(given: Mapping[str, object]) -> float:
    value = given.get("slow_seconds")
    if value is None:
        return 0.0
    if not isinstance(value, int | float) or isinstance(value, bool):
        value = -1.0
    if not 0 <= value <= MAX_SECONDS:
        allowed = f"a number of seconds from 0 to {MAX_SECONDS:g}, or null"
        raise RuleError("slow_seconds", given["slow_seconds"], allowed)
    return float(value)


def _drop(given: Mapping[str, object]) -> bool:
    value = given.get("drop")
    if value is not None and not isinstance(value, bool):
        raise RuleError("drop", value, "true, false, or null")
    return value is True


def _redirect(given: Mapping[str, object]) -> str | None:
    value = given.get("redirect")
    if value is None:
        return None
    if not isinstance(value, str) or not _is_url(value):
        raise RuleError(
            "redirect", value, f"an http(s) URL of up to {_MAX_URL} characters, or null"
        )
    return value


def _is_url(text: str) -> bool:
    # In a header no blank and no end of a line may stand.
    if len(text) > _MAX_URL or not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
