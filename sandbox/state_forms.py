"""Other spellings of the states that the documents name."""

from collections.abc import Callable, Mapping

_SYNONYMS = {
    "success": "completed",
    "completed": "succeeded",
    "succeeded": "success",
    "fail": "failed",
    "failed": "fail",
    "cancelled": "canceled",
}
_SUCCESSES = frozenset({"success", "completed", "succeeded"})


def _done(state: str) -> str:
    if state in _SUCCESSES:
        return "done"
    return "error" if state in _SYNONYMS else state


_FORMS: Mapping[str, Callable[[str], str]] = {
    "upper": str.upper,
    "title": str.title,
    "blanks": lambda state: f" {state}\n",
    "synonym": lambda state: _SYNONYMS.get(state, state),
    "done": _done,
}


def shape_state(state: str, form: str | None) -> str:
    """Return the state in the form of `state_form`."""
    return state if form is None else _FORMS[form](state)
