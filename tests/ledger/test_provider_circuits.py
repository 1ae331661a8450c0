"""The circuit breaker of a provider, and pauses by hand."""

from __future__ import annotations

from orchestrator.jobs.model import SettledBy, Step
from orchestrator.ledger import (
    Lease,
    Ledger,
    ProviderLimits,
    ProviderSign,
    Waiting,
    WaitReason,
)
from orchestrator.ledger.admission import CircuitState, ProviderState
from tests.ledger import kit
from tests.ledger.conftest import MakeLedger
from tests.ledger.kit import DEADLINE, FAILURE, LEASE, NEXT_DUE, NOW, REQUEST
from tests.ledger.test_admission import (
    BUSY,
    DOWN,
    FAILURES_TO_OPEN,
    MAX_OPEN_MS,
    MIN_FAILING_MS,
    OPEN_MS,
    ask,
    refuse,
    start,
    state,
)


def fail(ledger: Ledger, times: int, *, now: int, every: int = 0) -> None:
    for number in range(times):
        [lease] = start(ledger, 1, now=now + number * every)
        refuse(ledger, lease, ProviderSign.FAILED, DOWN, now + number * every)
        ledger.cancel(lease.job.id, now=now)


def open_circuit(ledger: Ledger) -> int:
    """Let the provider fail until its circuit is open. Return when."""
    fail(ledger, FAILURES_TO_OPEN, now=NOW, every=MIN_FAILING_MS // (FAILURES_TO_OPEN - 1))
    return NOW + MIN_FAILING_MS


def test_the_circuit_opens_after_failures_in_a_row_over_some_time(ledger: Ledger) -> None:
    fail(ledger, FAILURES_TO_OPEN * 2, now=NOW)
    assert state(ledger).circuit is CircuitState.CLOSED

    fail(ledger, 1, now=NOW + MIN_FAILING_MS)

    now = NOW + MIN_FAILING_MS
    assert state(ledger, now) == ProviderState(
        "hiapi", CircuitState.OPEN, until=now + OPEN_MS, reason=DOWN
    )
    assert ask(ledger, kit.create(ledger, now=now), now=now) == Waiting(
        WaitReason.CIRCUIT_OPEN, now + OPEN_MS
    )
    assert ledger.agenda.due(0, now=now, limit=9) == []


def test_an_answer_ends_the_row_of_failures(ledger: Ledger) -> None:
    fail(ledger, FAILURES_TO_OPEN - 1, now=NOW)
    [lease] = start(ledger, 1)
    ledger.accepted(lease.job.id, 1, "task-1", now=NOW, due_at=NEXT_DUE)
    fail(ledger, FAILURES_TO_OPEN - 1, now=NOW + MIN_FAILING_MS)

    assert state(ledger, NOW + MIN_FAILING_MS).circuit is CircuitState.CLOSED


def test_after_a_while_one_job_probes_and_its_success_closes_the_circuit(ledger: Ledger) -> None:
    now = open_circuit(ledger) + OPEN_MS
    for _ in range(5):
        kit.create(ledger, now=now)

    assert len(ledger.agenda.due(0, now=now, limit=9)) == 1
    [probe] = start(ledger, 2, now=now)
    assert state(ledger, now).circuit is CircuitState.HALF_OPEN
    assert ledger.agenda.due(0, now=now, limit=9) == []
    ledger.accepted(probe.job.id, 1, "task-1", now=now, due_at=DEADLINE)

    assert state(ledger, now).circuit is CircuitState.CLOSED
    assert len(start(ledger, 2, now=now)) == 2


def test_a_failed_probe_opens_the_circuit_for_longer(ledger: Ledger) -> None:
    now, waits = open_circuit(ledger), []
    for _ in range(6):
        until = state(ledger, now).until
        assert until
        waits.append(until - now)
        now = until
        fail(ledger, 1, now=now)

    assert waits == [OPEN_MS * 2**n for n in range(4)] + [MAX_OPEN_MS] * 2


def test_a_probe_whose_worker_died_is_followed_by_another(ledger: Ledger) -> None:
    now = open_circuit(ledger) + OPEN_MS
    start(ledger, 1, now=now)

    assert start(ledger, 1, now=now + LEASE - 1) == []
    assert len(start(ledger, 1, now=now + LEASE)) == 1


def test_a_held_provider_waits_and_is_probed(ledger: Ledger) -> None:
    job_id = kit.create(ledger)
    kit.pause(ledger, Step.SUBMIT)
    ledger.admission.hold("hiapi", Step.SUBMIT, BUSY, now=NOW, ends_at=NOW + 1)

    ends = NOW + kit.PAUSE_MS
    assert ask(ledger, job_id) == Waiting(WaitReason.CIRCUIT_OPEN, ends)
    assert len(start(ledger, 2, now=ends)) == 1


def test_a_job_that_cannot_wait_for_the_end_is_tried_once_when_half_of_its_time_is_over(
    ledger: Ledger,
) -> None:
    job_id, half = kit.create(ledger), (NOW + DEADLINE) // 2
    ledger.admission.hold("hiapi", Step.SUBMIT, BUSY, now=NOW, ends_at=DEADLINE)

    assert isinstance(ask(ledger, job_id, now=half - 1), Waiting)
    assert ledger.agenda.due(0, now=half - 1, limit=9) == []
    assert ledger.agenda.due(0, now=half, limit=9) == [(job_id, Step.SUBMIT)]
    lease = kit.claim(ledger, job_id, now=half)
    refuse(ledger, lease, ProviderSign.ANSWERED, BUSY, half)
    assert ledger.agenda.due(0, now=half, limit=9) == []


def test_a_job_that_waits_for_a_place_is_not_tried_without_one(limited: MakeLedger) -> None:
    ledger, half = limited(ProviderLimits(max_in_flight=1)), (NOW + DEADLINE) // 2
    start(ledger, 1)
    job_id = kit.create(ledger)

    assert isinstance(ask(ledger, job_id, now=half), Waiting)
    assert (job_id, Step.SUBMIT) not in ledger.agenda.due(0, now=half, limit=9)


def test_an_unconfirmed_job_ends_at_its_deadline_while_its_provider_is_paused(
    ledger: Ledger,
) -> None:
    [lease] = start(ledger, 1)
    kit.unconfirmed(ledger, lease, due_at=NOW)
    ledger.admission.pause("hiapi", by="tests", now=NOW)

    assert ledger.agenda.due(0, now=DEADLINE - 1, limit=9) == []
    assert ledger.agenda.due(0, now=DEADLINE, limit=9) == [(lease.job.id, Step.SUBMIT)]
    assert kit.claim(ledger, lease.job.id, now=DEADLINE)


def test_a_job_that_ends_at_its_deadline_does_not_probe(ledger: Ledger) -> None:
    [lease] = start(ledger, 1)
    kit.unconfirmed(ledger, lease, due_at=NOW)
    ledger.admission.hold("hiapi", Step.SUBMIT, BUSY, now=NOW, ends_at=DEADLINE)

    kit.claim(ledger, lease.job.id, now=DEADLINE)

    late = ledger.create(REQUEST, now=DEADLINE, deadline_at=DEADLINE * 2).job_id
    assert isinstance(ask(ledger, late, now=DEADLINE), Lease)


def test_a_probe_that_ends_without_an_answer_lets_another_job_probe(ledger: Ledger) -> None:
    [lease] = start(ledger, 1)
    kit.unconfirmed(ledger, lease, due_at=NOW)
    ledger.admission.hold("hiapi", Step.SUBMIT, BUSY, now=NOW, ends_at=NOW + 1)
    probe = kit.claim(ledger, lease.job.id, now=NOW + 1)

    assert start(ledger, 1, now=NOW + 1) == []
    ledger.settle(probe, FAILURE, SettledBy.DEADLINE, now=NOW + 1)

    assert len(start(ledger, 1, now=NOW + 1)) == 1


def test_one_job_that_fails_again_and_again_does_not_open_the_circuit(ledger: Ledger) -> None:
    [lease] = start(ledger, 1)
    for number in range(FAILURES_TO_OPEN * 2):
        now = NOW + number * MIN_FAILING_MS
        ledger.unconfirmed(lease, now=now, due_at=now, tries=1, reason="odd", failure=DOWN)
        lease = kit.claim(ledger, lease.job.id, now=now)

    assert state(ledger, now).circuit is CircuitState.CLOSED


# By hand ------------------------------------------------------------------------------------


def test_a_provider_is_paused_until_it_is_resumed(ledger: Ledger) -> None:
    running = kit.running(ledger, due_at=NOW)
    job_id = kit.create(ledger)
    ledger.admission.pause("hiapi", by="ops", now=NOW, reason="maintenance")

    assert ask(ledger, job_id) == Waiting(WaitReason.PAUSED, None)
    assert (state(ledger).circuit, state(ledger).paused_by) == (CircuitState.PAUSED, "ops")
    assert ledger.agenda.due(0, now=NOW, limit=9) == [(running, Step.POLL)]
    assert ledger.cancel(kit.create(ledger), now=NOW).result == "cancelled"

    ledger.admission.resume("hiapi", now=NOW)
    assert isinstance(ask(ledger, job_id), Lease)
    assert state(ledger).circuit is CircuitState.CLOSED


def test_resume_closes_an_open_circuit(ledger: Ledger) -> None:
    now = open_circuit(ledger)

    ledger.admission.resume("hiapi", now=NOW)

    assert len(start(ledger, 3, now=now)) == 3
