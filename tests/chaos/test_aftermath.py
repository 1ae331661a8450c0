"""The judge sees each thing that can go wrong with images and with callers, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.archived import missing
from tests.chaos.evidence import Evidence, unix
from tests.chaos.good import (
    CREATED,
    DAY,
    SETTLED,
    TOLD,
    come_late,
    follow,
    good,
    lose,
    notice,
    rename,
)
from tests.chaos.judge import judge
from tests.chaos.killer import Death
from tests.chaos.notifications import LATE_RESULT, repeated

LATER, SOON = "2026-01-01T00:00:31.000Z", "2026-01-01T00:00:06.000Z"
AT = unix(TOLD)
FIRST = f"{DAY}/job-0"

Break = Callable[[Evidence], object]


@pytest.fixture
def seen() -> Evidence:
    return good()


def broken(seen: Evidence) -> set[str]:
    """The promises that are not kept."""
    return {breach.promise for breach in judge(seen)}


def files(seen: Evidence, **changes: str | None) -> None:
    """Files of the first job are others, or gone; `image` is its first."""
    names = {"image": "0.png", "stray": "9.png", "odd": "0.png.tmp"}
    names |= {"inline": "inline-0123456789abcdef.png"}
    kept = {**seen.archive.files, **{f"{FIRST}/{names[n]}": to for n, to in changes.items()}}
    seen.archive = replace(seen.archive, files={n: to for n, to in kept.items() if to})


def manifest(seen: Evidence, told: dict[str, Any] | None) -> None:
    """The first job's manifest is another."""
    manifests = {**seen.archive.manifests, f"{FIRST}/job.json": told}
    seen.archive = replace(seen.archive, manifests=manifests)


def no_manifest(seen: Evidence) -> None:
    """The first job has none."""
    kept = {path: told for path, told in seen.archive.manifests.items() if FIRST not in path}
    seen.archive = replace(seen.archive, manifests=kept)


def told(seen: Evidence, **changes: object) -> None:
    """The first job's notice is another."""
    seen.inbox = [{**seen.inbox[0], **changes}, *seen.inbox[1:]]


def more(seen: Evidence, at: str, status: int | None = 204) -> None:
    """The first job's caller was told another time."""
    seen.inbox = [*seen.inbox, notice(seen.jobs["job-0"], at, status)]


def fails(seen: Evidence) -> None:
    """The first job fails, and its images stay."""
    kept = seen.archive
    seen.jobs["job-0"].update(status="failed", error={"code": "deadline_exceeded"})
    follow(seen)
    seen.archive = kept


def die(seen: Evidence, victim: str, at: float) -> None:
    """It was killed then."""
    seen.deaths = [*seen.deaths, Death(victim, at, at + 1)]


def again(seen: Evidence, victim: str, seconds: float, at: str) -> None:
    """It was killed so long after the first job's caller was told, who was told once more."""
    die(seen, victim, AT + seconds)
    more(seen, at)


def wait(seen: Evidence, tries: int) -> None:
    """The first job's caller could not be told so often."""
    late = {"status": "pending", "attempts": tries, "error": "it answered 503"}
    seen.jobs["job-0"]["notification"].update(late)
    rename(seen, "notify_done", "notify_failed")
    told(seen, status=503)


def expire(seen: Evidence, seconds: float) -> None:
    """The first job's links died so long after it was made, five seconds before it was settled."""
    seen.tasks_of(seen.orders[0])[0]["faults"] = {"expire_links": seconds}


def keep_quiet(seen: Evidence) -> None:
    """The first job's caller is not told of its late images."""
    come_late(seen)
    seen.inbox = seen.inbox[:-1]


def no_thumbnail(seen: Evidence, *, checked: bool) -> None:
    """The first job's first image has no thumbnail."""
    manifest = seen.archive.manifests[f"{FIRST}/job.json"] or {}
    manifest["images"][0].update(thumbnail=None, checked=checked)


BREAKS: dict[str, tuple[str, Break]] = {
    "lost": ("kept", lose),
    "never archived": ("kept", lambda s: s.jobs["job-0"]["archive"].update(status="pending")),
    "ended twice": ("kept", lambda s: rename(s, "notify_done", "archive_done")),
    "another image": ("kept", lambda s: s.jobs["job-0"]["images"][0].update(sha256="other")),
    "another size": ("kept", lambda s: s.jobs["job-0"]["images"][0].update(width=1)),
    "no manifest": ("kept", no_manifest),
    "empty manifest": ("kept", lambda s: manifest(s, {"id": "job-0", "images": []})),
    "another file": ("whole", lambda s: files(s, image="other")),
    "no file": ("whole", lambda s: files(s, image=None)),
    "a file too many": ("whole", lambda s: files(s, stray="what")),
    "a file of nobody": ("whole", lambda s: files(s, odd="what")),
    "an image of an answer that nobody lists": ("whole", lambda s: files(s, inline="what")),
    "images of a job that failed": ("whole", fails),
    "half a manifest": ("whole", lambda s: manifest(s, None)),
    "half a file": ("whole", lambda s: setattr(s, "archive", replace(s.archive, halves=[AT]))),
    "a download": ("whole", lambda s: setattr(s, "archive", replace(s.archive, downloads=["x"]))),
    "fetched twice": ("fetched_once", lambda s: s.tasks[0].update(image_asks=[2])),
    "not told": ("told", lambda s: setattr(s, "inbox", s.inbox[1:])),
    "never taken": ("told", lambda s: told(s, status=503)),
    "given up": ("told", lambda s: s.jobs["job-0"]["notification"].update(status="dead")),
    "forgotten": ("told", lambda s: s.jobs["job-0"]["notification"].update(status="pending")),
    "not recorded": ("told", lambda s: rename(s, "notify_done", "other")),
    "recorded twice": ("told", lambda s: rename(s, "archive_done", "notify_done")),
    "after one failure": ("told", lambda s: wait(s, 1)),
    "forged": ("told", lambda s: told(s, verified=False, problem="the signature")),
    "not checked": ("told", lambda s: told(s, verified=None)),
    "another id": ("told", lambda s: told(s, id="msg_other")),
    "another type": ("told", lambda s: told(s, type="job.failed")),
    "another caller": ("told", lambda s: told(s, inbox="shop-1")),
    "another body": ("told", lambda s: told(s, body='{"data": {"status": "running"}}')),
    "no body": ("told", lambda s: told(s, body="{")),
    "too early": ("told", lambda s: told(s, received_at=CREATED)),
    "of nobody": ("told", lambda s: told(s, job_id="job-9")),
    "not told of late images": ("told", keep_quiet),
    "late images of nobody": (
        "told",
        lambda s: setattr(s, "inbox", [*s.inbox, {**s.inbox[0], "type": LATE_RESULT}]),
    ),
    "no thumbnail of a checked file": ("whole", lambda s: no_thumbnail(s, checked=True)),
    "again for nothing": ("told_once", lambda s: more(s, LATER)),
    "again at once": ("told_once", lambda s: more(s, SOON, None)),
    "again within the lease": (
        "told_once",
        lambda s: again(s, "worker", 1, "2026-01-01T00:00:15.000Z"),
    ),
    "again though only web died": (
        "told_once",
        lambda s: again(s, "web", 1, LATER),
    ),
    "again though it died later": (
        "told_once",
        lambda s: again(s, "worker", 9, LATER),
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_breach_is_seen(seen: Evidence, name: str) -> None:
    promise, do = BREAKS[name]
    do(seen)
    assert promise in broken(seen)


def test_an_image_whose_link_died_before_its_job_was_settled_may_be_lost(seen: Evidence) -> None:
    expire(seen, 1)
    lost = lose(seen)
    assert (judge(seen), missing(seen)) == ([], 1)
    lost["error"] = None
    assert broken(seen) == {"kept"}, "but says why"


def test_one_whose_link_lived_a_while_is_not_lost_in_peace(seen: Evidence) -> None:
    expire(seen, 20)
    lose(seen)
    assert broken(seen) == {"kept"}


@pytest.mark.parametrize("victim", ["worker", "beat", "redis"])
def test_but_it_may_be_when_something_died_meanwhile(seen: Evidence, victim: str) -> None:
    expire(seen, 20)
    lose(seen)
    die(seen, victim, unix(SETTLED) + 2)
    assert judge(seen) == []


def test_a_file_that_could_not_be_checked_has_no_thumbnail(seen: Evidence) -> None:
    no_thumbnail(seen, checked=False)
    assert judge(seen) == []


def test_what_a_killed_worker_was_writing_is_left(seen: Evidence) -> None:
    seen.archive = replace(seen.archive, halves=[AT])
    die(seen, "worker", AT + 1)
    assert judge(seen) == []


def test_an_image_is_fetched_again_after_a_failure_or_a_death(seen: Evidence) -> None:
    seen.tasks[0].update(image_asks=[3])
    seen.jobs["job-0"]["archive"]["attempts"] = 2
    assert broken(seen) == {"fetched_once"}
    die(seen, "worker", unix(SETTLED))
    assert judge(seen) == []


@pytest.mark.parametrize("victim", ["worker", "redis"])
def test_a_caller_is_told_again_when_nobody_could_record_the_first_time(
    seen: Evidence, victim: str
) -> None:
    die(seen, victim, AT + 0.2)
    more(seen, LATER)
    assert (judge(seen), repeated(seen)) == ([], 1)


def test_a_caller_with_trouble_is_told_again(seen: Evidence) -> None:
    told(seen, status=503)
    more(seen, "2026-01-01T00:00:10.200Z")
    assert (judge(seen), repeated(seen)) == ([], 0)


def test_after_two_failures_a_caller_may_still_wait(seen: Evidence) -> None:
    wait(seen, 2)
    assert judge(seen) == []
