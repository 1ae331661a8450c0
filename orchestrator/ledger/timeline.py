"""The timeline of a job as it is stored: each line is `<ms since the creation> <name> <JSON>`.

A line leaves out what the fields of the job tell. The lines of an older version have the time since
the epoch, without a sign, and the whole detail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.jobs.event import Event
from orchestrator.ledger import codec


def read_events(lines: Iterable[str], fields: Mapping[str, str]) -> list[Event]:
    """Return the events of a timeline.

    `fields` are those of the job, read with the lines or after them. Without fields the job has
    expired, and there are no events.
    """
    return [_event(line, fields) for line in lines] if fields else []


def line_of(event: Event) -> str:
    """Return the line of an event that needs no job to be read."""
    return f"{event.at} {event.name} {codec.dumps(event.detail)}"


def _event(line: str, fields: Mapping[str, str]) -> Event:
    time, name, text = line.split(" ", 2)
    at = int(time) + (int(fields["created"]) if time[0] in "+-" else 0)
    detail = codec.loads(text)
    if name == "settled" and not detail:
        detail = _settlement(fields)
    elif name == "accepted" and "task_id" not in detail:
        detail["task_id"] = fields.get(f"task.{detail['attempt']}")
    return Event(at, name, detail)


def _settlement(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the detail of the event `settled`. A cancelled job has no attempt that settled it."""
    detail: dict[str, Any] = {"status": fields.get("status"), "by": fields.get("by")}
    if "winner" in fields:
        detail["attempt"] = int(fields["winner"])
        error = codec.read_error(fields.get("error"))
        detail |= {"code": error.code.value} if error else {}
    return detail
