"""What a search asks for. The same query is answered by SQL and by one job in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.history.entry import FACET_COLUMNS, Entry, facet_text, term
from orchestrator.jobs.model import FollowUpStatus, Job
from orchestrator.ledger import identifiers, keys
from orchestrator.ledger.refusals import UnreadableJob

#: The most that the time in a job's id may differ from its creation. Ids that an older version made
#: have the time of its host. ms.
CLOCK_SKEW_MS = 60_000


@dataclass(frozen=True, slots=True)
class Query:
    """The filters of a search. A job matches if it matches all of them.

    Attributes:
        facet: values of the columns of a facet, by name.
        terms: groups of terms. A job has one term of each group.
        job_id: one job.
        after: the first time of creation, ms.
        before: jobs were created before this time, ms.
        unconfirmed: whether a job has an attempt that may have been charged; None: either.
        at_risk: whether an image of the job is at risk; None: either.
        follow_ups: the status of the archive and of the notification, by the name of the column.
        now: the time of the search, ms.
        risk_ms: a link that expires within this time is at risk.
    """

    facet: Mapping[str, str] = field(default_factory=dict)
    terms: tuple[tuple[bytes, ...], ...] = ()
    job_id: str | None = None
    after: int | None = None
    before: int | None = None
    unconfirmed: bool | None = None
    at_risk: bool | None = None
    follow_ups: Mapping[str, str] = field(default_factory=dict)
    now: int = 0
    risk_ms: int = 0

    @property
    def above(self) -> str:
        """A text that sorts before the id of every matching job."""
        return "" if self.after is None else identifiers.first_id_at(self.after - CLOCK_SKEW_MS)

    @property
    def below(self) -> str:
        """A text that sorts after the id of every matching job."""
        return (
            identifiers.LAST_ID
            if self.before is None
            else identifiers.first_id_at(self.before + CLOCK_SKEW_MS)
        )

    def matches(self, entry: Entry) -> bool:
        """Return whether a job matches."""
        created, known = entry.job.created_at, dict(zip(FACET_COLUMNS, entry.facet, strict=True))
        return (
            all(known[name] == value for name, value in self.facet.items())
            and self._has_terms(entry)
            and self.job_id in (None, entry.job.id)
            and (self.after is None or created >= self.after)
            and (self.before is None or created < self.before)
            and self.unconfirmed in (None, bool(entry.stored.unconfirmed))
            and self.at_risk in (None, self._is_at_risk(entry))
            and self._has_follow_ups(entry.job)
        )

    def may_match(self, unreadable: UnreadableJob) -> bool:
        """Return whether a job that cannot be read may match, by its id and its tenant."""
        job_id, owner = unreadable.job_id, facet_text(unreadable.tenant)
        return (
            self.facet.get("tenant", owner) == owner
            and self.job_id in (None, job_id)
            and self.above <= job_id < self.below
        )

    def _has_terms(self, entry: Entry) -> bool:
        if not self.terms:
            return True
        known = entry.terms()
        return all(not known.isdisjoint(group) for group in self.terms)

    def _has_follow_ups(self, job: Job) -> bool:
        known = {"archive": job.archive, "notification": job.notification}
        states = {name: state.status for name, state in known.items() if state}
        return all(states.get(name) == status for name, status in self.follow_ups.items())

    def _is_at_risk(self, entry: Entry) -> bool:
        expiring = entry.expires_at(FollowUpStatus.PENDING)
        given_up = entry.expires_at(FollowUpStatus.DEAD)
        return (expiring is not None and expiring <= self.now + self.risk_ms) or (
            given_up is not None and given_up > self.now
        )


def key_terms(key: str) -> tuple[bytes, ...]:
    """Return the term of an idempotency key, or of the Celery task of that id."""
    return (term("key", keys.searchable(key)),)


def any_id(text: str) -> tuple[bytes, ...]:
    """Return the terms of an id of any kind but a job's."""
    return (term("task", text), term("batch", text), *key_terms(text))
