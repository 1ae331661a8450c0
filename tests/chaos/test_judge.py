"""The judge sees each kind of breach, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.evidence import Evidence
from tests.chaos.good import CREATED, LATER, UNCONFIRMED, come_late, follow, good, sent, task
from tests.chaos.judge import PROMISES, judge
from tests.chaos.killer import Death, Restart
from tests.chaos.plan import REDIS, Order
from tests.chaos.test_aftermath import BREAKS as AFTERMATH
from tests.support.providers import POLLED_WITHOUT_KEYS

Break = Callable[[Evidence], object]


@pytest.fixture
def seen() -> Evidence:
    return good()


def of(seen: Evidence, provider: str) -> Order:
    """The provider's order."""
    return next(order for order in seen.orders if order.provider == provider)


def broken(seen: Evidence) -> set[str]:
    """The promises that are not kept."""
    return {breach.promise for breach in judge(seen)}


def give_up(seen: Evidence, provider: str, doubts: int = 1) -> dict[str, Any]:
    """A job of this provider fails as unconfirmed, and is listed so."""
    order = of(seen, provider)
    lost = seen.jobs[f"job-{order.number}"]
    lost |= {"status": "failed", "images": [], "error": UNCONFIRMED, "cost": None}
    lost["attempts"][0]["task_id"] = None
    seen.at_risk.add(f"{lost['id']}.1")
    doubt = {"event": "unconfirmed", "detail": {}, "at": CREATED}
    seen.events[lost["id"]].extend([doubt] * doubts)
    seen.named(lost["id"], "settled")[0]["detail"]["status"] = "failed"
    follow(seen)
    return lost


def fail(seen: Evidence, code: str) -> None:
    """The first job fails, and its task did not."""
    seen.jobs["job-0"] |= {"status": "failed", "images": [], "error": {"code": code}}


def report(seen: Evidence, **figures: Any) -> None:
    """The report has other figures for the first job."""
    seen.usage = [{**seen.usage[0], **figures}, *seen.usage[1:]]


def charge_again(seen: Evidence) -> None:
    """The first job is charged a second time, for a task that it knows."""
    more = task(seen.orders[0], "again")
    seen.tasks_of(seen.orders[0]).append(more)
    seen.tasks = [*seen.tasks, more]
    seen.charged += 1
    seen.jobs["job-0"]["attempts"].append({"number": 2, "task_id": more["id"]})


def unbind(seen: Evidence) -> None:
    """The first job does not know its task."""
    seen.jobs["job-0"]["attempts"][0]["task_id"] = None


def lose_late(seen: Evidence) -> None:
    """The first job's late success left no images."""
    come_late(seen)
    seen.jobs["job-0"].update(late_images=[])


BREAKS: dict[str, tuple[str, Break]] = {
    "never accepted": ("accepted", lambda s: s.accepted.pop(0)),  # type: ignore[attr-defined]
    "two answers": ("one_job", lambda s: s.accepted[0].add("job-1")),
    "gone": ("one_job", lambda s: s.jobs.pop("job-0")),  # type: ignore[attr-defined]
    "open": ("one_outcome", lambda s: s.jobs["job-0"].update(settled_at=None, status="running")),
    "settled twice": ("one_outcome", lambda s: s.events["job-0"].append(s.events["job-0"][0])),
    "another one settled": (
        "one_outcome",
        lambda s: s.events["job-0"][0].update(detail={"status": "failed"}),
    ),
    "changed": ("final", lambda s: setattr(s, "changed", ["job-0 was done"])),
    "another charge": ("figures", lambda s: s.tasks[0]["charged"].update(amount=2.0)),
    "a job that the report lacks": ("figures", lambda s: setattr(s, "usage", s.usage[1:])),
    "a job that it has twice": ("figures", lambda s: report(s, jobs=2)),
    "another cost": ("figures", lambda s: report(s, cost_computed=0.9)),
    "another unit": ("figures", lambda s: report(s, unit="USD")),
    "two tasks": ("paid_once", charge_again),
    "another sum": ("paid_once", lambda s: setattr(s, "charged", 5)),
    "unknown task": ("known", unbind),
    "not listed": (
        "known",
        lambda s: s.at_risk.remove(f"{give_up(s, POLLED_WITHOUT_KEYS)['id']}.1"),
    ),
    "never in doubt": ("unconfirmed", lambda s: give_up(s, POLLED_WITHOUT_KEYS, doubts=0)),
    "callback came": (
        "unconfirmed",
        lambda s: (
            give_up(s, "evolink"),
            s.tasks_of(of(s, "evolink"))[0]["callbacks"].append(sent("true", 200)),
        ),
    ),
    "not sent again": ("unconfirmed", lambda s: give_up(s, "hiapi")),
    "believed a lie": ("true", lambda s: s.tasks_of(s.orders[0])[0].update(status="failed")),
    "failed for nothing": ("true", lambda s: fail(s, "generation_failed")),
    "failed without a word": (
        "true",
        lambda s: s.jobs["job-0"].update(status="failed", images=[]),
    ),
    "impatient": ("true", lambda s: fail(s, "deadline_exceeded")),
    "late images are lost": ("late", lose_late),
    "no images": ("images", lambda s: s.jobs["job-0"].update(images=[])),
    "forgery": (
        "forged",
        lambda s: s.tasks_of(s.orders[0])[0]["callbacks"].append(sent("forged", 200)),
    ),
    "odd answer": ("answers", lambda s: setattr(s, "odd", ["500"])),
    "died": ("alive", lambda s: setattr(s, "ended", ["worker"])),
    "silent": ("alive", lambda s: setattr(s, "restarts", [Restart(1.0, None, None)])),
    "cannot nudge": ("alive", lambda s: setattr(s, "dropped", [("worker", 100.0)])),
    "no verdict": ("verified", lambda s: setattr(s, "verification", None)),
    "verify": (
        "verified",
        lambda s: setattr(
            s, "verification", {"invariants": [{"meaning": "told", "breaches": ["job-0"]}]}
        ),
    ),
}


def test_a_good_run_has_no_breach(seen: Evidence) -> None:
    assert judge(seen) == []


@pytest.mark.parametrize("name", BREAKS)
def test_each_breach_is_seen(seen: Evidence, name: str) -> None:
    promise, do = BREAKS[name]
    do(seen)
    assert promise in broken(seen)


def test_every_promise_can_be_broken() -> None:
    assert {promise for promise, _ in (BREAKS | AFTERMATH).values()} == PROMISES.keys()


def test_what_nobody_could_know_is_no_breach(seen: Evidence) -> None:
    give_up(seen, POLLED_WITHOUT_KEYS)
    give_up(seen, "evolink")
    give_up(seen, "hiapi", doubts=2)
    assert judge(seen) == []


def test_nudges_are_dropped_while_redis_is_away_and_shortly_after(seen: Evidence) -> None:
    seen.deaths = [Death(REDIS, 97.0, 98.0)]
    seen.dropped = [("web", 97.5), ("worker", 99.9)]
    assert judge(seen) == []
    seen.dropped = [("worker", 100.1)]
    assert broken(seen) == {"alive"}


def test_a_submission_shortly_before_the_deadline_has_no_time_for_another_send(
    seen: Evidence,
) -> None:
    lost = give_up(seen, "hiapi")
    lost["attempts"][0]["submitted_at"] = "2026-01-01T00:00:50.000Z"
    assert judge(seen) == []


def test_a_second_attempt_that_was_bought_is_no_breach(seen: Evidence) -> None:
    charge_again(seen)
    seen.events["job-0"].append({"event": "resubmitted", "detail": {}, "at": CREATED})
    assert judge(seen) == []


@pytest.mark.parametrize("late", [False, True])
def test_a_lie_after_a_truth_must_not_be_believed(seen: Evidence, late: bool) -> None:
    images = seen.jobs["job-0"]["images"] if late else []
    fail(seen, "content_policy")
    seen.jobs["job-0"]["late_images"] = images
    seen.named("job-0", "settled")[0]["detail"]["status"] = "failed"
    seen.tasks[0]["callbacks"] = [sent("true", 200), sent("conflict", 200)]
    follow(seen)
    assert ("true" in broken(seen)) is not late


def test_a_late_result_is_no_breach(seen: Evidence) -> None:
    come_late(seen)
    assert judge(seen) == []


@pytest.mark.parametrize(("fault", "breaches"), [("both", set()), ("both*2", {"true"})])
def test_a_result_that_is_never_shown_may_fail(
    seen: Evidence, fault: str, breaches: set[str]
) -> None:
    failed = seen.jobs["job-0"]
    failed |= {"status": "failed", "images": [], "error": {"code": "content_policy"}}
    seen.named("job-0", "settled")[0]["detail"]["status"] = "failed"
    seen.tasks[0]["faults"] = {"thin_success": fault}
    follow(seen)
    assert broken(seen) == breaches


@pytest.mark.parametrize(("task_id", "breaches"), [(None, set()), ("task-0", {"forged"})])
def test_a_callback_that_could_not_be_verified_may_make_a_poll_due(
    seen: Evidence, task_id: str | None, breaches: set[str]
) -> None:
    seen.tasks[0]["callback_url"] = "http://x/callbacks/fal/job-0.1/token"
    seen.tasks[0]["callbacks"].append(sent("forged", 200))
    detail = {"attempt": 1, "task_id": task_id}
    seen.events["job-0"].append({"event": "callback", "detail": detail, "at": LATER})
    assert broken(seen) == breaches


@pytest.mark.parametrize(("paused", "breaches"), [(False, {"true"}), (True, set())])
def test_a_result_that_is_shown_late_may_fail_while_the_provider_refuses_queries(
    seen: Evidence, paused: bool, breaches: set[str]
) -> None:
    fail(seen, "content_policy")
    seen.named("job-0", "settled")[0]["detail"]["status"] = "failed"
    seen.tasks[0]["faults"] = {"thin_success": "both*2"}
    if paused:
        seen.events["job-0"].append({"event": "paused", "detail": {}, "at": CREATED})
    follow(seen)
    assert broken(seen) == breaches


def test_a_lie_that_no_truth_preceded_cannot_be_told_from_it(seen: Evidence) -> None:
    lied = seen.tasks_of(seen.orders[0])[0]
    lied |= {"status": "failed", "callbacks": [sent("true", None), sent("conflict", 200)]}
    assert judge(seen) == []
