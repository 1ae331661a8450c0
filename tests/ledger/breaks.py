"""A ledger with a job in every state, and functions that break its invariants. For test_verify."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from redis import Redis

from orchestrator.jobs.model import OUTCOME_STEPS, FollowUpStatus, Image, Outcome, Step
from orchestrator.ledger import Ledger, ProviderLimits, codec, identifiers, keys
from orchestrator.ledger.admission import flow_of
from orchestrator.operations import invariants
from orchestrator.operations.verify import Charge
from tests.ledger import kit
from tests.support.fakes import Harness
from tests.support.job_states import task_of


@dataclass
class PopulatedLedger:
    """A ledger with a job in every state, and the charges of its providers."""

    harness: Harness
    queued: str
    submitting: str
    unconfirmed: str
    given_up: str
    resubmitted: str
    running: str
    succeeded: str
    failed: str
    cancelled: str
    waiting: str
    to_follow: str
    archived: str
    not_notified: str

    @property
    def charges(self) -> list[Charge]:
        """Return one charge per attempt that reached its provider. Some are unconfirmed."""
        known = [self.running, self.succeeded, self.failed]
        lost = [self.submitting, self.unconfirmed, self.given_up, self.resubmitted]
        return [
            *(Charge("hiapi", task_of(job_id)) for job_id in known),
            *(Charge("hiapi", f"lost-{n}", job_id) for n, job_id in enumerate(lost)),
            Charge("hiapi", "lost-again", self.resubmitted),
        ]


def not_notified(ledger: Ledger) -> str:
    """Create a job with a failed notification and a failed archive. Return its id.

    One of its two images has a copy.
    """
    images = (Image("https://images.example/0.png"), Image("https://images.example/1.png"))
    archived = (replace(images[0], copy=kit.COPY), replace(images[1], error="404 from the host"))
    job_id = kit.settled(ledger, Outcome.succeeded(images))
    lease = kit.claim_follow_up(ledger, job_id, Step.ARCHIVE)
    ledger.follow_ups.done(
        lease, Step.ARCHIVE, FollowUpStatus.DEAD, now=kit.NOW, tries=9, error="404", images=archived
    )
    return kit.finish_follow_up(ledger, job_id, Step.NOTIFY, FollowUpStatus.DEAD)


# Functions that break an invariant. They return the entries that verify must report. ------------


def agenda(job_id: str) -> str:
    return keys.agenda(identifiers.shard_of(job_id))


def lose_from_agenda(populated: PopulatedLedger) -> list[str]:
    populated.harness.redis.zrem(agenda(populated.running), populated.running)
    return [populated.running]


def keep_in_agenda(populated: PopulatedLedger) -> list[str]:
    populated.harness.redis.zadd(
        agenda(populated.succeeded), {populated.succeeded: populated.harness.clock.now}
    )
    return [populated.succeeded]


def leave_expired_in_agenda(populated: PopulatedLedger) -> list[str]:
    populated.harness.redis.delete(keys.job(populated.failed), keys.events(populated.failed))
    populated.harness.redis.zadd(
        agenda(populated.failed), {populated.failed: populated.harness.clock.now}
    )
    return [populated.failed]


def lose_from_index(populated: PopulatedLedger) -> list[str]:
    populated.harness.redis.zrem(
        keys.jobs(identifiers.shard_of(populated.queued)), populated.queued
    )
    return [populated.queued]


def make_overdue(populated: PopulatedLedger) -> list[str]:
    late = populated.harness.clock.now - invariants.MAX_OVERDUE_MS - 1
    populated.harness.redis.zadd(agenda(populated.unconfirmed), {populated.unconfirmed: late})
    return [populated.unconfirmed]


def settle_twice(populated: PopulatedLedger) -> list[str]:
    key = keys.events(populated.succeeded)
    populated.harness.redis.rpush(key, f"{populated.harness.clock.now} settled {{}}")
    return [populated.succeeded]


def lose_settled_event(populated: PopulatedLedger) -> list[str]:
    populated.harness.redis.rpop(keys.events(populated.failed))
    return [populated.failed]


def settle_an_open_job(populated: PopulatedLedger) -> list[str]:
    key = keys.events(populated.running)
    populated.harness.redis.rpush(key, f"{populated.harness.clock.now} settled {{}}")
    return [populated.running]


def lose_field(job: str, field: str) -> Callable[[PopulatedLedger], list[str]]:
    def lose(populated: PopulatedLedger) -> list[str]:
        job_id = getattr(populated, job)
        assert populated.harness.redis.hdel(keys.job(job_id), field) == 1
        return [job_id]

    return lose


def spoil(job: str, field: str, value: str | bytes) -> Callable[[PopulatedLedger], list[str]]:
    """Give a field a value that no version can read."""

    def change(populated: PopulatedLedger) -> list[str]:
        job_id = getattr(populated, job)
        populated.harness.redis.hset(keys.job(job_id), field, value)
        if isinstance(value, bytes):
            return [f"{job_id}: Redis cannot read it as a job in UTF-8"]
        return [f"{job_id} has fields that this version cannot read"]

    return change


def bind_twice(populated: PopulatedLedger) -> list[str]:
    task = task_of(populated.succeeded)
    populated.harness.redis.hset(keys.job(populated.running), "task.1", task)
    pair = sorted(
        [populated.succeeded, populated.running],
        key=lambda job_id: (identifiers.shard_of(job_id), job_id),
    )
    return [f"hiapi {task}: {pair[0]}.1, {pair[1]}.1"]


def bind_twice_in_one_job(populated: PopulatedLedger) -> list[str]:
    for attempt in ("task.1", "task.2"):
        populated.harness.redis.hset(keys.job(populated.resubmitted), attempt, "task-x")
    populated.harness.redis.zrem(
        keys.unconfirmed(identifiers.shard_of(populated.resubmitted)), f"{populated.resubmitted}.1"
    )
    return [f"hiapi task-x: {populated.resubmitted}.1, {populated.resubmitted}.2"]


def one_less(
    populated: PopulatedLedger, job_id: str, key: str, member: str, name: str
) -> list[str]:
    """Remove a member of a sorted set of the job's shard. Return what verify must report."""
    populated.harness.redis.zrem(key, member)
    number: Any = populated.harness.redis.zcard(key)
    return [f"shard {identifiers.shard_of(job_id)}: {number} {name} counted, {number + 1} found"]


def lose_from_flow(populated: PopulatedLedger) -> list[str]:
    job_id = populated.running
    job = kit.job(populated.harness.ledger, job_id)
    flow = flow_of(job.status, job.provider, job.tenant)
    key = keys.flow(identifiers.shard_of(job_id), *flow.split(":"))
    return one_less(populated, job_id, key, job_id, flow)


def lose_from_deadlines(populated: PopulatedLedger) -> list[str]:
    key = keys.deadlines(identifiers.shard_of(populated.queued))
    return one_less(populated, populated.queued, key, populated.queued, "deadlines")


def keep_in_movable(populated: PopulatedLedger) -> list[str]:
    shard = identifiers.shard_of(populated.waiting)
    populated.harness.redis.zadd(keys.movable(shard, "hiapi"), {populated.waiting: 0})
    return [f"shard {shard}: 1 hiapi with a fallback counted, 0 found"]


def forget_flight(populated: PopulatedLedger) -> list[str]:
    job_id = populated.running
    key = keys.in_flight(identifiers.shard_of(job_id), "hiapi")
    return one_less(populated, job_id, key, f"{job_id}.1", "hiapi in flight")


def exceed_limit(populated: PopulatedLedger) -> list[str]:
    harness = populated.harness
    shards = harness.ledger.shards
    hiapi = replace(
        harness.runtime.settings.providers["hiapi"], limits=ProviderLimits(max_in_flight=shards)
    )
    populated.harness = harness.with_settings(providers={"hiapi": hiapi})
    sizes: list[Any] = [harness.redis.zcard(keys.in_flight(n, "hiapi")) for n in range(shards)]
    return [
        f"shard {shard}: {size} hiapi in flight, the limit is 1"
        for shard, size in enumerate(sizes)
        if size > 1
    ]


def miscount(populated: PopulatedLedger) -> list[str]:
    shard = identifiers.shard_of(populated.queued)
    number = populated.harness.redis.hincrby(keys.counts(shard), "queued", 1)
    return [f"shard {shard}: {number} queued counted, {int(str(number)) - 1} found"]


def in_a_batch(
    change: Callable[[Redis, int, str], object], text: str
) -> Callable[[PopulatedLedger], list[str]]:
    """Create a job in a batch, and change what Redis has of the batch."""

    def miscount_batch(populated: PopulatedLedger) -> list[str]:
        ledger, now = populated.harness.ledger, populated.harness.clock.now
        batch_id = kit.open_batch(ledger, now=now)
        shard = identifiers.shard_of(kit.create_in_batch(ledger, batch_id, now=now).job_id)
        change(populated.harness.redis, shard, batch_id)
        return [f"shard {shard}: {text.format(batch_id)}"]

    return miscount_batch


def miscount_open(redis: Redis, shard: int, batch_id: str) -> None:
    redis.hincrby(keys.open_batches(shard), batch_id, 1)


def miscount_status(redis: Redis, shard: int, batch_id: str) -> None:
    redis.hincrby(keys.batch(shard, batch_id), "running", 1)


def keep_at_risk(populated: PopulatedLedger) -> list[str]:
    key = keys.unconfirmed(identifiers.shard_of(populated.failed))
    populated.harness.redis.zadd(key, {f"{populated.failed}.1": populated.harness.clock.now})
    return [f"{populated.failed}.1"]


# Functions that break an invariant of follow-ups -----------------------------------------------


def follow_set(populated: PopulatedLedger, job_id: str, step: Step) -> str:
    tenant = kit.tenant_of(populated.harness.redis, job_id)
    return keys.follow_up(identifiers.shard_of(job_id), step, tenant)


def lose_from_follow_ups(step: Step) -> Callable[[PopulatedLedger], list[str]]:
    def lose(populated: PopulatedLedger) -> list[str]:
        assert (
            populated.harness.redis.zrem(
                follow_set(populated, populated.to_follow, step), populated.to_follow
            )
            == 1
        )
        return [f"{populated.to_follow} {step}"]

    return lose


def keep_in_follow_ups(job: str, step: Step) -> Callable[[PopulatedLedger], list[str]]:
    def keep(populated: PopulatedLedger) -> list[str]:
        job_id = getattr(populated, job)
        populated.harness.redis.zadd(
            follow_set(populated, job_id, step), {job_id: populated.harness.clock.now}
        )
        return [f"{job_id} {step}"]

    return keep


def set_state(
    job: str, step: Step, status: FollowUpStatus
) -> Callable[[PopulatedLedger], list[str]]:
    def change(populated: PopulatedLedger) -> list[str]:
        job_id = getattr(populated, job)
        populated.harness.redis.hset(keys.job(job_id), step, status)
        return [f"{job_id} {step}"]

    return change


def leave_expired_to_follow(populated: PopulatedLedger) -> list[str]:
    populated.harness.redis.delete(keys.job(populated.to_follow), keys.events(populated.to_follow))
    return [f"{populated.to_follow} {step}" for step in OUTCOME_STEPS]


def leave_unlisted_to_follow(populated: PopulatedLedger) -> list[str]:
    populated.harness.redis.zrem(
        keys.jobs(identifiers.shard_of(populated.to_follow)), populated.to_follow
    )
    return leave_expired_to_follow(populated)


def make_follow_up_overdue(step: Step) -> Callable[[PopulatedLedger], list[str]]:
    def forget(populated: PopulatedLedger) -> list[str]:
        late = populated.harness.clock.now - invariants.MAX_OVERDUE_MS - 1
        populated.harness.redis.zadd(
            follow_set(populated, populated.to_follow, step), {populated.to_follow: late}
        )
        return [f"{populated.to_follow} {step}"]

    return forget


def lose_from_image(job: str, what: str, index: int) -> Callable[[PopulatedLedger], list[str]]:
    def lose(populated: PopulatedLedger) -> list[str]:
        job_id, nothing = getattr(populated, job), cast(dict[str, Any], {what: None})
        images = list(populated.harness.job(job_id).images)
        assert getattr(images[index], what)
        images[index] = replace(images[index], **nothing)
        populated.harness.redis.hset(keys.job(job_id), "images", codec.dumps(images))
        return [job_id]

    return lose


def set_archive_status(status: FollowUpStatus) -> Callable[[PopulatedLedger], list[str]]:
    """Set the status of an archive to one that has no rule about copies."""

    def change(populated: PopulatedLedger) -> list[str]:
        populated.harness.redis.hset(keys.job(populated.archived), Step.ARCHIVE, status)
        return [populated.archived]

    return change


def miscount_tenant(populated: PopulatedLedger) -> list[str]:
    shard = identifiers.shard_of(populated.queued)
    number = populated.harness.redis.hincrby(keys.counts(shard), "default open", 1)
    return [f"shard {shard}: {number} of default counted, {int(str(number)) - 1} found"]


BREAKS: list[tuple[str, Callable[[PopulatedLedger], list[str]]]] = [
    *(("readable", spoil(job, "request", "{")) for job in ("queued", "running", "succeeded")),
    ("readable", spoil("queued", "deadline", "soon")),
    ("readable", spoil("unconfirmed", "provider", b"\xff")),
    ("one_place", lose_from_agenda),
    ("one_place", keep_in_agenda),
    ("one_place", leave_expired_in_agenda),
    ("listed", lose_from_index),
    ("not_overdue", make_overdue),
    ("one_outcome", settle_twice),
    ("one_outcome", lose_settled_event),
    ("one_outcome", settle_an_open_job),
    ("told", lose_field("succeeded", "images")),
    ("told", lose_field("failed", "error")),
    ("told", lose_field("cancelled", "by")),
    ("told", lose_field("succeeded", "settled")),
    ("one_task", bind_twice),
    ("one_task", bind_twice_in_one_job),
    ("counted", miscount),
    ("tenants", miscount_tenant),
    ("batches", in_a_batch(miscount_open, "2 open of {} counted, 1 found")),
    ("batches", in_a_batch(miscount_status, "2 by status of {} counted, 1 found")),
    ("flows", lose_from_flow),
    ("flows", lose_from_deadlines),
    ("movable", keep_in_movable),
    ("in_flight", forget_flight),
    ("in_flight", exceed_limit),
    ("unconfirmed", keep_at_risk),
    *(("followed", lose_from_follow_ups(step)) for step in OUTCOME_STEPS),
    *(("not_overdue", make_follow_up_overdue(step)) for step in OUTCOME_STEPS),
    ("followed", keep_in_follow_ups("archived", Step.ARCHIVE)),
    ("followed", keep_in_follow_ups("not_notified", Step.NOTIFY)),
    ("followed", keep_in_follow_ups("failed", Step.NOTIFY)),
    ("followed", keep_in_follow_ups("waiting", Step.NOTIFY)),
    ("followed", keep_in_follow_ups("running", Step.ARCHIVE)),
    ("followed", keep_in_follow_ups("running", Step.CONFIRM)),
    ("followed", keep_in_follow_ups("failed", Step.CONFIRM)),
    ("followed", set_state("archived", Step.ARCHIVE, FollowUpStatus.PENDING)),
    ("followed", set_state("archived", Step.NOTIFY, FollowUpStatus.WAITING)),
    ("followed", set_state("to_follow", Step.NOTIFY, FollowUpStatus.DONE)),
    ("followed", set_state("waiting", Step.NOTIFY, FollowUpStatus.DONE)),
    ("followed", set_state("waiting", Step.NOTIFY, FollowUpStatus.PENDING)),
    ("followed", leave_expired_to_follow),
    ("followed", leave_unlisted_to_follow),
    ("kept", lose_from_image("archived", "copy", 0)),
    ("kept", lose_from_image("not_notified", "copy", 0)),
    ("kept", lose_from_image("not_notified", "error", 1)),
    ("kept", lose_field("archived", "archive")),
    ("kept", set_archive_status(FollowUpStatus.GONE)),
]
