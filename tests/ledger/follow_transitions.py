"""The second transition table: what follows from an outcome, and every move that can be made.

A cell is the result, and after `>` the state that the follow-up has then; without `>` it stays. The
columns are those of a notification; an archive is the same, without `gone`, and nobody asks for it
again:

- none: there was such a job, and it has expired
- silent: the job failed, and its caller named no way to be told
- waiting: the job has no outcome yet
- pending: due, after a try that failed
- leased: in the hands of a worker; `due` is when its lease has run out
- done, dead, gone: told, given up, not wanted

`own lease` is the one last held on the follow-up. `old` is a job settled before the time that is
asked for. docs/states.md has this table too, as `transitions` makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from orchestrator.ledger import Result

TABLE = """
move               | none    | silent         | waiting | pending        | leased
claim, due         | missing | not_due        | not_due | claimed>leased | claimed
claim, not due     | missing | not_due        | not_due | not_due        | not_due
later, own lease   | missing | stale          | stale   | stale          | recorded>pending
later, wrong lease | missing | stale          | stale   | stale          | stale
done, own lease    | missing | stale          | stale   | stale          | recorded>done
done, wrong lease  | missing | stale          | stale   | stale          | stale
given up, own lease| missing | stale          | stale   | stale          | recorded>dead
refused, own lease | missing | stale          | stale   | stale          | recorded>gone
notify again       | missing | silent         | open    | recorded       | recorded
forget, old        | missing | forgotten>none | kept    | kept           | kept
forget, young      | missing | kept           | kept    | kept           | kept

move               | done             | dead             | gone
claim, due         | not_due          | not_due          | not_due
claim, not due     | not_due          | not_due          | not_due
later, own lease   | stale            | stale            | stale
later, wrong lease | stale            | stale            | stale
done, own lease    | stale            | stale            | stale
done, wrong lease  | stale            | stale            | stale
given up, own lease| stale            | stale            | stale
refused, own lease | stale            | stale            | stale
notify again       | recorded>pending | recorded>pending | recorded>pending
forget, old        | forgotten>none   | forgotten>none   | forgotten>none
forget, young      | kept             | kept             | kept
"""


class Cell(NamedTuple):
    """What a move comes to in one state of a follow-up."""

    state: str
    move: str
    result: Result
    after: str


def cells() -> list[Cell]:
    """The table, one cell after the other."""
    found = []
    for block in TABLE.strip().split("\n\n"):
        head, *rows = ([text.strip() for text in line.split("|")] for line in block.splitlines())
        for move, *entries in rows:
            for state, entry in zip(head[1:], entries, strict=True):
                result, _, after = entry.partition(">")
                found.append(Cell(state, move, Result(result), after or state))
    return found


# The page for users ------------------------------------------------------------------------

#: Each state in words.
ROWS: Mapping[str, str] = {
    "waiting": "waiting for the outcome",
    "pending": "pending",
    "leased": "in a worker's hands",
    "done": "done",
    "dead": "dead",
    "gone": "gone",
    "silent": "caller not to be told",
    "none": "no such job",
}

#: Each move in words.
COLUMNS: Mapping[str, str] = {
    "claim, due": "taken when due",
    "claim, not due": "taken when not due",
    "later, own lease": "a try failed",
    "done, own lease": "it is done",
    "given up, own lease": "given up",
    "refused, own lease": "refused with 410",
    "later, wrong lease": "a try failed, lease lost",
    "done, wrong lease": "done, lease lost",
    "notify again": "notify again",
    "forget, old": "forget, old",
    "forget, young": "forget, young",
}

INTRODUCTION = """\
## What follows from the outcome

The notification of a caller, in each of its states; no event here changes the job's status or its
outcome. The archive of a success goes the same way, without *gone* and *notify again*. A job of
which anything is pending does not expire and is not forgotten.
"""

#: What a move that leaves a follow-up as it is still did.
MADE = frozenset({("claim, due", "leased"), ("notify again", "pending")})


def section() -> Iterator[str]:
    """The table for users, as lines of Markdown."""
    found = {(cell.state, cell.move): cell for cell in cells()}
    yield INTRODUCTION
    yield f"| state | {' | '.join(COLUMNS.values())} |"
    yield f"| --- |{' --- |' * len(COLUMNS)}"
    for state, words in ROWS.items():
        yield f"| {words} | {' | '.join(_told(found[state, move]) for move in COLUMNS)} |"
    yield ""


def _told(cell: Cell) -> str:
    if cell.after != cell.state or (cell.move, cell.state) in MADE:
        return f"**{ROWS[cell.after]}**" if cell.after != "none" else "**forgotten**"
    return "as it is" if cell.result is Result.RECORDED else "refused"
