"""What a fault is: its name, its value, and what it affects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .choices import Choice

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
    #: One of `FaultKind.choices`.
    CHOICE = "FORM"
    #: One of `FaultKind.choices`, with a time for some of them and a number of times.
    COUNTED_CHOICE = "KIND[/SECONDS][*N]"
    #: An HTTP status from `FaultKind.choices`.
    STATUS = "STATUS"
    #: A time, or one of the forms of `retry_after.RETRY_AFTER_FORMS`.
    WAIT = "WAIT"


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
    #: The closed list of values, if the value is a choice.
    choices: Mapping[str, Choice] = field(default_factory=dict)

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
        text = f"{value:g}s" if isinstance(value, float) else str(value)
        return f"{self.name}={text}"
