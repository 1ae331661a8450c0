"""Reads the faults of a prompt, and the value of a fault."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .catalogue import CATALOGUE
from .choices import ChosenValue
from .durations import COUNT_FORMAT, DURATION_FORMAT, read_count, read_seconds
from .errors import InputError
from .fault_kinds import FaultKind, Stage, Value, ValueKind
from .retry_after import RETRY_AFTER_FORMS

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

    def choice(self, name: str) -> ChosenValue | None:
        """Return the value of a fault that takes a choice, or None without the fault."""
        if name not in self.values:
            return None
        return ChosenValue.read(str(self.values[name]), CATALOGUE[name].choices, counted=True)

    def form(self, name: str) -> str | None:
        """Return the name of the choice of a fault, or None without the fault."""
        value = self.choice(name)
        return None if value is None else value.name


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
        if kind.value_kind is ValueKind.COUNTED_CHOICE and times:
            # Here *N belongs to the value, because it counts requests.
            name = str(kind.default or "").partition("*")[0] if text is None else text
            text, times = f"{name}*{times}", None
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
        if kind.default is not None:
            return kind.default
        if not kind.choices:
            raise FaultError(kind.name, kind.name, kind.syntax)
        # The error then lists the choices.
        text = ""
    match kind.value_kind:
        case ValueKind.NOTHING:
            raise FaultError(kind.name, text, f"{kind.name} without a value")
        case ValueKind.SECONDS:
            return _read_seconds(kind, text, DURATION_FORMAT)
        case ValueKind.WAIT:
            names = ", ".join(RETRY_AFTER_FORMS)
            is_form = text.strip() in RETRY_AFTER_FORMS
            allowed = f"{DURATION_FORMAT}, or one of {names}"
            return text.strip() if is_form else _read_seconds(kind, text, allowed)
        case ValueKind.COUNT:
            if (count := read_count(text)) is None:
                raise FaultError(kind.name, text, COUNT_FORMAT)
            return count
        case ValueKind.CODE:
            if not _CODE.fullmatch(text):
                raise FaultError(kind.name, text, "1 to 64 letters, digits, '_', '-' and '.'")
            return text
        case ValueKind.CHOICE | ValueKind.STATUS | ValueKind.COUNTED_CHOICE:
            return _read_choice(kind, text)


def _read_seconds(kind: FaultKind, text: str, allowed: str) -> float:
    if (seconds := read_seconds(text)) is None:
        raise FaultError(kind.name, text, allowed)
    return seconds


def _read_choice(kind: FaultKind, text: str) -> str:
    counted = kind.value_kind is ValueKind.COUNTED_CHOICE
    try:
        return str(ChosenValue.read(text, kind.choices, counted=counted))
    except ValueError as error:
        raise FaultError(kind.name, text, str(error)) from None


def _read_times(kind: FaultKind, text: str | None) -> int:
    if text is None:
        return 1
    if kind.stage is Stage.TASK:
        allowed = "without *N, which only submission faults, image, query and thin_success take"
        raise FaultError(kind.name, f"*{text}", allowed)
    if (count := read_count(text)) is None:
        raise FaultError(kind.name, f"*{text}", f"followed by * and {COUNT_FORMAT}")
    return count
