"""The judge sees each kind of breach, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.judge import PROMISES, Evidence, judge
from tests.chaos.killer import Restart
from tests.chaos.plan import Order, plan

CREATED, SETTLED = "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:05.000Z"
DEADLINE = "2026-01-01T00:01:00.000Z"
UNCONFIRMED = {"code": "submission_unconfirmed"}

Break = Callable[[Evidence], object]


def job(order: Order) -> dict[str, Any]:
    """A job that went well."""
    return {
        "id": f"job-{order.number}",
        "provider": order.provider,
        "status": "succeeded",
        "images": [{"source_url": "http://x/"}] * order.images,
        "error": None,
        "metadata": {"number": order.number},
        "attempts": [{"number": 1, "task_id": f"task-{order.number}", "submitted_at": CREATED}],
        "created_at": CREATED,
        "deadline_at": DEADLINE,
        "settled_at": SETTLED,
        "settled_by": "callback",
    }


def task(order: Order, name: str = "task") -> dict[str, Any]:
    """Its provider task."""
    return {
        "id": f"{name}-{order.number}",
        "prompt": order.prompt,
        "status": "succeeded",
        "charged": {"amount": 1.0, "unit": "credits"},
        "faults": {},
        "callbacks": [],
    }


def sent(kind: str, status: int | None) -> dict[str, Any]:
    """A callback."""
    return {"kind": kind, "status": status, "at": CREATED, "error": None}


@pytest.fixture
def seen() -> Evidence:
    """A run in which everything went well; order 0 to 3 are one for each provider."""
    orders = sorted(plan(seed=1, jobs=4, minutes=1).orders, key=lambda order: order.provider)
    orders = [Order(n, o.at, o.key, o.body, o.with_file, o.twice) for n, o in enumerate(orders)]
    return Evidence(
        orders=orders,
        accepted={order.number: {f"job-{order.number}"} for order in orders},
        jobs={f"job-{order.number}": job(order) for order in orders},
        events={
            f"job-{order.number}": [{"event": "settled", "detail": {}, "at": SETTLED}]
            for order in orders
        },
        tasks=[task(order) for order in orders],
        charged=len(orders),
        at_risk=set(),
        lease=13.0,
        restarts=[Restart(1.0, 2.0, None)],
        verification={"invariants": [{"meaning": "all is well", "breaches": []}]},
    )


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
    lost |= {"status": "failed", "images": [], "error": UNCONFIRMED}
    lost["attempts"][0]["task_id"] = None
    seen.at_risk.add(f"{lost['id']}.1")
    doubt = {"event": "unconfirmed", "detail": {}, "at": CREATED}
    seen.events[lost["id"]].extend([doubt] * doubts)
    return lost


def fail(seen: Evidence, code: str) -> None:
    """The first job fails, and its task did not."""
    seen.jobs["job-0"] |= {"status": "failed", "images": [], "error": {"code": code}}


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


BREAKS: dict[str, tuple[str, Break]] = {
    "never accepted": ("accepted", lambda s: s.accepted.pop(0)),  # type: ignore[attr-defined]
    "two answers": ("one_job", lambda s: s.accepted[0].add("job-1")),
    "gone": ("one_job", lambda s: s.jobs.pop("job-0")),  # type: ignore[attr-defined]
    "open": ("one_outcome", lambda s: s.jobs["job-0"].update(settled_at=None, status="running")),
    "settled twice": ("one_outcome", lambda s: s.events["job-0"].append(s.events["job-0"][0])),
    "changed": ("final", lambda s: setattr(s, "changed", ["job-0 was done"])),
    "two tasks": ("paid_once", charge_again),
    "another sum": ("paid_once", lambda s: setattr(s, "charged", 5)),
    "unknown task": ("known", unbind),
    "not listed": ("known", lambda s: s.at_risk.remove(f"{give_up(s, 'uniall')['id']}.1")),
    "never in doubt": ("unconfirmed", lambda s: give_up(s, "uniall", doubts=0)),
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
    "impatient": ("true", lambda s: fail(s, "deadline_exceeded")),
    "no images": ("images", lambda s: s.jobs["job-0"].update(images=[])),
    "forgery": (
        "forged",
        lambda s: s.tasks_of(s.orders[0])[0]["callbacks"].append(sent("forged", 200)),
    ),
    "odd answer": ("answers", lambda s: setattr(s, "odd", ["500"])),
    "died": ("alive", lambda s: setattr(s, "ended", ["worker"])),
    "silent": ("alive", lambda s: setattr(s, "restarts", [Restart(1.0, None, None)])),
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
    assert {promise for promise, _ in BREAKS.values()} == PROMISES.keys()


def test_what_nobody_could_know_is_no_breach(seen: Evidence) -> None:
    give_up(seen, "uniall")
    give_up(seen, "evolink")
    give_up(seen, "hiapi", doubts=2)
    assert judge(seen) == []


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


def test_a_lie_that_no_truth_preceded_cannot_be_told_from_it(seen: Evidence) -> None:
    lied = seen.tasks_of(seen.orders[0])[0]
    lied |= {"status": "failed", "callbacks": [sent("true", None), sent("conflict", 200)]}
    assert judge(seen) == []
