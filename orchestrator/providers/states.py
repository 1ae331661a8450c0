"""The states of provider tasks: each provider's documented names first, then the usual synonyms."""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrator.jobs.model import Status

#: State -> the terminal status that it means, or None while the task runs.
States = Mapping[str, Status | None]

#: Names that several APIs use for the end of a task. A state with another name counts as running.
SYNONYMS: States = {
    **dict.fromkeys(
        (
            *("success", "successful", "succeeded", "succeed", "ok"),
            *("completed", "complete", "done", "finished", "finish", "generated"),
            *("partial_success", "partially_succeeded", "partially_completed"),
            "completed_with_errors",
        ),
        Status.SUCCEEDED,
    ),
    **dict.fromkeys(
        (
            *("fail", "failed", "failure", "error", "errored", "rejected", "unsuccessful"),
            *("timeout", "timed_out", "timedout", "expired"),
            *("moderated", "content_moderated", "request_moderated"),
        ),
        Status.FAILED,
    ),
    **dict.fromkeys(("cancelled", "canceled", "cancel", "aborted"), Status.CANCELLED),
}
_SEPARATORS = re.compile(r"[\s_-]+")
#: What some APIs put before the name of a state: `TASK_SUCCEEDED`, `JOB_STATE_FAILED`.
_PREFIX = re.compile(r"^((task|job|state|status)_)+")


def terminal_status(state: str, documented: States) -> Status | None:
    """Return the terminal status that a state means, or None while the task runs.

    Case, surrounding white space and the kind of separators do not matter.
    """
    if state in documented:
        return documented[state]
    name = _plain(state)
    own = _by_name(documented)
    if name not in own:
        name = _PREFIX.sub("", name)
    return own[name] if name in own else SYNONYMS.get(name)


def is_documented(state: str, documented: States) -> bool:
    """Return whether a provider documents a state."""
    return _plain(state) in _by_name(documented)


def _by_name(documented: States) -> dict[str, Status | None]:
    return {_plain(state): status for state, status in documented.items()}


def _plain(state: str) -> str:
    return _SEPARATORS.sub("_", state.strip().lower())
