"""The closed list of faults, and how the faults in a prompt are read."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .durations import COUNT_FORMAT, DURATION_FORMAT, read_count, read_seconds
from .errors import InputError
from .link_faults import LinkFault

Value = float | int | str | bool


class Stage(StrEnum):
    """What a fault affects."""

    SUBMISSION = "submission"  #: The answer to one submit request. A resend may have no fault.
    TASK = "task"  #: The task, as long as it exists.


class ValueKind(StrEnum):
    """The value that follows the fault's name."""

    NOTHING = "nothing"
    SECONDS = "SECONDS"
    COUNT = "N"
    CODE = "CODE"
    LINK = "KIND[/SECONDS][*N]"


@dataclass(frozen=True)
class FaultKind:
    """One fault of the list."""

    name: str
    stage: Stage
    meaning: str
    value_kind: ValueKind = ValueKind.NOTHING
    #: Value of the name alone. None requires a value.
    default: Value | None = True
    #: Name of the value in a rule, such as `retry_after` in `429: {retry_after: 2}`.
    value_field: str | None = None

    @property
    def syntax(self) -> str:
        """How the fault is written, such as `late=SECONDS` or `fail[=CODE]`."""
        if self.value_kind is ValueKind.NOTHING:
            return self.name
        value = f"={self.value_kind.value}"
        return self.name + (value if self.default is None else f"[{value}]")

    def format(self, value: Value) -> str:
        """Return the fault with this value in the form that a prompt uses."""
        if value is True:
            return self.name
        text = f"{value:g}s" if self.value_kind is ValueKind.SECONDS else str(value)
        return f"{self.name}={text}"


_KINDS = (
    FaultKind("402", Stage.SUBMISSION, "refused because credits are missing; not charged"),
    FaultKind(
        "429",
        Stage.SUBMISSION,
        "refused by the rate limit; not charged",
        ValueKind.SECONDS,
        default=1.0,
        value_field="retry_after",
    ),
    FaultKind("500", Stage.SUBMISSION, "refused with the provider's own 500; not charged"),
    FaultKind("503", Stage.SUBMISSION, "refused with the provider's own 503; not charged"),
    FaultKind("502_html", Stage.SUBMISSION, "created and charged; the answer is a gateway's page"),
    FaultKind(
        "lost_response",
        Stage.SUBMISSION,
        "created and charged; the connection closes without an answer",
    ),
    # The default is longer than the 30 seconds that clients usually wait.
    FaultKind(
        "hang",
        Stage.SUBMISSION,
        "created and charged; the answer comes after this time",
        ValueKind.SECONDS,
        default=60.0,
    ),
    FaultKind("drop", Stage.TASK, "no callback is sent"),
    FaultKind(
        "duplicate",
        Stage.TASK,
        "the terminal callback is sent N times at the same time",
        ValueKind.COUNT,
        default=2,
    ),
    FaultKind("early", Stage.TASK, "the callback is answered before the submission is answered"),
    FaultKind(
        "late",
        Stage.TASK,
        "the callback is sent this long after the task ended",
        ValueKind.SECONDS,
        default=None,
    ),
    FaultKind("conflict", Stage.TASK, "a callback with the opposite outcome follows the true one"),
    FaultKind("forged", Stage.TASK, "forged callbacks are sent before the true one"),
    FaultKind("fail", Stage.TASK, "the task fails for a reason or with a code", ValueKind.CODE),
    FaultKind("cancelled", Stage.TASK, "the task ends as cancelled"),
    FaultKind("slow", Stage.TASK, "the task runs this long", ValueKind.SECONDS, default=None),
    FaultKind("forget", Stage.TASK, "queries answer that the task does not exist"),
    FaultKind("success_without_images", Stage.TASK, "the task succeeds with an empty result"),
    FaultKind("placeholder_image", Stage.TASK, "the image link answers 200 with an HTML page"),
    FaultKind(
        "expire_links",
        Stage.TASK,
        "image links expire this long after the task ended",
        ValueKind.SECONDS,
        default=None,
    ),
    FaultKind(
        "image",
        Stage.TASK,
        "the image link fails in one of the ways below",
        ValueKind.LINK,
        default=None,
    ),
)

#: Every fault by its name.
CATALOGUE: Mapping[str, FaultKind] = {kind.name: kind for kind in _KINDS}

#: The faults that create no task. Each name is the HTTP status of the refusal.
REFUSALS = frozenset({"402", "429", "500", "503"})

#: The reasons of `fail`, with a message. Every provider has its own code for them.
REASONS: Mapping[str, str] = {
    "content_policy": "The content policy does not allow this prompt.",
    "generation_failed": "The image could not be generated.",
    "timeout": "The image was not generated in time.",
    "unavailable": "The model is not available at the moment.",
}

_PROMPT_FAULTS = re.compile(r"\[sandbox:([^\]]*)\]", re.IGNORECASE)
_ITEM = re.compile(r"(?P<name>[^=*\s]+)\s*(?:=\s*(?P<value>[^*]*?))?\s*(?:\*\s*(?P<times>\d+))?")
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class FaultError(InputError):
    """A fault that cannot be read."""

    def __init__(
        self, fault: str, value: object, allowed: str, *, problem: str | None = None
    ) -> None:
        super().__init__(f"sandbox fault {fault}".strip(), value, allowed, problem=problem)
        self.fault = fault


@dataclass(frozen=True)
class Faults:
    """The faults of one submission and of the task that it creates."""

    values: Mapping[str, Value] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def seconds(self, name: str, default: float = 0.0) -> float:
        """Return the value of a fault that takes seconds."""
        return float(self.values.get(name, default))

    def count(self, name: str, default: int = 1) -> int:
        """Return the value of a fault that takes a count."""
        return int(self.values.get(name, default))


@dataclass(frozen=True)
class PromptFaults:
    """The faults that one prompt asks for."""

    task: Mapping[str, Value] = field(default_factory=dict)
    #: The faults of the first, second, third … submission. Later submissions have none.
    submissions: tuple[tuple[str, Value], ...] = ()


def find_fault_kind(name: str) -> FaultKind:
    """Return the fault with this name.

    Raises:
        FaultError: No fault has this name. The error lists all faults.
    """
    try:
        return CATALOGUE[name]
    except KeyError:
        allowed = ", ".join(kind.syntax for kind in CATALOGUE.values())
        problem = f"is not a known fault; known faults: {allowed}"
        raise FaultError(name, name, allowed, problem=problem) from None


def read_prompt_faults(prompt: str) -> PromptFaults:
    """Read the first `[sandbox: …]` of a prompt.

    Raises:
        FaultError: A fault is unknown or its value is not allowed.
    """
    block = _PROMPT_FAULTS.search(prompt)
    if block is None:
        return PromptFaults()
    task: dict[str, Value] = {}
    submissions: list[tuple[str, Value]] = []
    for item in block[1].split(","):
        match = _ITEM.fullmatch(item.strip())
        if match is None:
            raise FaultError(item.strip(), item.strip(), "name, name=value or name*N")
        kind = find_fault_kind(match["name"])
        text, times = match["value"], match["times"]
        if kind.value_kind is ValueKind.LINK and times:
            # Here *N belongs to the value, because it counts requests for the link.
            text, times = f"{text or ''}*{times}", None
        value, count = read_value(kind, text), _read_times(kind, times)
        if kind.stage is Stage.TASK:
            task[kind.name] = value
        else:
            submissions += [(kind.name, value)] * count
    return PromptFaults(task, tuple(submissions))


def read_value(kind: FaultKind, text: str | None) -> Value:
    """Read the value of a fault.

    Args:
        kind: The fault.
        text: The text after the fault's name, or None for the name alone.

    Raises:
        FaultError: The value is not allowed.
    """
    if text is None:
        if kind.value_kind is ValueKind.LINK:
            # The error then lists the kinds of links.
            return read_value(kind, "")
        if kind.default is None:
            raise FaultError(kind.name, kind.name, kind.syntax)
        return kind.default
    match kind.value_kind:
        case ValueKind.NOTHING:
            raise FaultError(kind.name, text, f"{kind.name} without a value")
        case ValueKind.SECONDS:
            if (seconds := read_seconds(text)) is None:
                raise FaultError(kind.name, text, DURATION_FORMAT)
            return seconds
        case ValueKind.COUNT:
            if (count := read_count(text)) is None:
                raise FaultError(kind.name, text, COUNT_FORMAT)
            return count
        case ValueKind.CODE:
            if not _CODE.fullmatch(text):
                raise FaultError(kind.name, text, "1 to 64 letters, digits, '_', '-' and '.'")
            return text
        case ValueKind.LINK:
            try:
                return str(LinkFault.read(text))
            except ValueError as error:
                raise FaultError(kind.name, text, str(error)) from None


def whole_seconds(seconds: float) -> int:
    """Return the seconds rounded up, because a Retry-After header has no fractions."""
    return math.ceil(seconds)


def _read_times(kind: FaultKind, text: str | None) -> int:
    if text is None:
        return 1
    if kind.stage is Stage.TASK:
        allowed = "without *N, which only submission faults and image take"
        raise FaultError(kind.name, f"*{text}", allowed)
    if (count := read_count(text)) is None:
        raise FaultError(kind.name, f"*{text}", f"followed by * and {COUNT_FORMAT}")
    return count
