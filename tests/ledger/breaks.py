"""A ledger with a job in every state, and its invariants broken by hand: for test_verify."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from orchestrator.jobs.model import FOLLOW_UPS, FollowUpStatus, Image, Outcome, Step
from orchestrator.ledger import Ledger, codec, keys
from orchestrator.operations import verify
from orchestrator.operations.verify import Charge
from tests.ledger import kit
from tests.support.fakes import Harness
from tests.support.job_states import task_of


@dataclass
class Busy:
    """A ledger with a job in every state, and what its providers charged."""

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
    untold: str

    @property
    def charges(self) -> list[Charge]:
        """One task for each attempt that reached its provider, whether we know it or not."""
        known = [self.running, self.succeeded, self.failed]
        lost = [self.submitting, self.unconfirmed, self.given_up, self.resubmitted]
        return [
            *(Charge("hiapi", task_of(job_id)) for job_id in known),
            *(Charge("hiapi", f"lost-{n}", job_id) for n, job_id in enumerate(lost)),
            Charge("hiapi", "lost-too", self.resubmitted),
        ]


def untold(ledger: Ledger) -> str:
    """A job whose caller could not be told, nor its images be copied: one of two; its id."""
    images = (Image("https://images.example/0.png"), Image("https://images.example/1.png"))
    got = (replace(images[0], copy=kit.COPY), replace(images[1], error="404 from the host"))
    job_id = kit.ended(ledger, Outcome.succeeded(images))
    lease = kit.follow(ledger, job_id, Step.ARCHIVE)
    ledger.follow_ups.done(
        lease, Step.ARCHIVE, FollowUpStatus.DEAD, now=kit.NOW, tries=9, error="404", images=got
    )
    return kit.followed(ledger, job_id, Step.NOTIFY, FollowUpStatus.DEAD)


# Each invariant, broken by hand ------------------------------------------------------------


def agenda(job_id: str) -> str:
    return keys.agenda(keys.shard_of(job_id))


def lose_from_agenda(busy: Busy) -> list[str]:
    busy.harness.redis.zrem(agenda(busy.running), busy.running)
    return [busy.running]


def keep_in_agenda(busy: Busy) -> list[str]:
    busy.harness.redis.zadd(agenda(busy.succeeded), {busy.succeeded: busy.harness.clock.now})
    return [busy.succeeded]


def leave_expired_in_agenda(busy: Busy) -> list[str]:
    busy.harness.redis.delete(keys.job(busy.failed), keys.events(busy.failed))
    busy.harness.redis.zadd(agenda(busy.failed), {busy.failed: busy.harness.clock.now})
    return [busy.failed]


def lose_from_index(busy: Busy) -> list[str]:
    busy.harness.redis.zrem(keys.jobs(keys.shard_of(busy.queued)), busy.queued)
    return [busy.queued]


def forget_look(busy: Busy) -> list[str]:
    late = busy.harness.clock.now - verify.MAX_OVERDUE_MS - 1
    busy.harness.redis.zadd(agenda(busy.unconfirmed), {busy.unconfirmed: late})
    return [busy.unconfirmed]


def settle_twice(busy: Busy) -> list[str]:
    key = keys.events(busy.succeeded)
    busy.harness.redis.rpush(key, f"{busy.harness.clock.now} settled {{}}")
    return [busy.succeeded]


def settle_without_a_word(busy: Busy) -> list[str]:
    busy.harness.redis.rpop(keys.events(busy.failed))
    return [busy.failed]


def settle_an_open_job(busy: Busy) -> list[str]:
    key = keys.events(busy.running)
    busy.harness.redis.rpush(key, f"{busy.harness.clock.now} settled {{}}")
    return [busy.running]


def lose_field(job: str, field: str) -> Callable[[Busy], list[str]]:
    def lose(busy: Busy) -> list[str]:
        job_id = getattr(busy, job)
        assert busy.harness.redis.hdel(keys.job(job_id), field) == 1
        return [job_id]

    return lose


def bind_twice(busy: Busy) -> list[str]:
    task = task_of(busy.succeeded)
    busy.harness.redis.hset(keys.job(busy.running), "task.1", task)
    pair = sorted(
        [busy.succeeded, busy.running], key=lambda job_id: (keys.shard_of(job_id), job_id)
    )
    return [f"hiapi {task}: {pair[0]}.1, {pair[1]}.1"]


def bind_twice_in_one_job(busy: Busy) -> list[str]:
    for attempt in ("task.1", "task.2"):
        busy.harness.redis.hset(keys.job(busy.resubmitted), attempt, "task-x")
    busy.harness.redis.zrem(
        keys.unconfirmed(keys.shard_of(busy.resubmitted)), f"{busy.resubmitted}.1"
    )
    return [f"hiapi task-x: {busy.resubmitted}.1, {busy.resubmitted}.2"]


def miscount(busy: Busy) -> list[str]:
    shard = keys.shard_of(busy.queued)
    number = busy.harness.redis.hincrby(keys.counts(shard), "queued", 1)
    return [f"shard {shard}: {number} queued counted, {int(str(number)) - 1} found"]


def keep_at_risk(busy: Busy) -> list[str]:
    key = keys.unconfirmed(keys.shard_of(busy.failed))
    busy.harness.redis.zadd(key, {f"{busy.failed}.1": busy.harness.clock.now})
    return [f"{busy.failed}.1"]


# What follows ------------------------------------------------------------------------------


def follow_set(job_id: str, step: Step) -> str:
    return keys.follow_up(keys.shard_of(job_id), step)


def lose_place(step: Step) -> Callable[[Busy], list[str]]:
    def lose(busy: Busy) -> list[str]:
        assert busy.harness.redis.zrem(follow_set(busy.to_follow, step), busy.to_follow) == 1
        return [f"{busy.to_follow} {step}"]

    return lose


def keep_place(job: str, step: Step) -> Callable[[Busy], list[str]]:
    def keep(busy: Busy) -> list[str]:
        job_id = getattr(busy, job)
        busy.harness.redis.zadd(follow_set(job_id, step), {job_id: busy.harness.clock.now})
        return [f"{job_id} {step}"]

    return keep


def set_state(job: str, step: Step, status: FollowUpStatus) -> Callable[[Busy], list[str]]:
    def change(busy: Busy) -> list[str]:
        job_id = getattr(busy, job)
        busy.harness.redis.hset(keys.job(job_id), step, status)
        return [f"{job_id} {step}"]

    return change


def leave_expired_to_follow(busy: Busy) -> list[str]:
    busy.harness.redis.delete(keys.job(busy.to_follow), keys.events(busy.to_follow))
    return [f"{busy.to_follow} {step}" for step in FOLLOW_UPS]


def leave_unlisted_to_follow(busy: Busy) -> list[str]:
    busy.harness.redis.zrem(keys.jobs(keys.shard_of(busy.to_follow)), busy.to_follow)
    return leave_expired_to_follow(busy)


def forget_follow_up(step: Step) -> Callable[[Busy], list[str]]:
    def forget(busy: Busy) -> list[str]:
        late = busy.harness.clock.now - verify.MAX_OVERDUE_MS - 1
        busy.harness.redis.zadd(follow_set(busy.to_follow, step), {busy.to_follow: late})
        return [f"{busy.to_follow} {step}"]

    return forget


def lose_from_image(job: str, what: str, index: int) -> Callable[[Busy], list[str]]:
    def lose(busy: Busy) -> list[str]:
        job_id, nothing = getattr(busy, job), cast(dict[str, Any], {what: None})
        images = list(busy.harness.job(job_id).images)
        assert getattr(images[index], what)
        images[index] = replace(images[index], **nothing)
        busy.harness.redis.hset(keys.job(job_id), "images", codec.dumps(images))
        return [job_id]

    return lose


def give_archive_the_state(status: FollowUpStatus) -> Callable[[Busy], list[str]]:
    """One that says nothing of copies."""

    def change(busy: Busy) -> list[str]:
        busy.harness.redis.hset(keys.job(busy.archived), Step.ARCHIVE, status)
        return [busy.archived]

    return change


BREAKS: list[tuple[str, Callable[[Busy], list[str]]]] = [
    ("one_place", lose_from_agenda),
    ("one_place", keep_in_agenda),
    ("one_place", leave_expired_in_agenda),
    ("listed", lose_from_index),
    ("not_overdue", forget_look),
    ("one_outcome", settle_twice),
    ("one_outcome", settle_without_a_word),
    ("one_outcome", settle_an_open_job),
    ("told", lose_field("succeeded", "images")),
    ("told", lose_field("failed", "error")),
    ("told", lose_field("cancelled", "by")),
    ("told", lose_field("succeeded", "settled")),
    ("one_task", bind_twice),
    ("one_task", bind_twice_in_one_job),
    ("counted", miscount),
    ("unconfirmed", keep_at_risk),
    *(("followed", lose_place(step)) for step in FOLLOW_UPS),
    *(("not_overdue", forget_follow_up(step)) for step in FOLLOW_UPS),
    ("followed", keep_place("archived", Step.ARCHIVE)),
    ("followed", keep_place("untold", Step.NOTIFY)),
    ("followed", keep_place("failed", Step.NOTIFY)),
    ("followed", keep_place("waiting", Step.NOTIFY)),
    ("followed", keep_place("running", Step.ARCHIVE)),
    ("followed", set_state("archived", Step.ARCHIVE, FollowUpStatus.PENDING)),
    ("followed", set_state("archived", Step.NOTIFY, FollowUpStatus.WAITING)),
    ("followed", set_state("to_follow", Step.NOTIFY, FollowUpStatus.DONE)),
    ("followed", set_state("waiting", Step.NOTIFY, FollowUpStatus.DONE)),
    ("followed", set_state("waiting", Step.NOTIFY, FollowUpStatus.PENDING)),
    ("followed", leave_expired_to_follow),
    ("followed", leave_unlisted_to_follow),
    ("kept", lose_from_image("archived", "copy", 0)),
    ("kept", lose_from_image("untold", "copy", 0)),
    ("kept", lose_from_image("untold", "error", 1)),
    ("kept", lose_field("archived", "archive")),
    ("kept", give_archive_the_state(FollowUpStatus.GONE)),
]
