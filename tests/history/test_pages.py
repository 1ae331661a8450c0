"""Pages of the history: every filter and every pair of filters, against a plain loop."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations

import pytest
from sqlalchemy import select, update

from orchestrator.history import Entry, Query, pages
from orchestrator.history.entry import term
from orchestrator.history.history import History
from orchestrator.history.query import any_id, key_terms
from orchestrator.history.schema import documents, terms
from orchestrator.history.writer import Writer
from orchestrator.jobs.model import (
    Attempt,
    ErrorCode,
    FollowUp,
    FollowUpStatus,
    Image,
    Job,
    JobError,
    Status,
)
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import codec, identifiers, keys
from orchestrator.ledger.changes import StoredJob

HOUR = 3_600_000
NOW = 1_796_000_000_000
JOBS = 120


def jobs() -> Iterator[Entry]:
    """Yield jobs in random states, of a few tenants, models and values."""
    chance = random.Random(5)
    ids = sorted(identifiers.new_job_id(chance.randrange(3), NOW) for _ in range(JOBS))
    for number, job_id in enumerate(ids):
        status = chance.choice([*Status, Status.SUCCEEDED, Status.SUCCEEDED])
        provider = chance.choice(["hiapi", "evolink"])
        made = identifiers.created_at(job_id)
        failed = status is Status.FAILED
        archive = chance.choice([FollowUpStatus.PENDING, FollowUpStatus.DEAD, FollowUpStatus.DONE])
        succeeded = status is Status.SUCCEEDED
        job = Job(
            job_id,
            status,
            JobRequest(
                provider,
                chance.choice([f"{provider}-1", "odd\0model"]),
                options={"prompt": "A red cube"},
                metadata={"sku": chance.choice([17, "a%", None]), "shop": {"id": number % 7}},
            ),
            created_at=made,
            updated_at=made,
            deadline_at=made + HOUR,
            tenant=chance.choice(["shop", "lab", "lab"]),
            attempts=(Attempt(1, made, f"task-{number}" if number % 3 else None),),
            error=JobError(chance.choice([ErrorCode.TIMEOUT, ErrorCode.UNKNOWN]), "x")
            if failed
            else None,
            images=(Image("https://x.example/0.png", made + chance.choice([1, 9]) * HOUR),)
            if succeeded
            else (),
            settled_at=made if status.terminal else None,
            archive=FollowUp(archive) if succeeded else None,
            notification=FollowUp(archive) if number % 4 else None,
        )
        fields = {**codec.fields_of(job), "key": keys.searchable(f"order-{number}")}
        unconfirmed = (1,) if number % 10 == 3 else ()
        yield Entry.of(StoredJob(job_id, fields, (), unconfirmed))


ENTRIES = list(jobs())
MIDDLE = ENTRIES[JOBS // 2].job.created_at
NARROW = {
    "status": Query({"status": "failed"}),
    "provider": Query({"provider": "hiapi"}),
    "model": Query({"model": "odd\N{REPLACEMENT CHARACTER}model"}),
    "tenant": Query({"tenant": "lab"}),
    "error": Query({"error": "timeout"}),
    "task": Query(terms=((term("task", "task-7"),),)),
    "key": Query(terms=(key_terms("order-8"),)),
    "metadata": Query(terms=((term("metadata", "sku", "17"),),)),
    "wildcards": Query(terms=((term("metadata", "sku", "a%"),),)),
    "inner metadata": Query(terms=((term("metadata", "shop.id", "3"),),)),
    "any id": Query(terms=(any_id("task-10"),)),
    "after": Query(after=MIDDLE),
    "before": Query(before=MIDDLE),
    "unconfirmed": Query(unconfirmed=True),
    "confirmed": Query(unconfirmed=False),
    "at risk": Query(at_risk=True),
    "safe": Query(at_risk=False),
    "archive": Query(follow_ups={"archive": "done"}),
    "notification": Query(follow_ups={"notification": "dead"}),
    "job": Query(job_id=ENTRIES[9].job.id),
}


def both(one: Query, other: Query) -> Query:
    def either(name: str, default: object = None) -> object:
        first, second = getattr(one, name), getattr(other, name)
        return first if first != default else second

    return Query(
        facet={**one.facet, **other.facet},
        terms=(*one.terms, *other.terms),
        follow_ups={**one.follow_ups, **other.follow_ups},
        now=MIDDLE,
        risk_ms=6 * HOUR,
        **{n: either(n) for n in ("job_id", "after", "before", "unconfirmed", "at_risk")},  # type: ignore[arg-type]
    )


QUERIES = {
    "none": both(Query(), Query()),
    **{name: both(query, Query()) for name, query in NARROW.items()},
    **{f"{a}, {b}": both(NARROW[a], NARROW[b]) for a, b in combinations(NARROW, 2)},
}


def listed(history: History, query: Query, limit: int) -> list[str]:
    """Return the ids of all pages."""
    found: list[str] = []
    below: str | None = None
    for _ in range(10 * JOBS):
        page = history.find(query, below=below, limit=limit)
        assert len(page.ids) <= limit
        found += page.ids
        below = page.cursor
        if below is None:
            return found
    raise AssertionError("the pages never end")


def test_pages_have_exactly_the_matching_jobs_newest_first(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, number in (
        ("WINDOW_JOBS", 25),
        ("MAX_WINDOWS", 2),
        ("RARE_JOBS", 15),
        ("FACETS_OF_STATEMENT", 3),
    ):
        monkeypatch.setattr(pages, name, number)
    history.database.migrate()
    with history.writing(Writer()) as batch:
        batch.put(ENTRIES)
        batch.put(ENTRIES[:20])  # written again, nothing changes

    singles = dict(list(QUERIES.items())[: len(NARROW) + 1])
    is_sqlite = "sqlite" in repr(history.database._url)
    for name, query in (QUERIES if is_sqlite else singles).items():
        expected = [e.job.id for e in reversed(ENTRIES) if query.matches(e)]
        assert listed(history, query, 24) == expected, name
    assert sum(map(any, ([q.matches(e) for e in ENTRIES] for q in QUERIES.values()))) > 80


def test_few_facets_for_many_jobs_are_enough(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_FACETS", 1)
    history.database.migrate()
    with history.writing(Writer()) as batch:
        batch.put(ENTRIES)

    query = QUERIES["tenant"]
    expected = [e.job.id for e in reversed(ENTRIES) if query.matches(e)]
    assert listed(history, query, 50) == expected


def test_a_pruned_job_leaves_every_table(history: History) -> None:
    history.database.migrate()
    with history.writing(Writer()) as batch:
        batch.put(ENTRIES)
    kept = [e.job.id for e in ENTRIES if not e.job.status.terminal]

    deleted = sum(history.prune(before=ENTRIES[-1].job.created_at + 1))

    assert deleted == JOBS - len(kept)
    assert listed(history, Query(), 100) == kept[::-1]
    assert set(history.entries([e.job.id for e in ENTRIES])) == set(kept)
    for entry in ENTRIES:
        found = history.find(Query(terms=((sorted(entry.terms())[0],),)), limit=300).ids
        assert set(found) <= set(kept)


def test_jobs_that_cannot_be_read_are_pruned_with_the_others(history: History) -> None:
    history.database.migrate()
    odd = next(e for e in ENTRIES if e.job.status.terminal)
    fields = update(documents).where(documents.c.id == odd.job.id).values(fields='{"status":"new"}')
    with history.writing(Writer()) as batch:
        batch.put(ENTRIES)
    with history.database.writing() as connection:
        connection.execute(fields)

    sum(history.prune(before=ENTRIES[-1].job.created_at + 1))

    kept = [e.job.id for e in ENTRIES if not e.job.status.terminal]
    assert listed(history, Query(), 100) == kept[::-1]
    with history.database.reading() as connection:
        left = connection.execute(select(terms.c.job).union(select(documents.c.id))).scalars()
        assert set(left) == set(kept)
