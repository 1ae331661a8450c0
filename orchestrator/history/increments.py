"""What a change of a job adds to the sums of `/metrics`.

The recorder compares the job with its row in the history and writes both in one transaction. So
each fact counts exactly once, whoever is killed, and however often a job is read. The sums only
grow: deleting a job subtracts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from orchestrator.jobs.model import FollowUp, Job
from orchestrator.ledger.totals import ENDS
from orchestrator.metrics import Sums
from orchestrator.metrics import definitions as metrics
from orchestrator.metrics.labels import model_label, provider_label, unit_label


class CountedRow(Protocol):
    """The columns of the row of a job that say what was counted of it."""

    attempts: int
    settled_at: int | None
    images: int
    archived: int
    cost_amount: float | None
    cost_unit: str | None
    cost_source: str | None
    archive: str | None
    notification: str | None


#: The names of these columns.
COUNTED_COLUMNS = tuple(CountedRow.__annotations__)


def add_increments(sums: Sums, job: Job, new: Mapping[str, Any], old: CountedRow | None) -> None:
    """Add what is new of a job.

    Args:
        sums: is changed.
        job: as it is now.
        new: its columns now.
        old: its row in the history; None: the job is new there.
    """
    if old is None:
        sums.add(metrics.JOBS_CREATED, *_model(job, job.request.provider))
    attempts = job.attempts[old.attempts if old else 0 :]
    for attempt in attempts:
        sums.add(metrics.ATTEMPTS, *_model(job, job.provider_of(attempt.number)))
    if attempts and attempts[0].number == 1:
        labels = _model(job, job.provider_of(1))
        seconds = _seconds(job.created_at, attempts[0].submitted_at)
        sums.observe(metrics.QUEUE_WAIT, *labels, seconds=seconds)
    if job.settled_at is not None:
        was_settled = old is not None and old.settled_at is not None
        _add_cost(sums, job, new, old if was_settled else None)
        if not was_settled:
            _add_outcome(sums, job, job.settled_at)
        _add_results(sums, job, new, old)


def _add_outcome(sums: Sums, job: Job, settled_at: int) -> None:
    labels, status = _model(job, job.provider), job.status.value
    code = job.error.code.value if job.error else ""
    sums.add(metrics.JOBS_SETTLED, *labels, status, code)
    settled_by = job.settled_by.value if job.settled_by else ""
    sums.add(metrics.OUTCOMES, labels[0], status, settled_by)
    seconds = _seconds(job.created_at, settled_at)
    sums.observe(metrics.END_TO_END, *labels, status, seconds=seconds)
    if job.attempts:
        seconds = _seconds(job.attempt.submitted_at, settled_at)
        sums.observe(metrics.SUBMIT_TO_OUTCOME, *labels, status, seconds=seconds)


def _add_cost(sums: Sums, job: Job, new: Mapping[str, Any], counted: CountedRow | None) -> None:
    """Add the cost of a settled job. `counted` is its row if the row was settled, too."""
    amount, unit, source = new["cost_amount"], new["cost_unit"], new["cost_source"]
    provider = provider_label(job.provider)
    if source is None:
        return
    if amount is None:
        if counted is None or counted.cost_source != source:
            sums.add(metrics.COST_UNKNOWN, provider)
        return
    if counted is not None and counted.cost_unit == unit:
        amount -= counted.cost_amount or 0.0
    if amount > 0:
        sums.add(metrics.COST, provider, unit_label(unit), source, amount=amount)


def _add_results(sums: Sums, job: Job, new: Mapping[str, Any], old: CountedRow | None) -> None:
    """Add images, copies, and the ends of the archive and the notification."""
    images = new["images"] - (old.images if old else 0)
    copies = new["archived"] - (old.archived if old else 0)
    if images > 0:
        sums.add(metrics.IMAGES, *_model(job, job.provider), amount=images)
    if copies > 0:
        sums.add(metrics.IMAGES_ARCHIVED, provider_label(job.provider), amount=copies)
    if (ended := _ended(job.archive, old.archive if old else None)) is not None:
        labels = provider_label(job.provider), ended.status.value
        sums.observe(metrics.ARCHIVE_DELAY, *labels, seconds=_delay(job, ended))
    if (ended := _ended(job.notification, old.notification if old else None)) is not None:
        sums.observe(metrics.NOTIFICATION_DELAY, ended.status.value, seconds=_delay(job, ended))


def _ended(follow_up: FollowUp | None, known: str | None) -> FollowUp | None:
    """Return a follow-up that has ended, unless the history has that end already."""
    if follow_up is None or follow_up.status not in ENDS or follow_up.status.value == known:
        return None
    return follow_up


def _delay(job: Job, ended: FollowUp) -> float:
    since = ended.since or job.settled_at or job.updated_at
    return _seconds(since, ended.tried_at or job.updated_at)


def _model(job: Job, provider: str) -> tuple[str, str]:
    """Return the labels of a provider and of the job's model there."""
    return provider_label(provider), model_label(provider, job.request.at(provider).model)


def _seconds(start: int, end: int) -> float:
    return (end - start) / 1000
