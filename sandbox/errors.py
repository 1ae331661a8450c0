"""The error for an input of the sandbox itself: field, value and allowed values."""

#: Longest quotation of an input in an error message, in characters.
MAX_QUOTED_CHARS = 80


class InputError(ValueError):
    """An input that cannot be read.

    Args:
        field: The path of the field, such as `faults.late`.
        value: The value of the field.
        allowed: The allowed values in words. They follow "must be" in the message.
        problem: The rest of the message after the field, if "must be" does not fit.
    """

    def __init__(
        self, field: str, value: object, allowed: str, *, problem: str | None = None
    ) -> None:
        self.field = field
        self.value = value
        self.allowed = allowed
        self.problem = problem or f"must be {allowed}; got {shorten(repr(value))}"
        super().__init__(f"{shorten(field)} {self.problem}")


def shorten(text: str) -> str:
    """Return a text cut to `MAX_QUOTED_CHARS`, so that no message grows with its input."""
    return text if len(text) <= MAX_QUOTED_CHARS else text[:MAX_QUOTED_CHARS] + "…"
