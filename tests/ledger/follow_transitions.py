"""The transition table of follow-ups: every state of a follow-up, and every action on it.

A cell has the result. After `>` it has the new state of the follow-up. Without `>` the state does
not change. The columns are the states of a notification. An archive has the same states without
`gone`. `notify again` applies to notifications only, `archive again` to archives only:

- none: the job existed and has expired
- silent: the job failed, and its request asks for no notification
- waiting: the job has no outcome yet
- pending: it waits for another try, after one failed try
- leased: a worker holds the lease. It is due when the lease ends
- done: it succeeded
- dead: it failed for good
- gone: the receiver refused it for good

`own lease` is the last lease on the follow-up. `old` is a job that was settled before the given
time. docs/states.md shows this table too. transitions.py generates that page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from orchestrator.ledger import Result

TABLE = """
action             | none    | silent         | waiting | pending        | leased
claim, due         | missing | not_due        | not_due | claimed>leased | claimed
claim, not due     | missing | not_due        | not_due | not_due        | not_due
later, own lease   | missing | stale          | stale   | stale          | recorded>pending
later, wrong lease | missing | stale          | stale   | stale          | stale
done, own lease    | missing | stale          | stale   | stale          | recorded>done
done, wrong lease  | missing | stale          | stale   | stale          | stale
dead, own lease    | missing | stale          | stale   | stale          | recorded>dead
gone, own lease    | missing | stale          | stale   | stale          | recorded>gone
notify again       | missing | silent         | open    | recorded       | recorded
archive again      | missing | silent         | open    | recorded       | recorded
forget, old        | missing | forgotten>none | kept    | kept           | kept
forget, young      | missing | kept           | kept    | kept           | kept

action             | done             | dead             | gone
claim, due         | not_due          | not_due          | not_due
claim, not due     | not_due          | not_due          | not_due
later, own lease   | stale            | stale            | stale
later, wrong lease | stale            | stale            | stale
done, own lease    | stale            | stale            | stale
done, wrong lease  | stale            | stale            | stale
dead, own lease    | stale            | stale            | stale
gone, own lease    | stale            | stale            | stale
notify again       | recorded>pending | recorded>pending | recorded>pending
archive again      | silent           | recorded>pending | silent
forget, old        | forgotten>none   | forgotten>none   | forgotten>none
forget, young      | kept             | kept             | kept
"""


class FollowUpTransition(NamedTuple):
    """One cell of the table: the effect of an action in one state."""

    state: str
    action: str
    result: Result
    after: str


def transitions() -> list[FollowUpTransition]:
    """Return all cells of the table."""
    cells = []
    for block in TABLE.strip().split("\n\n"):
        head, *rows = ([text.strip() for text in line.split("|")] for line in block.splitlines())
        for action, *entries in rows:
            for state, entry in zip(head[1:], entries, strict=True):
                result, _, after = entry.partition(">")
                cells.append(FollowUpTransition(state, action, Result(result), after or state))
    return cells


# The page for users ------------------------------------------------------------------------

#: The name of each state on the page.
ROWS: Mapping[str, str] = {
    "waiting": "waiting for the outcome",
    "pending": "pending",
    "leased": "leased",
    "done": "done",
    "dead": "dead",
    "gone": "gone",
    "silent": "no notification requested",
    "none": "no such job",
}

#: The name of each action on the page.
COLUMNS: Mapping[str, str] = {
    "claim, due": "claim, due",
    "claim, not due": "claim, not due",
    "later, own lease": "try failed",
    "done, own lease": "try succeeded",
    "dead, own lease": "last try failed",
    "gone, own lease": "refused with 410",
    "later, wrong lease": "try failed, lease lost",
    "done, wrong lease": "try succeeded, lease lost",
    "notify again": "notify again",
    "archive again": "archive again",
    "forget, old": "forget an old job",
    "forget, young": "forget a young job",
}

INTRODUCTION = """\
## Follow-ups of an outcome

This table shows the states of a notification. An archive has the same states without *gone*.
*Notify again* applies to notifications only, and *archive again* to archives only. No event here
changes the status or the outcome of the job. A job with a pending follow-up does not expire, and it
cannot be forgotten.
"""

#: Actions that take effect although the state does not change.
EFFECTIVE = frozenset(
    {("claim, due", "leased"), ("notify again", "pending"), ("archive again", "pending")}
)


def section() -> Iterator[str]:
    """Yield the section of docs/states.md, line by line."""
    cells = {(cell.state, cell.action): cell for cell in transitions()}
    yield INTRODUCTION
    yield f"| state | {' | '.join(COLUMNS.values())} |"
    yield f"| --- |{' --- |' * len(COLUMNS)}"
    for state, name in ROWS.items():
        entries = " | ".join(_entry(cells[state, action]) for action in COLUMNS)
        yield f"| {name} | {entries} |"
    yield ""


def _entry(cell: FollowUpTransition) -> str:
    if cell.after != cell.state or (cell.action, cell.state) in EFFECTIVE:
        return f"**{ROWS[cell.after]}**" if cell.after != "none" else "**forgotten**"
    return "no change" if cell.result is Result.RECORDED else "refused"
