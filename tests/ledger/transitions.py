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
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.jobs import Status
from orchestrator.ledger import Result

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
