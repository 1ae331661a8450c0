"""Checks every invariant of a ledger.

The check only reads, and it may run at any time. Each job is read in one transaction.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from orchestrator.history import HistoryUnavailable
from orchestrator.jobs.model import FOLLOW_UPS, OUTCOME_STEPS, FollowUpStatus, Job, Status, Step
from orchestrator.ledger.admission import flow_of
from orchestrator.ledger.identifiers import shard_of
from orchestrator.ledger.snapshots import JobFacts, Snapshot
from orchestrator.ledger.totals import Totals
from orchestrator.operations.archive_faults import faults
from orchestrator.operations.history_state import (
    HistoryReport,
    HistoryState,
    differences,
    history_report,
)
from orchestrator.operations.invariants import INVARIANTS, MAX_OVERDUE_MS, InvariantReport
from orchestrator.operations.task_index import Task, TaskIndex, digest_of, tasks_of
from orchestrator.runtime import Runtime

#: The most unconfirmed attempts that are checked.
MAX_UNCONFIRMED = 100_000
#: Overdue jobs that are compared with the state of their providers at a time.
OVERDUE_JOBS = 500


@dataclass
class _SeenJobs:
    """The open jobs of a shard, counted."""

    statuses: Counter[str] = field(default_factory=Counter)
    without_task: int = 0
    flows: Counter[str] = field(default_factory=Counter)
    in_flight: Counter[str] = field(default_factory=Counter)
    tenants: Counter[str] = field(default_factory=Counter)
    movable: Counter[str] = field(default_factory=Counter)
    batches: Counter[str] = field(default_factory=Counter)
    #: Whether a job cannot be read, so the counts are not known.
    unreadable: bool = False

    def add(self, job: JobFacts) -> None:
        """Count an open job. An attempt that was submitted again may still be in flight.

        A job of an older version is in no flow and belongs to no tenant until a script finds it.
        """
        provider = job.provider
        self.statuses[job.status] += 1
        if job.old:
            return
        self.without_task += job.status is not Status.RUNNING
        self.tenants[job.tenant] += 1
        if batch := job.stored["batch"]:
            self.batches[batch] += 1
        self.flows[flow_of(job.status, provider, job.tenant)] += 1
        self.movable[provider] += job.status is Status.QUEUED and job.has_fallback
        in_flight = {job.resubmitted} | {job.status is not Status.QUEUED and len(job.attempts)}
        self.in_flight[provider] += len(in_flight - {0})


@dataclass(frozen=True, slots=True)
class Charge:
    """A task that a provider charged. `job_id` is set when the provider's list shows the job."""

    provider: str
    task_id: str
    job_id: str | None = None


class Verification:
    """One pass over a ledger.

    Args:
        runtime: of this process.
        charges: every task that the providers charged, or None when this is not known.
        images: also read every archived image.

    Attributes:
        phase: what it does now.
        history: the state of the history, which is compared when it is current. None before that.
    """

    def __init__(
        self,
        runtime: Runtime,
        charges: Iterable[Charge] | None = None,
        *,
        images: bool = False,
    ) -> None:
        self.phase = "checking jobs"
        self.history: HistoryReport | None = None
        self._runtime = runtime
        self._images = images
        self._charges = None if charges is None else list(charges)
        self._tasks = TaskIndex((each.provider, each.task_id) for each in self._charges or ())
        self._unknown: dict[str, str] = {}
        #: Jobs that this version cannot read. They are in the report `readable` only.
        self._unreadable: set[str] = set()
        #: Jobs that are overdue, unless they wait for their providers.
        self._overdue: list[JobFacts] = []
        self._reports = {name: InvariantReport(name) for name in INVARIANTS}

    def reports(self) -> list[InvariantReport]:
        """Return the report of each invariant that was checked."""
        left_out = set() if self._charges is not None else {"charged", "paid_once"}
        left_out |= set() if self._images else {"stored"}
        left_out |= set() if self._reports["recorded"].checked else {"recorded"}
        return [report for name, report in self._reports.items() if name not in left_out]

    def run(self) -> Iterable[str]:
        """Check everything. Yields each job id when it is checked in a phase, for progress.

        Raises:
            LedgerUnavailable: Redis is away.
            StorageError: the archive is away.
        """
        overview = self._runtime.ledger.overview
        for shard in range(self._runtime.ledger.shards):
            with overview.watch_totals(shard) as totals:
                seen = _SeenJobs()
                for snapshot in overview.snapshots(shard):
                    self._job(snapshot)
                    seen.unreadable |= bool(snapshot.fault)
                    if snapshot.job and not snapshot.job.status.terminal:
                        seen.add(snapshot.job)
                    yield snapshot.job_id
                self._check_overdue()
                counted = totals()  # None: a job changed at the same time
                if counted is not None and not seen.unreadable:
                    self._totals(shard, counted, seen)
                    self._tenants(shard, counted.tenants, seen.tenants)
        self._one_task()
        yield from self._recorded()
        self._unconfirmed()
        if self._charges is not None:
            self._charged(self._charges)
            self._paid(self._charges)

    def _job(self, snapshot: Snapshot) -> None:
        job = snapshot.job
        if job or snapshot.fault:
            self._reports["readable"].check(not snapshot.fault, snapshot.fault)
        if snapshot.fault:
            self._unreadable.add(snapshot.job_id)
            return
        if job is None:  # it expired during the check; the agenda must not have it
            self._reports["one_place"].check(snapshot.due_at is None, snapshot.job_id)
            for step in snapshot.follow_ups:
                self._reports["followed"].check(False, f"{snapshot.job_id} {step}")
            return
        done = job.status.terminal
        self._reports["one_place"].check(done == (snapshot.due_at is None), job.id)
        self._reports["one_outcome"].check(snapshot.settled_events == int(done), job.id)
        if done:
            self._reports["told"].check(job.has_result, job.id)
        else:
            self._reports["listed"].check(snapshot.listed, job.id)
        if not done and snapshot.due_at is not None:
            self._open_job(job, snapshot.due_at)
        self._follow_ups(job, snapshot.follow_ups)
        number = len(job.attempts)
        if job.status in (Status.SUBMITTING, Status.UNCONFIRMED) and not job.attempts[-1].task_id:
            self._unknown[f"{job.id}.{number}"] = job.provider
        self._tasks.add(job)

    def _open_job(self, job: JobFacts, due_at: int) -> None:
        """Check that a job is not overdue, unless it waits for its provider until its deadline."""
        now = self._runtime.clock()
        if now - due_at <= MAX_OVERDUE_MS or now >= job.deadline_at:
            self._due(due_at, job.id)
            return
        self._overdue.append(job)
        if len(self._overdue) == OVERDUE_JOBS:
            self._check_overdue()

    def _check_overdue(self) -> None:
        """Check whether overdue jobs wait for their providers. Each provider is asked once."""
        jobs, self._overdue = self._overdue, []
        admission, now = self._runtime.ledger.admission, self._runtime.clock()

        @cache
        def waits(shard: int, provider: str, is_new: bool) -> bool:
            return admission.obstacle(shard, provider, is_new=is_new, now=now) is not None

        for job in jobs:
            is_new = job.status is Status.QUEUED
            waits_rightly = (is_new or job.status is Status.UNCONFIRMED) and waits(
                shard_of(job.id), job.provider, is_new
            )
            self._reports["not_overdue"].check(waits_rightly, job.id)

    def _due(self, due_at: int, entry: str) -> None:
        late = self._runtime.clock() - due_at
        self._reports["not_overdue"].check(late <= MAX_OVERDUE_MS, entry)

    def _follow_ups(self, job: JobFacts, due: Mapping[Step, int]) -> None:
        for step in FOLLOW_UPS:
            name = f"{job.id} {step}"
            self._reports["followed"].check(_followed(job, step, step in due), name)
            if step in due:
                self._due(due[step], name)
        if job.status is Status.SUCCEEDED or job.stored["late_images"]:
            self._reports["kept"].check(_kept(job), job.id)
        if self._images and job.follow_up(Step.ARCHIVE) is FollowUpStatus.DONE:
            for whole in self._jobs([job.id]).values():
                wrong = faults(self._runtime.storage, whole)
                self._reports["stored"].check(not wrong, "; ".join(wrong))

    def _tenants(self, shard: int, counted: Mapping[str, int], found: Counter[str]) -> None:
        """Compare each tenant's number of open jobs with the jobs."""
        for tenant in sorted({*counted, *found}):
            number = counted.get(tenant, 0)
            text = f"shard {shard}: {number} of {tenant} counted, {found[tenant]} found"
            self._reports["tenants"].check(number == found[tenant], text)

    def _totals(self, shard: int, totals: Totals, seen: _SeenJobs) -> None:
        """Compare the totals with the jobs."""

        def compare(name: str, entry: str, number: int, found: int) -> None:
            text = f"shard {shard}: {number} {entry} counted, {found} found"
            self._reports[name].check(number == found, text)

        for status in (status for status in Status if not status.terminal):
            compare("counted", status, totals.counts.get(status, 0), seen.statuses[status])
        for flow in {*totals.flows, *seen.flows}:
            compare("flows", flow, totals.flows.get(flow, 0), seen.flows[flow])
        compare("flows", "deadlines", totals.deadlines, seen.without_task)
        for provider, number in totals.in_flight.items():
            compare("in_flight", f"{provider} in flight", number, seen.in_flight[provider])
            self._within_limit(shard, provider, number)
        for provider, number in totals.movable.items():
            compare("movable", f"{provider} with a fallback", number, seen.movable[provider])
        for batch_id in sorted({*totals.batches, *seen.batches}):
            open_jobs = seen.batches[batch_id]
            compare("batches", f"open of {batch_id}", totals.batches.get(batch_id, 0), open_jobs)
            by_status = totals.in_batches.get(batch_id, 0)
            compare("batches", f"by status of {batch_id}", by_status, open_jobs)

    def _within_limit(self, shard: int, provider: str, number: int) -> None:
        limits = self._runtime.settings.limits.get(provider)
        most = limits.most_in_flight(shard, self._runtime.ledger.shards) if limits else None
        if most is not None:
            text = f"shard {shard}: {number} {provider} in flight, the limit is {most}"
            self._reports["in_flight"].check(number <= most, text)

    def _one_task(self) -> None:
        """Report the tasks of several attempts. Only those are read once more, by name."""
        report, overview = self._reports["one_task"], self._runtime.ledger.overview
        report.checked, repeated = self._tasks.repeated()
        if not repeated:
            return
        attempts: defaultdict[Task, list[str]] = defaultdict(list)
        for shard in range(self._runtime.ledger.shards):
            for snapshot in overview.snapshots(shard):
                for task, attempt in tasks_of(snapshot.job) if snapshot.job else ():
                    if digest_of(task) in repeated:
                        attempts[task].append(attempt)
        for task, names in attempts.items():
            if len(names) > 1:
                report.add_breach(f"{' '.join(task)}: {', '.join(names)}")

    def _recorded(self) -> Iterator[str]:
        """Compare the history with the ledger, if it is up to date. Yields each job id."""
        runtime = self._runtime
        parts = runtime.ledger, runtime.history
        self.history = history_report(*parts, now=runtime.clock())
        if self.history.state is not HistoryState.CURRENT:
            return
        try:
            for job_id, difference in differences(*parts, runtime.sleep, self._unreadable):
                self.phase = "comparing jobs with the history"
                self._reports["recorded"].check(not difference, difference)
                yield job_id
        except HistoryUnavailable as error:
            self.history = HistoryReport(HistoryState.AWAY, reason=str(error))

    def _unconfirmed(self) -> None:
        """Check the unconfirmed attempts."""
        first = self._at_risk()
        # An attempt may be bound between two reads. Then it has left the set.
        again = self._at_risk() if True in first.values() else {}
        for (name, provider), bound in first.items():
            self._unknown[name] = provider
            self._reports["unconfirmed"].check(not (bound and (name, provider) in again), name)

    def _at_risk(self) -> dict[tuple[str, str], bool]:
        """Return each unconfirmed attempt with its provider, and whether it has a task."""
        entries = self._runtime.ledger.overview.unconfirmed(MAX_UNCONFIRMED)[1]
        jobs, has_task = self._jobs(entry.job_id for entry in entries), {}
        for entry in entries:
            job = jobs.get(entry.job_id)
            if entry.job_id in self._unreadable:
                continue
            provider = job.provider_of(entry.attempt) if job else ""
            tasks = {each.number: each.task_id for each in job.attempts} if job else {}
            has_task[f"{entry.job_id}.{entry.attempt}", provider] = bool(tasks.get(entry.attempt))
        return has_task

    def _jobs(self, job_ids: Iterable[str]) -> dict[str, Job]:
        """Return whole jobs. One that this version cannot read is reported."""
        ids = [job_id for job_id in job_ids if job_id not in self._unreadable]
        jobs, unreadable = self._runtime.ledger.overview.readable_jobs(ids)
        for each in unreadable:
            self._unreadable.add(each.job_id)
            self._reports["readable"].add_breach(str(each))
        return jobs

    def _charged(self, charges: list[Charge]) -> None:
        """Check that a task without an attempt can belong to an unconfirmed attempt."""
        left = Counter(self._unknown.values())
        for charge in charges:
            known = self._tasks.attempt_of((charge.provider, charge.task_id)) is not None
            at_risk_ = left[charge.provider] > 0
            left[charge.provider] -= int(not known)
            name = f"{charge.provider} {charge.task_id}"
            self._reports["charged"].check(known or at_risk_, name)

    def _paid(self, charges: list[Charge]) -> None:
        bought: Counter[str] = Counter()
        for charge in charges:
            attempt = self._tasks.attempt_of((charge.provider, charge.task_id))
            name = attempt.partition(".")[0] if attempt else charge.job_id
            bought.update([name] if name else [])
        jobs = self._jobs(bought)
        for job_id, times in bought.items():
            job = jobs.get(job_id)
            allowed = 2 if job and job.resubmitted else 1
            self._reports["paid_once"].check(times <= allowed, job_id)


def _followed(job: JobFacts, step: Step, listed: bool) -> bool:
    """Return whether a follow-up is in its set exactly while it is pending."""
    status = job.follow_up(step)
    if step in OUTCOME_STEPS and not job.status.terminal:
        return not listed and status in (None, FollowUpStatus.WAITING)
    return listed == (status is FollowUpStatus.PENDING) and status is not FollowUpStatus.WAITING


def _kept(job: JobFacts) -> bool:
    status = job.follow_up(Step.ARCHIVE)
    if status is FollowUpStatus.DONE:
        return all(copied for copied, _ in job.copy_states())
    if status is FollowUpStatus.DEAD:
        return all(copied or error for copied, error in job.copy_states())
    return status in (FollowUpStatus.PENDING, FollowUpStatus.OFF)
