"""Thin successes: a task that succeeded, shown without its result."""

from collections.abc import MutableMapping, Sequence
from enum import StrEnum
from typing import Any

from .choices import ChosenValue
from .tasks import Task, TaskStore

#: The path of a field, from the top.
Path = tuple[str, ...]


class Channel(StrEnum):
    """Where a task is shown."""

    #: The answer to a submission, and lists. They are not counted.
    SUBMISSION = "submission"
    QUERY = "query"
    CALLBACK = "callback"
    #: The callback with the result that follows a thin one.
    CORRECTION = "correction"


#: The channels that each value of `thin_success` makes thin.
_CHANNELS = {
    "both": {Channel.SUBMISSION, Channel.QUERY, Channel.CALLBACK},
    "query": {Channel.SUBMISSION, Channel.QUERY},
    "callback": {Channel.CALLBACK},
    "corrected": {Channel.CALLBACK},
}


def is_thin(store: TaskStore, task: Task, channel: Channel, now: float) -> bool:
    """Return True when this success is shown without its result. Count a query."""
    value = task.faults.choice("thin_success")
    if value is None or channel not in _CHANNELS[value.name]:
        return False
    return not _is_over(store, task, channel, value, now)


def _is_over(
    store: TaskStore, task: Task, channel: Channel, value: ChosenValue, now: float
) -> bool:
    if value.seconds is not None and now - (task.finished_at or now) >= value.seconds:
        return True
    if channel is Channel.QUERY:
        return not value.applies_to(store.count_query(task, "thin_success"))
    return value.times is not None and task.queries["thin_success"] >= value.times


def hide_result(view: MutableMapping[str, Any], fields: Sequence[Path], form: str | None) -> None:
    """Give the empty result of a task the form of `thin_form`."""
    for path in fields:
        holder = find_holder(view, path)
        if holder is None or form in (None, "empty"):
            continue
        if form == "missing":
            del holder[path[-1]]
        else:
            holder[path[-1]] = None if form == "none" else ""


def find_holder(view: MutableMapping[str, Any], path: Path) -> MutableMapping[str, Any] | None:
    """Return the object that holds the last field of a path, or None if the field is missing."""
    holder: MutableMapping[str, Any] = view
    for name in path[:-1]:
        holder = holder[name]
    return holder if path[-1] in holder else None
