"""The verdict on notifications: every caller knows its outcome, and hears it once if it can."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tests.chaos.evidence import Breach, Evidence, unix
from tests.chaos.plan import REDIS, Order

#: Time to record that a caller was told; and what clocks of processes may differ by. Seconds.
RECORD, SKEW = 3.0, 0.5
#: The wait after a first try that failed; and how much older a lease is than its delivery. Seconds.
FIRST, SLACK = 5.0, 5.0
#: So many tries failed by now: the next comes minutes later.
PATIENT = 2

Job = Mapping[str, Any]
Delivery = Mapping[str, Any]


def told(seen: Evidence) -> Iterator[Breach]:
    """Every breach of what is promised to callers."""
    deliveries = by_job(seen)
    for sent in seen.inbox:
        for wrong in _wrong(seen, sent):
            yield Breach("told", str(sent["job_id"]), f"{sent['id']}: {wrong}")
    for order, job in seen.settled():
        yield from _told(seen, job, deliveries[job["id"]])
        yield from _told_once(seen, order, deliveries[job["id"]])


def by_job(seen: Evidence) -> defaultdict[str, list[Delivery]]:
    """What came of each job, the oldest first."""
    found: defaultdict[str, list[Delivery]] = defaultdict(list)
    for sent in sorted(seen.inbox, key=lambda sent: str(sent["received_at"])):
        found[str(sent["job_id"])].append(sent)
    return found


def taken(sent: Delivery) -> bool:
    """Whether the inbox answered that it has it."""
    return sent["status"] is not None and 200 <= sent["status"] < 300


def repeated(seen: Evidence) -> int:
    """How many deliveries came although there was one that the inbox had taken."""
    return sum(max(sum(map(taken, sent)) - 1, 0) for sent in by_job(seen).values())


def may_wait(notification: Mapping[str, Any]) -> bool:
    """Whether a notification may be pending at the end: after two failures it waits for minutes."""
    late: bool = notification["status"] == "pending" and notification["attempts"] >= PATIENT
    return late and bool(notification["error"])


def _wrong(seen: Evidence, sent: Delivery) -> Iterator[str]:
    """What is wrong with one delivery."""
    job = seen.jobs.get(sent["job_id"])
    if not sent["verified"]:
        yield f"not verified: {sent['problem']}"
    if job is None or job["settled_at"] is None:
        yield "its job has no outcome"
        return
    order = seen.orders[job["metadata"]["number"]]
    wanted = (f"msg_{job['id']}", f"job.{job['status']}", order.inbox)
    if (sent["id"], sent["type"], sent["inbox"]) != wanted:
        yield f"not {wanted}, but {sent['type']} to {sent['inbox']}"
    if unix(sent["received_at"]) < unix(job["settled_at"]) - SKEW:
        yield "before the outcome"
    data = _data(sent)
    for name in ("id", "status", "settled_at", "error"):
        if data.get(name) != job[name]:
            yield f"it says that {name} is {data.get(name)}"


def _data(sent: Delivery) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(sent["body"])["data"]
    except (ValueError, KeyError, TypeError):
        return {}
    return data


def _told(seen: Evidence, job: Job, deliveries: Sequence[Delivery]) -> Iterator[Breach]:
    notification = job["notification"]
    status, done = notification["status"], len(seen.named(job["id"], "notify_done"))
    if status == "pending" and may_wait(notification):
        return
    if status != "done" or done != 1:
        why = f"its notification is {status}, and was done {done} times: {notification['error']}"
        yield Breach("told", job["id"], why)
    if not any(map(taken, deliveries)):
        yield Breach("told", job["id"], f"its caller was not told, in {len(deliveries)} deliveries")


def _told_once(seen: Evidence, order: Order, deliveries: Sequence[Delivery]) -> Iterator[Breach]:
    for one, other in pairwise(deliveries):
        at = unix(one["received_at"])
        gap = unix(other["received_at"]) - at
        if gap < FIRST - SKEW:
            yield Breach("told_once", one["job_id"], f"was told again after {gap:.1f} s")
        elif taken(one):
            recorded = at + RECORD + float(order.trouble.get("slow_seconds", 0))
            if not seen.died(at - SKEW, recorded, "worker", REDIS):
                yield Breach("told_once", one["job_id"], f"nobody had died, {gap:.1f} s before")
            elif gap < seen.notify_lease - SLACK:
                yield Breach("told_once", one["job_id"], f"within a lease, after {gap:.1f} s")
