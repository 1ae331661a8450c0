"""The ledger's transition table: every status a job can have, and every move that can be made.

A cell is the result, and after `>` the first letters of the status that the job has then; without
`>` the status stays. What the columns stand for:

- none: there was such a job, and it has expired
- new: queued, never submitted; attempts 1 and 2 do not exist
- queued: attempts 1 and 2 were refused for now
- overdue: as queued, but past its deadline, and in the hands of a worker
- submitting, unconfirmed, running: attempt 1 was refused for now; attempt 2 is in the hands of a
  worker. Only when running is its provider task known, as "task-2"
- succeeded, failed: settled by a callback for attempt 2, known as "task-2"
- cancelled: called off when queued

`current` and `older` are attempts 2 and 1. `other task` is attempt 2 under another task id, which
only contradicts where one is known. `own lease` is the one last held on the job.

What follows from an outcome has a table of its own, in follow_transitions.py. docs/states.md is
both in other words: `python -m tests.ledger.transitions > docs/states.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from orchestrator.jobs.model import Status
from orchestrator.ledger import Result
from tests.ledger import follow_transitions

TABLE = """
move                       | none        | new           | queued        | overdue
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
unconfirmed, own lease     | missing     | stale         | stale         | stale
unconfirmed, wrong lease   | missing     | stale         | stale         | stale
defer, own lease           | missing     | stale         | stale         | stale
defer, wrong lease         | missing     | stale         | stale         | stale
observe, look moved        | missing     | mismatch      | running>run   | running>run
observe, look left         | missing     | mismatch      | running>run   | running>run
observe, older             | missing     | mismatch      | superseded    | superseded
observe, other task        | missing     | mismatch      | running>run   | running>run
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

move                       | submitting      | unconfirmed | running
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
unconfirmed, own lease     | unconfirmed>unc | unconfirmed | stale
unconfirmed, wrong lease   | stale           | stale       | stale
defer, own lease           | stale           | stale       | deferred
defer, wrong lease         | stale           | stale       | stale
observe, look moved        | running>run     | running>run | running
observe, look left         | running>run     | running>run | running
observe, older             | superseded      | superseded  | superseded
observe, other task        | running>run     | running>run | mismatch
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

move                       | succeeded | failed    | cancelled
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
unconfirmed, own lease     | stale     | stale     | stale
unconfirmed, wrong lease   | stale     | stale     | stale
defer, own lease           | stale     | stale     | stale
defer, wrong lease         | stale     | stale     | stale
observe, look moved        | duplicate | duplicate | duplicate
observe, look left         | duplicate | duplicate | duplicate
observe, older             | duplicate | duplicate | duplicate
observe, other task        | mismatch  | mismatch  | duplicate
callback success           | duplicate | conflict  | conflict
callback failure           | conflict  | duplicate | conflict
callback success, older    | conflict  | conflict  | conflict
callback failure, older    | conflict  | conflict  | conflict
callback, other task       | mismatch  | mismatch  | conflict
settle success, own lease  | duplicate | conflict  | conflict
settle success, wrong lease| duplicate | conflict  | conflict
settle failure, own lease  | conflict  | duplicate | conflict
settle failure, wrong lease| conflict  | duplicate | conflict
cancel                     | terminal  | terminal  | duplicate
"""

#: The status behind each column that is not called as its status.
STATUS_OF: Mapping[str, Status | None] = {
    "none": None,
    "new": Status.QUEUED,
    "overdue": Status.QUEUED,
}


class Cell(NamedTuple):
    """What a move comes to in one state of a job."""

    state: str
    move: str
    result: Result
    before: Status | None
    after: Status | None


def cells() -> list[Cell]:
    """The table, one cell after the other."""
    found = []
    for block in TABLE.strip().split("\n\n"):
        head, *rows = ([text.strip() for text in line.split("|")] for line in block.splitlines())
        for move, *entries in rows:
            found += [_cell(s, move, entry) for s, entry in zip(head[1:], entries, strict=True)]
    return found


def _cell(state: str, move: str, entry: str) -> Cell:
    result, _, letters = entry.partition(">")
    before = STATUS_OF[state] if state in STATUS_OF else Status(state)
    after = next(s for s in Status if s.startswith(letters)) if letters else before
    return Cell(state, move, Result(result), before, after)


# The page for users ------------------------------------------------------------------------

#: Each state in words.
ROWS: Mapping[str, str] = {
    "new": "queued, never sent",
    "queued": "queued, sent before",
    "overdue": "queued, past its deadline",
    "submitting": "submitting",
    "unconfirmed": "unconfirmed",
    "running": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    "none": "no such job",
}

#: Each move in words, by who makes it.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "Callers ask": {
        "create, same key": "enqueue, same key",
        "create, call repeated": "the same call, repeated on the wire",
        "cancel": "cancel",
    },
    "Workers take a job for a step": {
        "claim submit, due": "submit, due",
        "claim submit, not due": "submit, not due",
        "claim poll, due": "poll, due",
        "claim poll, not due": "poll, not due",
    },
    "Workers record what came of it": {
        "requeue, own lease": "a no for now",
        "unconfirmed, own lease": "no readable answer",
        "defer, own lease": "polled, no news",
        "settle success, own lease": "success",
        "settle failure, own lease": "failure",
    },
    "Workers that lost their lease do so": {
        "requeue, wrong lease": "a no for now",
        "unconfirmed, wrong lease": "no readable answer",
        "defer, wrong lease": "polled, no news",
        "settle success, wrong lease": "success",
        "settle failure, wrong lease": "failure",
    },
    "The provider tells of a task": {
        "accepted, current": "accepted",
        "accepted, older": "accepted, older attempt",
        "accepted, other task": "accepted, another task",
        "accepted, never sent": "accepted, never sent",
        "observe, look left": "a callback with news",
        "observe, look moved": "a callback to be confirmed",
        "observe, older": "news, older attempt",
        "observe, other task": "news, another task",
    },
    "The provider tells of an outcome": {
        "callback success": "success",
        "callback failure": "failure",
        "callback success, older": "success, older attempt",
        "callback failure, older": "failure, older attempt",
        "callback, other task": "success, another task",
    },
}

#: Results of moves that changed nothing but the timeline and what is known of the provider's tasks.
NOTED = frozenset(
    {Result.DUPLICATE, Result.CONFLICT, Result.MISMATCH, Result.SUPERSEDED, Result.SETTLED}
)
#: Results of moves that changed nothing at all.
TURNED_AWAY = frozenset(
    {Result.NOT_DUE, Result.STALE, Result.IN_FLIGHT, Result.TERMINAL, Result.MISSING}
)

INTRODUCTION = """\
# States and events

What each event does to a job in each status. Made by `python -m tests.ledger.transitions` from the
table that the tests of the ledger run cell by cell: change it there.

- **a status**: the event is taken, and this is the job's status from then on;
- recorded: listed in the job's timeline, and a task id or cost that was not known yet is kept;
  status, outcome and next look stay as they are;
- refused: nothing is changed;
- the job: the one that is there already.

An attempt is *older* once another one was made after it. *Another task* is a callback or an answer
for the current attempt under a second task id: evidence where none is known yet, else a
contradiction. A worker has lost its *lease* when it comes back after its time: the job may be in
other hands by then.
"""


def page() -> str:
    """The table for users, as Markdown."""
    return "\n".join([INTRODUCTION, *_tables(), *follow_transitions.section()])


def _tables() -> Iterator[str]:
    found = {(cell.state, cell.move): cell for cell in cells()}
    for heading, columns in COLUMNS.items():
        yield f"## {heading}\n"
        yield f"| status | {' | '.join(columns.values())} |"
        yield f"| --- |{' --- |' * len(columns)}"
        for state, words in ROWS.items():
            told = " | ".join(_told(found[state, move]) for move in columns)
            yield f"| {words} | {told} |"
        yield ""


def _told(cell: Cell) -> str:
    if cell.after is not cell.before:
        return f"**{cell.after}**"
    if (cell.move, cell.result) == ("cancel", Result.DUPLICATE):
        return "the job"
    if cell.result in NOTED:
        return "recorded"
    if cell.result in TURNED_AWAY:
        return "refused"
    if cell.result in (Result.CREATED, Result.REPLAYED):
        return "the job"
    return f"**{cell.after}**"


if __name__ == "__main__":
    sys.stdout.write(page().rstrip("\n") + "\n")
