"""The verdict on notifications: every caller knows its outcome, and hears it once if it can."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tests.chaos.evidence import Breach, Evidence, unix
from tests.chaos.plan import REDIS, Order

#: Time to record that a caller was told; and what clocks of processes may differ by. Seconds.
RECORD, SKEW = 3.0, 0.5
#: The wait after a first try that failed; and how much older a lease is than its delivery. Seconds.
FIRST, SLACK = 5.0, 5.0
#: The notification of a success after the outcome. It is a message of its own.
LATE_RESULT = "job.late_result"
#: So many tries failed by now: the next comes minutes later.
PATIENT = 2

Job = Mapping[str, Any]
Delivery = Mapping[str, Any]


def notification_breaches(seen: Evidence) -> Iterator[Breach]:
    """Every breach of what is promised to callers."""
    deliveries = by_job(seen)
    for sent in seen.inbox:
        for wrong in _wrong(seen, sent):
            yield Breach("told", str(sent["job_id"]), f"{sent['id']}: {wrong}")
    for order, job in seen.settled():
        late = [sent for sent in deliveries[job["id"]] if sent["type"] == LATE_RESULT]
        usual = [sent for sent in deliveries[job["id"]] if sent["type"] != LATE_RESULT]
        yield from _told(seen, job, usual, late)
        for messages in (usual, late):
            yield from _told_once(seen, order, messages)


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
    taken_by_message = Counter((s["job_id"], s["id"]) for s in seen.inbox if taken(s))
    return sum(count - 1 for count in taken_by_message.values())


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
    main = f"msg_{job['id']}"
    wanted: tuple[object, ...] = (main, f"job.{job['status']}", order.inbox)
    if sent["type"] == LATE_RESULT:
        # Its id is another one, because it is another message.
        other = sent["id"] if sent["id"] != main and job.get("late_images") else "another"
        wanted = (other, LATE_RESULT, order.inbox)
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


def _told(
    seen: Evidence, job: Job, deliveries: Sequence[Delivery], late: Sequence[Delivery]
) -> Iterator[Breach]:
    notification = job["notification"]
    status, done = notification["status"], len(seen.named(job["id"], "notify_done"))
    if status == "pending" and may_wait(notification):
        return
    messages = 1 + bool(job.get("late_images"))
    if status != "done" or done != messages:
        why = f"its notification is {status}, and was done {done} times: {notification['error']}"
        yield Breach("told", job["id"], why)
    if not any(map(taken, deliveries)):
        yield Breach("told", job["id"], f"its caller was not told, in {len(deliveries)} deliveries")
    if job.get("late_images") and not any(map(taken, late)):
        yield Breach("told", job["id"], "its caller was not told of its late images")


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
