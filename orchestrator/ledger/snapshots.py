"""What `verify` reads of all jobs: their facts and their entries, without requests and images.

A ledger may have millions of jobs. So one script reads a page of them, and no `Job` is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import ResponseError

from orchestrator.jobs.model import FOLLOW_UPS, FollowUpStatus, SettledBy, Status, Step
from orchestrator.jobs.tenant import DEFAULT_TENANT
from orchestrator.ledger import codec, identifiers, keys
from orchestrator.ledger.follow_ups import follow_up_sets
from orchestrator.ledger.refusals import UnreadableJob, meaning
from orchestrator.ledger.script import Script

#: Jobs that are read in one round trip. It blocks Redis for 2 to 3 ms.
PAGE_JOBS = 100
#: Entries of the sets of due jobs that are compared with the jobs in one round trip.
PAGE_ENTRIES = 1000
#: The fields that are read, after the number of attempts, the tenant and the first attempt. See
#: keys.py.
FIELDS = (
    *("status", "provider", "batch", "created", "updated", "deadline", "resubmitted", "request"),
    *("fallback", "settled", "by", "error", "images", "late_images", "format", *FOLLOW_UPS),
)


class TaskOfAttempt(NamedTuple):
    """The provider of an attempt, and its task if it is known."""

    provider: str
    task_id: str | None


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job as far as a check of all jobs needs it.

    Attributes:
        stored: the fields in FIELDS, without the request.
        attempts: the oldest first.
        old: whether it is a job of a version without tenants, and no script has counted it since.
    """

    id: str
    status: Status
    tenant: str
    stored: Mapping[str, str | None]
    attempts: tuple[TaskOfAttempt, ...]
    old: bool

    @property
    def provider(self) -> str:
        """The provider where the job is now."""
        return self.stored["provider"] or ""

    @property
    def deadline_at(self) -> int:
        """The deadline, ms."""
        return int(self.stored["deadline"] or 0)

    @property
    def resubmitted(self) -> int:
        """The unconfirmed attempt that was replaced by a new one, or 0."""
        return int(self.stored["resubmitted"] or 0)

    @property
    def has_fallback(self) -> bool:
        """Whether a fallback is left."""
        return bool(self.stored["fallback"])

    @property
    def has_result(self) -> bool:
        """Whether it has what a terminal job has: its end, and images or an error."""
        stored = self.stored
        result = stored["images"] if self.status is Status.SUCCEEDED else stored["error"]
        return bool(stored["settled"] and stored["by"] and result)

    def follow_up(self, step: Step) -> FollowUpStatus | None:
        """Return the status of a follow-up, or None if the job needs none."""
        status = self.stored[step]
        return FollowUpStatus(status) if status else None

    def copy_states(self) -> list[tuple[bool, bool]]:
        """Return whether each image has a copy, and whether it has an error. Late ones are last."""
        return [
            state
            for name in ("images", "late_images")
            for state in codec.copy_states(self.stored[name])
        ]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job and all its entries, at one moment.

    Attributes:
        job: None when it has expired, or cannot be read.
        settled_events: how often its timeline says that it was settled.
        due_at: its score in the agenda (ms), or None.
        follow_ups: when each pending follow-up is due (ms).
        listed: whether the job is in the index of jobs.
        fault: why the job cannot be read; empty if it can, or has expired.
    """

    job_id: str
    job: JobFacts | None
    settled_events: int
    due_at: int | None
    follow_ups: dict[Step, int]
    listed: bool
    fault: str = ""


def read_snapshots(
    client: Redis, script: Script, shard: int, tenants: Mapping[str, str], *, listed: bool
) -> Iterator[Snapshot]:
    """Yield snapshots of the jobs in `tenants`, all of one moment.

    If Redis cannot read one of them, each has its own moment. So one spoiled job hides no other.

    Args:
        client: a client.
        script: the script `snapshots`.
        shard: the shard of the jobs.
        tenants: the job ids, and the tenant of each that does not exist.
        listed: whether the jobs are in the index of jobs.
    """
    known = {job_id: tenant for job_id, tenant in tenants.items() if identifiers.is_job_id(job_id)}
    for name in tenants.keys() - known.keys():
        yield _unreadable(name, "it is no job id", listed=listed)
    if not known:
        return
    lines = "\n".join(f"{job_id} {tenant}" for job_id, tenant in known.items())
    try:
        answers: Any = script.run(client, [keys.agenda(shard)], [lines, " ".join(FIELDS)])
    except (ResponseError, UnicodeDecodeError) as error:
        if isinstance(error, ResponseError) and meaning(error):
            raise  # it is not about these jobs
        first, *others = known.items()
        if not others:
            yield _unreadable(first[0], "Redis cannot read it as a job in UTF-8", listed=listed)
            return
        for each in (first, *others):
            yield from read_snapshots(client, script, shard, dict([each]), listed=listed)
        return
    for job_id, answer in zip(known, answers, strict=True):
        values, settled, attempts, *scores = answer
        due_at, *due = map(_time, scores)
        steps = zip(FOLLOW_UPS, due, strict=True)
        follow_ups = {step: time for step, time in steps if time is not None}
        try:
            job = _facts(job_id, values, attempts) if values else None
        except UnreadableJob as error:
            yield Snapshot(job_id, None, settled, due_at, follow_ups, listed, str(error))
        else:
            yield Snapshot(job_id, job, settled, due_at, follow_ups, listed)


def _unreadable(job_id: str, fault: str, *, listed: bool) -> Snapshot:
    return Snapshot(job_id, None, 0, None, {}, listed, f"{job_id}: {fault}")


def _time(score: str | None) -> int | None:
    """Return a score as ms, or None without one. An infinite one is no time."""
    time = None if score is None else float(score)
    return None if time is None or not isfinite(time) else int(time)


def _facts(job_id: str, values: list[str | None], attempts: list[list[str | None]]) -> JobFacts:
    """Return the facts of a job.

    Raises:
        UnreadableJob: it has fields that this version cannot read.
    """
    number, tenant, _, _, _, _, *rest = values
    stored = dict(zip(FIELDS, rest, strict=True))
    request = stored.pop("request")  # it holds a prompt
    provider = stored["provider"] or ""
    try:
        status = Status(stored["status"] or "")
        tasks = tuple(TaskOfAttempt(left or provider, task) for left, task, _ in attempts)
        facts = JobFacts(job_id, status, tenant or DEFAULT_TENANT, stored, tasks, tenant is None)
        _check(facts, int(number or ""), [sent for _, _, sent in attempts])
        codec.check_format(stored["format"])
        codec.read_request(request)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableJob(job_id, tenant or DEFAULT_TENANT) from error
    return facts


def _check(job: JobFacts, attempts: int, sent: Iterable[str | None]) -> None:
    """Raise an error if a field of a job cannot be read."""
    stored = job.stored
    for text in (stored["created"], stored["updated"], stored["deadline"], *sent):
        int(text or "")
    int(stored["settled"] or 0)
    if stored["by"]:
        SettledBy(stored["by"])
    for step in FOLLOW_UPS:
        job.follow_up(step)
    if stored["images"] or stored["late_images"]:
        job.copy_states()
    codec.read_error(stored["error"])
    if attempts != len(job.attempts) or job.resubmitted > attempts:
        raise ValueError(attempts)


def unlisted_jobs(client: Redis, shard: int) -> Iterator[dict[str, str]]:
    """Yield the jobs, by tenant, that have an entry and are not in the index or do not exist."""
    sets = {keys.agenda(shard): DEFAULT_TENANT}
    for step in FOLLOW_UPS:
        for key in follow_up_sets(client, shard, step):
            old = key == keys.old_follow_up(shard, step)
            sets[key] = DEFAULT_TENANT if old else key.split(":", 4)[4]
    for key, tenant in sets.items():
        entries = client.zscan_iter(key, count=PAGE_ENTRIES)
        while ids := [job_id for job_id, _ in islice(entries, PAGE_ENTRIES)]:
            missing = _without_job(client, shard, ids)
            for first in range(0, len(missing), PAGE_JOBS):
                yield dict.fromkeys(missing[first : first + PAGE_JOBS], tenant)


def _without_job(client: Redis, shard: int, ids: list[str]) -> list[str]:
    """Return the ids that are not in the index of jobs, or have no job."""
    scores: Any = client.zmscore(keys.jobs(shard), ids)
    jobs = [f"{keys.root(shard)}job:{job_id}" for job_id in ids]  # some may be no job ids
    if None not in scores and client.exists(*jobs) == len(ids):  # nearly always
        return []
    with client.pipeline(transaction=False) as pipe:
        for job in jobs:
            pipe.exists(job)
        existing = pipe.execute()
    facts = zip(ids, scores, existing, strict=True)
    return [job_id for job_id, score, exists in facts if score is None or not exists]
