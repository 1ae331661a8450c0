"""The closed list of faults, and how a wish for some of them is read."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .durations import A_TIME, MAX_COUNT, read_count, read_seconds
from .link_faults import LinkFault

Value = float | int | str | bool


class Stage(StrEnum):
    """What a fault bites."""

    SUBMISSION = "submission"  #: the answer to one submit request; a resend can fare better
    TASK = "task"  #: the task for all its life


class Takes(StrEnum):
    """What stands after the fault's name."""

    NOTHING = "nothing"
    SECONDS = "SECONDS"
    COUNT = "N"
    CODE = "CODE"
    LINK = "KIND[/SECONDS][*N]"


@dataclass(frozen=True)
class Kind:
    """One fault: its name, what it takes, and the value a bare name stands for."""

    name: str
    stage: Stage
    meaning: str
    takes: Takes = Takes.NOTHING
    #: None: the value must be given
    bare: Value | None = True
    #: the name its value may go by in a rule, as in `429: {retry_after: 2}`
    inner: str | None = None

    @property
    def spelling(self) -> str:
        """How the fault is written, as in `late=SECONDS` or `fail[=CODE]`."""
        if self.takes is Takes.NOTHING:
            return self.name
        value = f"={self.takes.value}"
        return self.name + (value if self.bare is None else f"[{value}]")

    def written(self, value: Value) -> str:
        """The fault with this value, as a prompt would ask for it."""
        if value is True:
            return self.name
        return f"{self.name}={value:g}s" if self.takes is Takes.SECONDS else f"{self.name}={value}"


_KINDS = (
    Kind("402", Stage.SUBMISSION, "refused for want of credits, not charged"),
    Kind(
        name="429",
        stage=Stage.SUBMISSION,
        meaning="refused as rate limited, not charged",
        takes=Takes.SECONDS,
        bare=1.0,
        inner="retry_after",
    ),
    Kind("500", Stage.SUBMISSION, "refused with the provider's own 500, not charged"),
    Kind("503", Stage.SUBMISSION, "refused with the provider's own 503, not charged"),
    Kind("502_html", Stage.SUBMISSION, "created and charged, answered by a bare gateway page"),
    Kind("lost_response", Stage.SUBMISSION, "created and charged, connection closed unanswered"),
    # Bare, it outlasts the 30 seconds that clients usually wait for an answer.
    Kind("hang", Stage.SUBMISSION, "created and charged, answered late", Takes.SECONDS, bare=60.0),
    Kind("drop", Stage.TASK, "no callback is ever sent"),
    Kind("duplicate", Stage.TASK, "the terminal callback N times at once", Takes.COUNT, bare=2),
    Kind("early", Stage.TASK, "terminal callback answered before the submit answer is sent"),
    Kind("late", Stage.TASK, "callback so long after completion", Takes.SECONDS, bare=None),
    Kind("conflict", Stage.TASK, "after the true callback, one with the opposite outcome"),
    Kind("forged", Stage.TASK, "before the true callback, forged ones that must be refused"),
    Kind("fail", Stage.TASK, "the task fails, for a reason or with a code", Takes.CODE),
    Kind("cancelled", Stage.TASK, "the task ends cancelled"),
    Kind("slow", Stage.TASK, "the task runs so long", Takes.SECONDS, bare=None),
    Kind("forget", Stage.TASK, "queries answer that there is no such task"),
    Kind("success_without_images", Stage.TASK, "the task succeeds, and its result is empty"),
    Kind("placeholder_image", Stage.TASK, "the image link serves an HTML page with status 200"),
    Kind("expire_links", Stage.TASK, "links die so soon after completion", Takes.SECONDS, None),
    Kind("image", Stage.TASK, "the image link fails in one of the ways below", Takes.LINK, None),
)

#: every fault there is, by name
CATALOGUE: Mapping[str, Kind] = {kind.name: kind for kind in _KINDS}

#: the faults by which no task comes about; each is the HTTP status it is refused with
REFUSALS = frozenset({"402", "429", "500", "503"})

#: why `fail` can have a task fail, in words that every provider puts into its own
REASONS: Mapping[str, str] = {
    "content_policy": "The content policy does not allow this prompt.",
    "generation_failed": "The image could not be generated.",
    "timeout": "The image was not generated in time.",
    "unavailable": "The model is not available at the moment.",
}

_WISH = re.compile(r"\[sandbox:([^\]]*)\]", re.IGNORECASE)
_ITEM = re.compile(r"(?P<name>[^=*\s]+)\s*(?:=\s*(?P<value>[^*]*?))?\s*(?:\*\s*(?P<times>\d+))?")
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class FaultError(ValueError):
    """A wish that cannot be read: which fault, which value, and what is allowed."""

    def __init__(self, fault: str, value: object, allowed: str) -> None:
        super().__init__(f"sandbox fault {fault!r}: {value!r} is not allowed; allowed: {allowed}")
        self.fault = fault
        self.value = value
        self.allowed = allowed


@dataclass(frozen=True)
class Faults:
    """The faults that apply to one submission and to the task it creates."""

    values: Mapping[str, Value] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def seconds(self, name: str, default: float = 0.0) -> float:
        """The wait the fault asks for."""
        return float(self.values.get(name, default))

    def count(self, name: str, default: int = 1) -> int:
        """The number the fault asks for."""
        return int(self.values.get(name, default))


@dataclass(frozen=True)
class Wish:
    """What one prompt asks for."""

    task: Mapping[str, Value] = field(default_factory=dict)
    #: for the first, second, third … submission; none is left for those after
    submissions: tuple[tuple[str, Value], ...] = ()


def kind_of(name: str) -> Kind:
    """The fault of that name; FaultError lists them all when there is none."""
    try:
        return CATALOGUE[name]
    except KeyError:
        allowed = ", ".join(kind.spelling for kind in CATALOGUE.values())
        raise FaultError(name, name, allowed) from None


def read_wish(prompt: str) -> Wish:
    """Read the first `[sandbox: …]` of a prompt."""
    found = _WISH.search(prompt)
    if found is None:
        return Wish()
    task: dict[str, Value] = {}
    submissions: list[tuple[str, Value]] = []
    for item in found[1].split(","):
        match = _ITEM.fullmatch(item.strip())
        if match is None:
            raise FaultError(item.strip(), item.strip(), "name, name=value or name*N")
        kind = kind_of(match["name"])
        text, stars = match["value"], match["times"]
        if kind.takes is Takes.LINK and stars:
            # Here it is a part of the value, for it counts requests for the link.
            text, stars = f"{text or ''}*{stars}", None
        value, times = read_value(kind, text), _times(kind, stars)
        if kind.stage is Stage.TASK:
            task[kind.name] = value
        else:
            submissions += [(kind.name, value)] * times
    return Wish(task, tuple(submissions))


def read_value(kind: Kind, text: str | None) -> Value:
    """Read what stands after a fault's name; None is a bare name."""
    if text is None:
        if kind.takes is Takes.LINK:
            # Its kinds are named, as for one that does not exist.
            return read_value(kind, "")
        if kind.bare is None:
            raise FaultError(kind.name, kind.name, kind.spelling)
        return kind.bare
    match kind.takes:
        case Takes.NOTHING:
            raise FaultError(kind.name, text, f"{kind.name} alone, it takes no value")
        case Takes.SECONDS:
            return _seconds(kind, text)
        case Takes.COUNT:
            if (count := read_count(text)) is None:
                raise FaultError(kind.name, text, f"1 to {MAX_COUNT}")
            return count
        case Takes.CODE:
            if not _CODE.fullmatch(text):
                raise FaultError(kind.name, text, "letters, digits, '_', '-' and '.'")
            return text
        case Takes.LINK:
            try:
                return str(LinkFault.read(text))
            except ValueError as error:
                raise FaultError(kind.name, text, str(error)) from None


def whole_seconds(seconds: float) -> int:
    """Seconds for a Retry-After header, which has no fractions; never less than asked."""
    return math.ceil(seconds)


def _seconds(kind: Kind, text: str) -> float:
    seconds = read_seconds(text)
    if seconds is None:
        raise FaultError(kind.name, text, A_TIME)
    return seconds


def _times(kind: Kind, text: str | None) -> int:
    if text is None:
        return 1
    if kind.stage is Stage.TASK:
        raise FaultError(kind.name, f"*{text}", "*N only on faults of the submission and on image")
    if (count := read_count(text)) is None:
        raise FaultError(kind.name, f"*{text}", f"*1 to *{MAX_COUNT}")
    return count
