"""The state of the history, and what differs from the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from orchestrator.history import Query
from orchestrator.history.history import History
from orchestrator.history.recorder import Recorder
from orchestrator.history.writer import Writer
from orchestrator.ledger import identifiers, keys
from orchestrator.operations.doctor import check_history
from orchestrator.operations.history_state import HistoryState, history_report
from orchestrator.operations.verify import Verification
from orchestrator.steps.prune import prune
from tests.support import job_states
from tests.support.fakes import NOON, Harness


@dataclass
class Recorded:
    """A harness with a history and its recorder."""

    harness: Harness
    recorder: Recorder

    @property
    def history(self) -> History:
        return self.harness.runtime.history

    def record(self) -> None:
        for _ in range(4):
            self.recorder.record()

    def state(self, *, later: float = 0) -> HistoryState:
        now = self.harness.ledger.installation.time() + int(later * 1000)
        return history_report(self.harness.ledger, self.history, now=now).state

    def found(self) -> list[str] | None:
        """Return the differences that `verify` finds; None: it did not look."""
        verification = Verification(self.harness.runtime)
        list(verification.run())
        reports = {report.name: report for report in verification.reports()}
        return reports["recorded"].breaches if "recorded" in reports else None


@pytest.fixture
def recorded(start: Callable[..., Harness], tmp_path: Path) -> Iterator[Recorded]:
    history = History(f"sqlite:///{tmp_path}/history/history.db")
    made = start()
    harness = made.with_runtime(
        open_history=lambda: history,
        sleep=lambda _: None,
        clock=made.ledger.installation.time,  # the entries of a stream have the time of the server
    )
    yield Recorded(harness, Recorder(harness.ledger, history, harness.runtime.clock))
    history.close()


def test_each_state_is_told_and_the_doctor_names_the_next_step(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, history = recorded.harness.ledger, recorded.history

    def told() -> tuple[HistoryState, str]:
        return recorded.state(), check_history(ledger, history).mark

    assert told() == (HistoryState.ABSENT, "warning")
    recorded.recorder.record()
    assert told() == (HistoryState.FILLING, "warning")
    recorded.record()
    assert told() == (HistoryState.CURRENT, "ok")
    recorded.harness.enqueue()
    assert recorded.state(later=5) is HistoryState.CURRENT
    assert recorded.state(later=20) is HistoryState.BEHIND
    recorded.harness.redis.xtrim(keys.changes(0), maxlen=0, approximate=False)
    assert told() == (HistoryState.FILLING, "warning")
    with monkeypatch.context() as away:
        away.setattr(history.database, "_retry_at", inf)
        assert told() == (HistoryState.AWAY, "wrong")


def test_verify_compares_the_history_with_the_ledger(recorded: Recorded) -> None:
    job_states.cancelled(recorded.harness)
    bad, missing = recorded.harness.enqueue(), recorded.harness.enqueue()
    assert recorded.found() is None, "no recorder has run"
    recorded.record()
    assert recorded.found() == []

    entries = recorded.history.entries([bad, missing])
    lost = replace(entries[bad].stored, id=identifiers.new_job_id(0, NOON))
    with recorded.history.writing(Writer()) as batch:
        batch.remove([missing])
        batch.put([replace(entries[bad], stored=replace(entries[bad].stored, events=()))])
        other = type(entries[bad]).of(lost)
        batch.put([other])

    assert recorded.found() == [
        f"{bad} differs in the history",
        f"{missing} differs in the history",
        f"{lost.id} is open in the history only",
    ]


def test_verify_tells_each_job_in_both_phases(recorded: Recorded) -> None:
    jobs = sorted(recorded.harness.enqueue() for _ in range(3))
    recorded.record()
    verification = Verification(recorded.harness.runtime)

    told = [(verification.phase, job_id) for job_id in verification.run()]

    phases = "checking jobs", "comparing jobs with the history"
    assert told == [(phase, job_id) for phase in phases for job_id in jobs]


def test_a_lease_is_no_difference(recorded: Recorded) -> None:
    job_id = job_states.submitting(recorded.harness).job.id
    recorded.record()
    with recorded.history.writing(Writer()) as batch:  # as an older version wrote it
        [entry] = recorded.history.entries([job_id]).values()
        fields = {**entry.stored.fields, "lease": "a token"}
        batch.put([replace(entry, stored=replace(entry.stored, fields=fields))])

    assert recorded.found() == []


def test_the_order_of_the_fields_is_no_difference(recorded: Recorded) -> None:
    job_id = recorded.harness.enqueue()
    recorded.record()
    key, redis = keys.job(job_id), recorded.harness.redis
    fields: Any = redis.hgetall(key)
    redis.delete(key)  # as Redis reads its file again: the same fields, in another order
    redis.hset(key, mapping=dict(sorted(fields.items(), reverse=True)))

    assert recorded.found() == []


def test_prune_deletes_old_jobs_of_the_history(recorded: Recorded) -> None:
    harness = recorded.harness
    job_states.cancelled(harness)
    kept = harness.enqueue()
    recorded.record()
    now = harness.ledger.installation.time()
    late = replace(recorded.harness.runtime, clock=lambda: now + 400 * 86_400_000)

    prune(late, dry_run=True)
    assert len(ids(recorded.history)) == 2
    prune(late)

    assert ids(recorded.history) == [kept]


def ids(history: History) -> list[str]:
    return history.find(Query(), limit=9).ids
