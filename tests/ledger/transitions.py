"""The transition table of the ledger: every state of a job, and every action on it.

A cell has the result. After `>` it has the first letters of the new status. Without `>` the status
does not change. The columns are:

- none: the job existed and has expired
- new: queued, with no attempt
- queued: the provider refused attempts 1 and 2 for now
- overdue: like queued, but past its deadline, and a worker holds the lease
- submitting, unconfirmed, running: the provider refused attempt 1 for now. A worker holds the lease
  on attempt 2. Its provider task "task-2" is known in running only
- succeeded, failed: a callback for attempt 2 settled the job. Its provider task is "task-2"
- cancelled: a queued job was cancelled

`current` is attempt 2, and `older` is attempt 1. `other task` is attempt 2 with another task id. It
is a contradiction only if a task id is known. `own lease` is the last lease on the job.

In the actions `move`, the job has a fallback.

follow_transitions.py has the table of follow-ups. docs/states.md shows both tables:
`python -m tests.ledger.transitions > docs/states.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from orchestrator.jobs.model import Status
from orchestrator.ledger import Result
from tests.ledger import follow_transitions

TABLE = """
action                     | none        | new           | queued        | overdue
create, call repeated      | created>que | created       | created       | created
create, same key           | created>que | replayed      | replayed      | replayed
claim submit, due          | missing     | claimed>sub   | claimed>sub   | claimed
claim submit, not due      | missing     | not_due       | not_due       | not_due
claim poll, due            | missing     | not_due       | not_due       | not_due
claim poll, not due        | missing     | not_due       | not_due       | not_due
accepted, current          | missing     | mismatch      | running>run   | running>run
accepted, older            | missing     | mismatch      | superseded    | superseded
accepted, other task       | missing     | mismatch      | running>run   | running>run
accepted, never sent       | missing     | mismatch      | mismatch      | mismatch
requeue, own lease         | missing     | stale         | stale         | stale
requeue, wrong lease       | missing     | stale         | stale         | stale
move, refused              | missing     | stale         | stale         | stale
move, provider paused      | missing     | moved         | moved         | claimed
unconfirmed, own lease     | missing     | stale         | stale         | stale
unconfirmed, wrong lease   | missing     | stale         | stale         | stale
defer, own lease           | missing     | stale         | stale         | stale
defer, wrong lease         | missing     | stale         | stale         | stale
observe, due changed       | missing     | mismatch      | running>run   | running>run
observe, due unchanged     | missing     | mismatch      | running>run   | running>run
observe, older             | missing     | mismatch      | superseded    | superseded
observe, other task        | missing     | mismatch      | running>run   | running>run
observe, images            | missing     | mismatch      | running>run   | running>run
observe, images, older     | missing     | mismatch      | unproven      | unproven
callback success           | missing     | mismatch      | settled>suc   | settled>suc
callback failure           | missing     | mismatch      | settled>fai   | settled>fai
callback success, older    | missing     | mismatch      | settled>suc   | settled>suc
callback failure, older    | missing     | mismatch      | superseded    | superseded
callback, other task       | missing     | mismatch      | settled>suc   | settled>suc
settle success, own lease  | missing     | stale         | stale         | settled>suc
settle success, wrong lease| missing     | stale         | stale         | stale
settle failure, own lease  | missing     | stale         | stale         | settled>fai
settle failure, wrong lease| missing     | stale         | stale         | stale
cancel                     | missing     | cancelled>can | cancelled>can | cancelled>can
poll now                   | missing     | open          | open          | open

action                     | submitting      | unconfirmed | running
create, call repeated      | created         | created     | created
create, same key           | replayed        | replayed    | replayed
claim submit, due          | claimed>unc     | claimed     | not_due
claim submit, not due      | not_due         | not_due     | not_due
claim poll, due            | not_due         | not_due     | claimed
claim poll, not due        | not_due         | not_due     | not_due
accepted, current          | running>run     | running>run | running
accepted, older            | superseded      | superseded  | superseded
accepted, other task       | running>run     | running>run | mismatch
accepted, never sent       | mismatch        | mismatch    | mismatch
requeue, own lease         | queued>que      | queued>que  | stale
requeue, wrong lease       | stale           | stale       | stale
move, refused              | moved>que       | exhausted   | stale
move, provider paused      | waiting         | waiting     | not_due
unconfirmed, own lease     | unconfirmed>unc | unconfirmed | stale
unconfirmed, wrong lease   | stale           | stale       | stale
defer, own lease           | stale           | stale       | deferred
defer, wrong lease         | stale           | stale       | stale
observe, due changed       | running>run     | running>run | running
observe, due unchanged     | running>run     | running>run | running
observe, older             | superseded      | superseded  | superseded
observe, other task        | running>run     | running>run | mismatch
observe, images            | running>run     | running>run | running
observe, images, older     | unproven        | unproven    | unproven
callback success           | settled>suc     | settled>suc | settled>suc
callback failure           | settled>fai     | settled>fai | settled>fai
callback success, older    | settled>suc     | settled>suc | settled>suc
callback failure, older    | superseded      | superseded  | superseded
callback, other task       | settled>suc     | settled>suc | mismatch
settle success, own lease  | settled>suc     | settled>suc | settled>suc
settle success, wrong lease| stale           | stale       | stale
settle failure, own lease  | settled>fai     | settled>fai | settled>fai
settle failure, wrong lease| stale           | stale       | stale
cancel                     | in_flight       | in_flight   | in_flight
poll now                   | open            | open        | running

action                     | succeeded | failed    | cancelled
create, call repeated      | created   | created   | created
create, same key           | replayed  | replayed  | replayed
claim submit, due          | not_due   | not_due   | not_due
claim submit, not due      | not_due   | not_due   | not_due
claim poll, due            | not_due   | not_due   | not_due
claim poll, not due        | not_due   | not_due   | not_due
accepted, current          | settled   | settled   | settled
accepted, older            | settled   | settled   | settled
accepted, other task       | mismatch  | mismatch  | settled
accepted, never sent       | mismatch  | mismatch  | mismatch
requeue, own lease         | stale     | stale     | stale
requeue, wrong lease       | stale     | stale     | stale
move, refused              | stale     | stale     | stale
move, provider paused      | not_due   | not_due   | not_due
unconfirmed, own lease     | stale     | stale     | stale
unconfirmed, wrong lease   | stale     | stale     | stale
defer, own lease           | stale     | stale     | stale
defer, wrong lease         | stale     | stale     | stale
observe, due changed       | duplicate | duplicate | duplicate
observe, due unchanged     | duplicate | duplicate | duplicate
observe, older             | duplicate | duplicate | duplicate
observe, other task        | mismatch  | mismatch  | duplicate
observe, images            | duplicate | unproven  | unproven
observe, images, older     | unproven  | unproven  | unproven
callback success           | duplicate | late      | late
callback failure           | conflict  | duplicate | conflict
callback success, older    | late      | late      | late
callback failure, older    | conflict  | conflict  | conflict
callback, other task       | mismatch  | mismatch  | late
settle success, own lease  | duplicate | late      | late
settle success, wrong lease| duplicate | late      | late
settle failure, own lease  | conflict  | duplicate | conflict
settle failure, wrong lease| conflict  | duplicate | conflict
cancel                     | terminal  | terminal  | duplicate
poll now                   | terminal  | terminal  | terminal
"""

#: The status of each column with another name than its status.
STATUS_OF: Mapping[str, Status | None] = {
    "none": None,
    "new": Status.QUEUED,
    "overdue": Status.QUEUED,
}


class Transition(NamedTuple):
    """One cell of the table: the effect of an action in one state."""

    state: str
    action: str
    result: Result
    before: Status | None
    after: Status | None


def transitions() -> list[Transition]:
    """Return all cells of the table."""
    cells = []
    for block in TABLE.strip().split("\n\n"):
        head, *rows = ([text.strip() for text in line.split("|")] for line in block.splitlines())
        for action, *entries in rows:
            cells += [_parse(s, action, entry) for s, entry in zip(head[1:], entries, strict=True)]
    return cells


def _parse(state: str, action: str, entry: str) -> Transition:
    result, _, letters = entry.partition(">")
    before = STATUS_OF[state] if state in STATUS_OF else Status(state)
    after = next(s for s in Status if s.startswith(letters)) if letters else before
    return Transition(state, action, Result(result), before, after)


# The page for users ------------------------------------------------------------------------

#: The name of each state on the page.
ROWS: Mapping[str, str] = {
    "new": "queued, never submitted",
    "queued": "queued, submitted before",
    "overdue": "queued, past its deadline",
    "submitting": "submitting",
    "unconfirmed": "unconfirmed",
    "running": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    "none": "no such job",
}

#: The name of each action on the page, by section.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "A caller sends a request": {
        "create, same key": "enqueue, same idempotency key",
        "create, call repeated": "enqueue, the same call repeated",
        "cancel": "cancel",
        "poll now": "poll now",
    },
    "A worker claims the job": {
        "claim submit, due": "submit, due",
        "claim submit, not due": "submit, not due",
        "claim poll, due": "poll, due",
        "claim poll, not due": "poll, not due",
        "move, provider paused": "submit, with a fallback, while the provider is paused",
    },
    "A worker with the lease records a result": {
        "requeue, own lease": "refused for now",
        "move, refused": "refused, with a fallback",
        "unconfirmed, own lease": "no readable answer",
        "defer, own lease": "poll without an outcome",
        "settle success, own lease": "success",
        "settle failure, own lease": "failure",
    },
    "A worker without the lease records a result": {
        "requeue, wrong lease": "refused for now",
        "unconfirmed, wrong lease": "no readable answer",
        "defer, wrong lease": "poll without an outcome",
        "settle success, wrong lease": "success",
        "settle failure, wrong lease": "failure",
    },
    "The provider reports a task": {
        "accepted, current": "accepted",
        "accepted, older": "accepted, older attempt",
        "accepted, other task": "accepted, another task",
        "accepted, never sent": "accepted, attempt never sent",
        "observe, due unchanged": "callback, no outcome yet",
        "observe, due changed": "callback, must be confirmed",
        "observe, older": "callback, older attempt",
        "observe, other task": "callback, another task",
        "observe, images": "callback, its images must be queried",
        "observe, images, older": "the same, older attempt",
    },
    "The provider reports an outcome": {
        "callback success": "success",
        "callback failure": "failure",
        "callback success, older": "success, older attempt",
        "callback failure, older": "failure, older attempt",
        "callback, other task": "success, another task",
    },
}

#: Results that change the timeline and the known provider tasks only.
RECORDED = frozenset(
    {Result.DUPLICATE, Result.CONFLICT, Result.MISMATCH, Result.SUPERSEDED, Result.SETTLED}
)
#: Results that change nothing.
REFUSED = frozenset(
    {
        *(Result.NOT_DUE, Result.STALE, Result.IN_FLIGHT, Result.TERMINAL, Result.MISSING),
        *(Result.WAITING, Result.EXHAUSTED, Result.OPEN),
    }
)

INTRODUCTION = """\
# States and events

This page shows the effect of each event on a job, by the status of the job. Do not edit it. Change
the tables in `tests/ledger/transitions.py` and `tests/ledger/follow_transitions.py`, and run
`python -m tests.ledger.transitions > docs/states.md`. The tests of the ledger check every cell.

| entry | meaning |
| --- | --- |
| **a status** | The event takes effect. The job has this status afterwards. |
| recorded | The timeline lists the event. A new task id or cost is stored. Nothing else changes. |
| late result | The outcome stands. The images are kept as `late_images`, archived and notified. |
| queried | The outcome stands. The confirm step queries the task. Its images are a late result. |
| refused | Nothing changes. |
| the job | The caller gets the existing job. |

- An attempt is *older* when a newer attempt exists.
- *Another task* means: a callback or an answer for the current attempt names a second task id. If
  no task id is known, the ledger stores it. If another task id is known, it is a contradiction.
- A worker is *without the lease* when its lease has ended and another worker has claimed the job.
"""


def page() -> str:
    """Return docs/states.md."""
    lines = [INTRODUCTION, *_tables(), *follow_transitions.section()]
    return "\n".join(lines).rstrip("\n") + "\n"


def _tables() -> Iterator[str]:
    cells = {(cell.state, cell.action): cell for cell in transitions()}
    for heading, columns in COLUMNS.items():
        yield f"## {heading}\n"
        yield f"| status | {' | '.join(columns.values())} |"
        yield f"| --- |{' --- |' * len(columns)}"
        for state, name in ROWS.items():
            entries = " | ".join(_entry(cells[state, action]) for action in columns)
            yield f"| {name} | {entries} |"
        yield ""


def _entry(cell: Transition) -> str:
    if cell.after is not cell.before:
        return f"**{cell.after}**"
    if (cell.action, cell.result) == ("cancel", Result.DUPLICATE):
        return "the job"
    entries = {
        **dict.fromkeys(RECORDED, "recorded"),
        **dict.fromkeys(REFUSED, "refused"),
        **dict.fromkeys((Result.CREATED, Result.REPLAYED), "the job"),
        Result.LATE: "late result",
        Result.UNPROVEN: "queried",
    }
    return entries.get(cell.result, f"**{cell.after}**")


if __name__ == "__main__":
    sys.stdout.write(page())
