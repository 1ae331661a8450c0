"""Verify finds each broken invariant, names whose it is, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.history.history import History
from orchestrator.jobs.model import FollowUpStatus, Status, Step
from orchestrator.ledger import Ledger, changes, identifiers, keys
from orchestrator.operations import history_state, invariants, verify
from orchestrator.operations.invariants import INVARIANTS, InvariantReport, reports_view
from orchestrator.operations.verify import Charge, Verification
from tests.history.kit import started
from tests.ledger import kit
from tests.ledger.breaks import BREAKS, PopulatedLedger, not_notified, set_archive_status
from tests.support import job_states
from tests.support.fakes import Harness
from tests.support.job_states import task_of
from tests.support.providers import POLLED_WITHOUT_KEYS

#: Invariants that are checked only if they are asked for, or can be.
ON_DEMAND = {"charged", "paid_once", "stored", "recorded"}


def checked(
    harness: Harness, charges: list[Charge] | None = None, *, images: bool = False
) -> dict[str, InvariantReport]:
    verification = Verification(harness.runtime, charges, images=images)
    for _ in verification.run():
        pass
    return {found.name: found for found in verification.reports()}


def broken(harness: Harness, charges: list[Charge] | None = None) -> dict[str, list[str]]:
    """Each invariant that does not hold, and what breaks it."""
    found = checked(harness, charges)
    return {name: finding.breaches for name, finding in found.items() if finding.breaches}


def populate(here: Harness) -> PopulatedLedger:
    """Create jobs in every state."""
    for _ in range(5):
        job_states.ended(here)
        job_states.running(here, "evolink")
    return PopulatedLedger(
        here,
        submitting=job_states.submitting(here).job.id,
        unconfirmed=job_states.unconfirmed(here),
        given_up=job_states.given_up(here),
        resubmitted=job_states.resubmitted(here).job.id,
        running=job_states.running(here),
        succeeded=job_states.ended(here),
        failed=job_states.ended(here, job_states.failure()),
        cancelled=job_states.cancelled(here),
        to_follow=kit.settled(here.ledger),
        archived=kit.finished(here.ledger),
        not_notified=not_notified(here.ledger),
        # The last ones, because a claim takes any queued job whose tenant has the turn.
        queued=here.enqueue(),
        waiting=kit.create(here.ledger, kit.NOTIFYING),
    )


@pytest.fixture(scope="module")
def made() -> dict[int, tuple[PopulatedLedger, dict[str, Any]]]:
    """Populated ledgers and the contents of their Redis, by number of shards."""
    return {}


@pytest.fixture
def populated(
    harness: Harness,
    request: pytest.FixtureRequest,
    made: dict[int, tuple[PopulatedLedger, dict[str, Any]]],
) -> PopulatedLedger:
    """A ledger with jobs in every state. It is populated once, and copied for each test."""
    shards, redis = getattr(request, "param", 3), harness.redis
    here = harness.on(Ledger(lambda: redis, shards=shards))
    if shards not in made:
        ledger = populate(here)
        contents = {key: (redis.pttl(key), redis.dump(key)) for key in kit.every_key(redis)}
        made[shards] = ledger, contents
        return ledger
    ledger, contents = made[shards]
    with redis.pipeline(transaction=False) as pipe:
        for key, (ttl_ms, value) in contents.items():
            pipe.restore(key, max(ttl_ms, 0), value or b"")
        pipe.execute()
    return replace(ledger, harness=here)


# All is well -------------------------------------------------------------------------------


@pytest.mark.parametrize("populated", [1, 3], indirect=True)
def test_a_busy_ledger_breaks_nothing_and_everything_was_looked_at(
    populated: PopulatedLedger,
) -> None:
    found = checked(populated.harness)

    assert {name: finding.breaches for name, finding in found.items()} == {
        name: [] for name in INVARIANTS if name not in ON_DEMAND
    }
    assert found["one_place"].checked == found["one_outcome"].checked == 23
    assert found["told"].checked == 12
    assert found["listed"].checked == 11
    assert found["not_overdue"].checked == 11 + 8, "open jobs, and follow-ups that are pending"
    assert found["followed"].checked == 3 * 23
    assert found["kept"].checked == 9
    assert found["one_task"].checked == 16
    assert found["unconfirmed"].checked == 3
    assert found["counted"].checked == 4 * populated.harness.ledger.shards


def test_an_empty_ledger_breaks_nothing(harness: Harness) -> None:
    assert broken(harness, []) == {}


def test_every_job_is_told_as_it_is_looked_at(populated: PopulatedLedger) -> None:
    seen = list(Verification(populated.harness.runtime).run())

    assert len(seen) == len(set(seen)) == populated.harness.ledger.overview.size()


def test_verifying_changes_nothing(populated: PopulatedLedger) -> None:
    redis = populated.harness.redis
    before = kit.state(redis), kit.timelines(redis), redis.hgetall(keys.counts(0))

    checked(populated.harness, populated.charges)

    assert (kit.state(redis), kit.timelines(redis), redis.hgetall(keys.counts(0))) == before


def test_jobs_of_an_older_version_break_nothing(harness: Harness) -> None:
    jobs = harness.enqueue(), job_states.running(harness)
    kit.make_old(harness.redis, *jobs)

    assert broken(harness) == {}
    harness.ledger.agenda.due(0, now=harness.clock.now, limit=10)
    assert broken(harness) == {}


def test_an_expired_job_breaks_nothing(populated: PopulatedLedger) -> None:
    for job_id in (populated.archived, populated.not_notified, populated.given_up):
        populated.harness.redis.delete(keys.job(job_id), keys.events(job_id))

    assert broken(populated.harness) == {}


# Each invariant, broken by hand ------------------------------------------------------------


@pytest.mark.parametrize(("name", "break_"), BREAKS)
def test_a_broken_invariant_is_named_with_whose_it_is_and_nothing_else_is(
    populated: PopulatedLedger, name: str, break_: Callable[[PopulatedLedger], list[str]]
) -> None:
    whose = break_(populated)

    assert broken(populated.harness) == {name: whose}


def test_every_invariant_is_broken_here() -> None:
    assert {name for name, _ in BREAKS} | ON_DEMAND == set(INVARIANTS)


def test_a_status_changed_by_hand_is_two_wrong_counts(populated: PopulatedLedger) -> None:
    populated.harness.redis.hset(keys.job(populated.queued), "status", Status.RUNNING)

    breaches = broken(populated.harness)["counted"]

    assert [line.split(": ")[1].split(" ")[1] for line in breaches] == ["queued", "running"]


def test_an_archive_that_is_given_up_and_says_why_is_no_breach_though_it_has_a_copy(
    populated: PopulatedLedger,
) -> None:
    assert set_archive_status(FollowUpStatus.DEAD)(populated)

    assert broken(populated.harness) == {}


def test_a_follow_up_that_is_another_workers_is_overdue_only_after_its_lease(
    populated: PopulatedLedger,
) -> None:
    populated.harness.clock.now += 1
    lease = kit.claim_follow_up(
        populated.harness.ledger, populated.to_follow, Step.ARCHIVE, now=populated.harness.clock.now
    )
    late = {f"{populated.to_follow} {Step.ARCHIVE}"}

    populated.harness.clock.now = lease.ends_at + invariants.MAX_OVERDUE_MS
    assert not late & set(broken(populated.harness)["not_overdue"])
    populated.harness.clock.now += 1
    assert late <= set(broken(populated.harness)["not_overdue"])


def test_a_look_that_is_overdue_by_less_is_no_breach(populated: PopulatedLedger) -> None:
    populated.harness.clock.now += invariants.MAX_OVERDUE_MS

    assert broken(populated.harness) == {}


# What the providers charged ----------------------------------------------------------------


def test_charges_that_belong_to_attempts_or_are_at_risk_break_nothing(
    populated: PopulatedLedger,
) -> None:
    found = checked(populated.harness, populated.charges)

    assert {name: finding.breaches for name, finding in found.items()} == {
        name: [] for name in INVARIANTS if name not in ("stored", "recorded")
    }
    assert found["charged"].checked == 8
    assert found["paid_once"].checked == 7


def test_a_task_that_no_attempt_knows_is_named(populated: PopulatedLedger) -> None:
    unknown = Charge("evolink", "task-unknown")

    assert broken(populated.harness, [*populated.charges, unknown]) == {
        "charged": ["evolink task-unknown"]
    }


def test_a_task_of_another_provider_is_not_known_by_its_id_alone(
    populated: PopulatedLedger,
) -> None:
    task = task_of(populated.running)

    assert broken(populated.harness, [Charge("evolink", task)]) == {"charged": [f"evolink {task}"]}


def test_no_more_tasks_are_at_risk_than_attempts_of_unknown_fate(harness: Harness) -> None:
    job_states.unconfirmed(harness, POLLED_WITHOUT_KEYS)
    charges = [Charge(POLLED_WITHOUT_KEYS, "one"), Charge(POLLED_WITHOUT_KEYS, "two")]

    assert broken(harness, charges[:1]) == {}
    assert broken(harness, charges) == {"charged": [f"{POLLED_WITHOUT_KEYS} two"]}


def test_a_job_that_was_charged_twice_is_named(populated: PopulatedLedger) -> None:
    twice = Charge("hiapi", "task-2", populated.unconfirmed)
    job_states.unconfirmed(populated.harness)  # its task was never made: no task is unaccounted for

    assert broken(populated.harness, [*populated.charges, twice]) == {
        "paid_once": [populated.unconfirmed]
    }


def test_a_resubmitted_job_may_be_charged_twice_but_not_three_times(harness: Harness) -> None:
    lease = job_states.resubmitted(harness)
    job_id, now = lease.job.id, harness.clock.now
    harness.ledger.accepted(job_id, 2, "task-2", now=now, due_at=now)
    charges = [Charge("hiapi", "task-2"), Charge("hiapi", "task-1", job_id)]
    job_states.unconfirmed(harness)

    assert broken(harness, charges) == {}
    third = Charge("hiapi", "task-0", job_id)
    assert broken(harness, [*charges, third]) == {"paid_once": [job_id]}


# What the archive has ----------------------------------------------------------------------


def test_archived_images_that_are_not_in_the_storage_are_named(populated: PopulatedLedger) -> None:
    found = checked(populated.harness, images=True)

    [breach] = found["stored"].breaches
    assert f"{populated.archived}: {kit.COPY.path}" in breach
    assert found["stored"].checked == 1, "only what is said to be archived"
    assert [name for name, one in found.items() if one.breaches] == ["stored"]


def test_archived_images_that_are_there_break_nothing(
    populated: PopulatedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "faults", lambda storage, job: [])

    found = checked(populated.harness, images=True)["stored"]

    assert (found.checked, found.breaches) == (1, [])


# Beside everything else --------------------------------------------------------------------


def test_an_attempt_on_its_way_may_be_charged_already(harness: Harness) -> None:
    lease = job_states.submitting(harness)

    assert broken(harness, [Charge("hiapi", "task-1", lease.job.id)]) == {}


def test_an_attempt_that_becomes_known_while_we_look_is_no_breach(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, now = job_states.unconfirmed(harness), harness.clock.now
    look = harness.ledger.overview.unconfirmed

    def then_accepted(limit: int) -> object:
        found = look(limit)
        harness.ledger.accepted(job_id, 1, "task-1", now=now, due_at=now)
        return found

    monkeypatch.setattr(harness.ledger.overview, "unconfirmed", then_accepted)

    assert broken(harness, [Charge("hiapi", "task-1", job_id)]) == {}


def test_counts_are_not_compared_where_jobs_moved_while_we_looked(harness: Harness) -> None:
    first, second = sorted(harness.enqueue() for _ in range(2))
    verification = Verification(harness.runtime)
    looking = iter(verification.run())
    next(looking)

    job_states.claimed(harness, first)  # seen as queued
    job_states.claimed(harness, second)
    list(looking)

    found = {finding.name: finding for finding in verification.reports()}
    assert found["counted"].checked == 0
    assert [name for name, finding in found.items() if finding.breaches] == []


# What is shown -----------------------------------------------------------------------------


def test_the_view_is_ok_only_if_nothing_is_broken(harness: Harness) -> None:
    good, bad = InvariantReport("told"), InvariantReport("counted")
    good.check(True, "job_a")
    bad.check(True, "job_a")
    bad.check(False, "job_b")

    assert reports_view([good]) == {
        "ok": True,
        "invariants": [
            {
                "name": "told",
                "meaning": INVARIANTS["told"],
                "looked_at": 1,
                "broken": 0,
                "breaches": [],
            }
        ],
    }
    assert reports_view([good, bad])["ok"] is False
    assert reports_view([good, bad])["invariants"][1]["breaches"] == ["job_b"]
    assert reports_view([good, bad])["invariants"][1]["looked_at"] == 2


def test_a_job_that_waits_for_its_provider_is_not_overdue(harness: Harness) -> None:
    job_id = harness.enqueue()
    harness.clock.now += invariants.MAX_OVERDUE_MS + 1
    assert broken(harness) == {"not_overdue": [job_id]}

    harness.ledger.admission.pause("hiapi", by="tests", now=harness.clock())

    assert broken(harness) == {}


def test_only_jobs_that_a_provider_keeps_waiting_are_not_overdue(harness: Harness) -> None:
    running, unconfirmed = job_states.running(harness), job_states.unconfirmed(harness)
    submitting = job_states.submitting(harness).job.id
    queued, elsewhere = harness.enqueue(), harness.enqueue("evolink")
    harness.ledger.admission.pause("hiapi", by="tests", now=harness.clock())
    now = harness.clock() - invariants.MAX_OVERDUE_MS - 1
    for job_id in (queued, elsewhere, running, unconfirmed, submitting):
        harness.redis.zadd(keys.agenda(identifiers.shard_of(job_id)), {job_id: now})

    found = broken(harness)
    assert list(found) == ["not_overdue"]
    assert set(found["not_overdue"]) == {elsewhere, running, submitting}


def test_breaches_beyond_the_first_ones_are_counted(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invariants, "MAX_NAMED", 2)
    monkeypatch.setattr(verify, "OVERDUE_JOBS", 2)
    job_ids = {harness.enqueue() for _ in range(5)}
    harness.clock.now += invariants.MAX_OVERDUE_MS + 1

    overdue = checked(harness)["not_overdue"]

    assert (overdue.checked, overdue.broken, len(overdue.breaches)) == (5, 5, 2)
    assert set(overdue.breaches) < job_ids


def test_jobs_that_cannot_be_read_hide_no_other_breach(
    populated: PopulatedLedger, tmp_path: Path
) -> None:
    history = History(f"sqlite:///{tmp_path}/history.db")
    started(populated.harness.ledger, history)
    harness = populated.harness.with_runtime(open_history=lambda: history, sleep=lambda _: None)
    redis = harness.redis
    assert checked(harness)["recorded"].checked
    redis.hset(keys.job(populated.running), "provider", b"\xff")
    redis.hset(keys.job(populated.unconfirmed), "cost", "{")
    redis.delete(keys.job(populated.queued))
    redis.set(keys.job(populated.queued), "a text")
    redis.zadd(keys.jobs(0), {"job of mine": 0})
    redis.hset(keys.job(populated.failed), "error", "")

    found = checked(harness, populated.charges)

    unreadable = [populated.running, populated.unconfirmed, populated.queued, "job of mine"]
    named = found["readable"].breaches
    assert len(named) == found["readable"].broken == 4
    assert {job_id for job_id in unreadable if any(job_id in text for text in named)} == {
        *unreadable
    }
    assert found["told"].breaches == [populated.failed]
    assert set(found["recorded"].breaches) == {
        f"{job_id} differs in the history" for job_id in (populated.unconfirmed, populated.failed)
    }
    history.close()


@pytest.fixture
def compared(
    start: Callable[..., Harness], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Harness]:
    """A ledger of two jobs, in pages of one, which its history has."""
    monkeypatch.setattr(changes, "PAGE_JOBS", 1)
    made = start()
    made.enqueue()
    made.enqueue()
    history = History(f"sqlite:///{tmp_path}/history.db")
    started(made.ledger, history)
    yield made.with_runtime(open_history=lambda: history)
    history.close()


def spoil(harness: Harness, model: str) -> list[str]:
    """Give each job another model, of which the history does not hear."""
    ids = [
        str(each)
        for shard in (0, 1)
        for page in harness.ledger.changes.pages(shard)
        for each in page
    ]
    for job_id in ids:
        harness.redis.hset(keys.job(job_id), "model", model)
    return ids


def test_jobs_that_differ_in_the_history_share_their_waits(compared: Harness) -> None:
    """Each page of jobs once had waits of its own, so a long gap took verify hours."""
    ids, sleeps = spoil(compared, "another"), list[float]()
    harness = compared.with_runtime(sleep=sleeps.append)

    finding = checked(harness)["recorded"]

    assert set(finding.breaches) == {f"{job_id} differs in the history" for job_id in ids}
    assert finding.checked == len(ids)
    assert len(sleeps) == history_state.RECHECKS


def test_a_job_that_the_recorder_writes_meanwhile_does_not_differ(compared: Harness) -> None:
    ids = spoil(compared, "another")

    def sleep(_: float) -> None:
        spoil(compared, "Nano-Banana-2")

    finding = checked(compared.with_runtime(sleep=sleep))["recorded"]

    assert (finding.checked, finding.breaches) == (len(ids), [])


def test_few_jobs_are_remembered_until_they_are_read_again(
    compared: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_state, "RECHECKED_JOBS", 1)
    ids, sleeps = spoil(compared, "another"), list[float]()
    harness = compared.with_runtime(sleep=sleeps.append)

    assert checked(harness)["recorded"].broken == len(ids)
    assert len(sleeps) == 2 * history_state.RECHECKS
