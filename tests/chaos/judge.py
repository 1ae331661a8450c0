"""The verdict: what was promised, held against what the API, the timelines and the sandbox show.

Pure: evidence in, breaches out. The sandbox is the witness: it was never killed, and it counts
what it charged.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.providers import BUILT_IN
from tests.chaos.archived import archived
from tests.chaos.evidence import Breach, Evidence, unix
from tests.chaos.figures import figure_breaches
from tests.chaos.notifications import notification_breaches
from tests.chaos.plan import REDIS, Order

PROMISES: Mapping[str, str] = {
    "accepted": "every job that was enqueued was accepted in the end",
    "one_job": "every idempotency key made exactly one job",
    "one_outcome": "every job has one outcome, and was settled once",
    "final": "an outcome that a client saw never changed",
    "paid_once": "no job was charged twice, unless it bought a second attempt",
    "known": "every charged task belongs to its job, or is listed as unconfirmed",
    "unconfirmed": "only what nobody could know failed as unconfirmed",
    "true": "a job succeeded only if its provider task did, and failed only with a reason",
    "late": "a success that was told after the outcome is kept: `late_images`",
    "images": "a job that succeeded has all its images, however short their links live",
    "forged": "no forged callback was taken",
    "kept": "every image of a job that succeeded is in the archive, byte for byte as it was made,"
    " unless its link died first",
    "whole": "the archive holds nothing half written and nothing unknown, and manifests fit files",
    "fetched_once": "an image was fetched again only after a try that failed, or a death",
    "told": "every caller was told of its job's outcome: truly, signed, under one id",
    "told_once": "a caller was told again only after a try that failed, or when a death's lease"
    " had run out",
    "answers": "the API answered nothing but 2xx, and 503 while Redis was away",
    "alive": "no process ended by itself, and sweeps and nudges came back after each restart of"
    " Redis",
    "figures": "the usage report has every job once, and the costs that the provider charged",
    "verified": "`orchestrator verify --images` finds every invariant kept",
}

#: So long after Redis is back everybody can send nudges again. Seconds.
RECONNECTS = 2.0
#: What the clocks of processes may differ by, and what a callback may take. Seconds.
SKEW = 1.0
UNCONFIRMED, MAX_OVERDUE_MS = "submission_unconfirmed", "deadline_exceeded"
Tasks = Sequence[Mapping[str, Any]]
#: Callbacks that tell the truth.
TRUE = frozenset({"true", "duplicate", "retry"})


def judge(seen: Evidence) -> list[Breach]:
    """Every breach of every promise."""
    return [
        *_accepted(seen),
        *_outcomes(seen),
        *_money(seen),
        *_truth(seen),
        *_late(seen),
        *archived(seen),
        *notification_breaches(seen),
        *figure_breaches(seen),
        *_surroundings(seen),
    ]


def _accepted(seen: Evidence) -> Iterator[Breach]:
    made: defaultdict[int, set[str]] = defaultdict(set)
    for job_id, job in seen.jobs.items():
        made[job["metadata"]["number"]].add(job_id)
    for order in seen.orders:
        answered = seen.accepted.get(order.number, set())
        if not answered:
            yield Breach("accepted", order.key, "was never accepted")
        elif len(answered | made[order.number]) > 1 or answered - seen.jobs.keys():
            why = f"answered with {sorted(answered)}, listed are {sorted(made[order.number])}"
            yield Breach("one_job", order.key, why)


def _outcomes(seen: Evidence) -> Iterator[Breach]:
    for job_id, job in seen.jobs.items():
        settled = len(seen.named(job_id, "settled"))
        if job["settled_at"] is None or settled != 1:
            yield Breach("one_outcome", job_id, f"is {job['status']}, was settled {settled} times")
        elif seen.named(job_id, "settled")[0]["detail"].get("status") != job["status"]:
            yield Breach("one_outcome", job_id, f"is {job['status']}, and was settled otherwise")
    for changed in seen.changed:
        yield Breach("final", changed.partition(" ")[0], changed)


def _money(seen: Evidence) -> Iterator[Breach]:
    for order in seen.orders:
        job, tasks = seen.job_of(order), seen.tasks_of(order)
        allowed = 1 + bool(job and seen.named(job["id"], "resubmitted"))
        if len(tasks) > allowed:
            told = ", ".join(task["id"] for task in tasks)
            yield Breach("paid_once", job["id"] if job else order.key, f"was charged for {told}")
        if job and job["error"] and job["error"]["code"] == UNCONFIRMED:
            yield from _unconfirmed(seen, order, job)
    for order, task in seen.unknown():
        job = seen.job_of(order)
        if job is None or not _listed(seen, job):
            whose = job["id"] if job else order.key
            yield Breach("known", whose, f"{task['id']} was charged, and nobody knows")
    if seen.charged != len(seen.tasks):
        why = f"{seen.charged} charges for {len(seen.tasks)} tasks"
        yield Breach("paid_once", "sandbox", why)


def _listed(seen: Evidence, job: Mapping[str, Any]) -> bool:
    """Whether an attempt without a task is listed as money at risk, and the job told so."""
    blank = [a for a in job["attempts"] if a["task_id"] is None]
    listed = any(f"{job['id']}.{attempt['number']}" in seen.at_risk for attempt in blank)
    told = bool(job["error"]) and job["error"]["code"] == UNCONFIRMED
    return listed and (told or bool(seen.named(job["id"], "resubmitted")))


def _unconfirmed(seen: Evidence, order: Order, job: dict[str, Any]) -> Iterator[Breach]:
    can = BUILT_IN[order.provider].capabilities
    doubts = seen.named(job["id"], "unconfirmed")
    if not doubts:
        yield Breach("unconfirmed", job["id"], "no attempt of it was in doubt")
    heard = [
        sent
        for task in seen.tasks_of(order)
        for sent in task["callbacks"]
        if sent["kind"] in TRUE and sent["status"] == 200 and sent["at"] < job["settled_at"]
    ]
    if can.callbacks and heard:
        yield Breach("unconfirmed", job["id"], "its callback had come")
    # It dies with its worker, is sent again after the lease, and can die with that worker, too.
    left = unix(job["deadline_at"]) - unix(job["attempts"][-1]["submitted_at"])
    roomy = left > 2 * seen.lease + 5
    if can.idempotency_seconds and len(doubts) < 2 and roomy:
        yield Breach("unconfirmed", job["id"], "it was not sent again under its key")


def _truth(seen: Evidence) -> Iterator[Breach]:
    for order in seen.orders:
        job, tasks = seen.job_of(order), seen.tasks_of(order)
        if job is None:
            continue
        ended = {task["id"]: task["status"] for task in tasks}
        won = [ended.get(attempt["task_id"]) for attempt in job["attempts"]]
        if job["status"] == "succeeded":
            if "succeeded" not in won and not _misled(job, tasks):
                yield Breach("true", job["id"], f"its tasks: {ended}")
            if len(job["images"]) != order.images:
                why = f"{len(job['images'])} images of {order.images}"
                yield Breach("images", job["id"], why)
        elif job["status"] == "failed":
            code = job["error"]["code"] if job["error"] else None
            ours = code in (UNCONFIRMED, MAX_OVERDUE_MS)
            excused = "failed" in won or _misled(job, tasks) or _never_shown(seen, job, tasks)
            if not ours and not excused:
                yield Breach("true", job["id"], f"failed with {job['error']}; its tasks: {ended}")
            early = job["settled_at"] < job["deadline_at"]
            if code == MAX_OVERDUE_MS and early:
                yield Breach("true", job["id"], "failed for its deadline before that")
    for task in seen.tasks:
        for sent in task["callbacks"]:
            refused = sent["status"] in (401, 404, 503, None) or _only_a_hint(seen, task, sent)
            if sent["kind"] == "forged" and not refused:
                yield Breach("forged", task["id"], f"answered {sent['status']}")


def _only_a_hint(seen: Evidence, task: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    """Whether a callback could not be verified, and only made a poll of its task due."""
    reference = (task.get("callback_url") or "//").split("/")[-2]
    asked = (
        unix(event["at"])
        for event in seen.named(reference.partition(".")[0], "callback")
        if not event["detail"].get("task_id")
    )
    return sent["status"] == 200 and any(at >= unix(sent["at"]) - SKEW for at in asked)


def _never_shown(seen: Evidence, job: Mapping[str, Any], tasks: Tasks) -> bool:
    """Whether a task succeeded, and its provider never shows the result.

    A result that comes after some queries is never shown, either, while the provider refuses them.
    """
    kinds = [str(task["faults"].get("thin_success", "")) for task in tasks]
    paused = bool(seen.named(job["id"], "paused"))
    return any(kind in ("both", "query") or (kind and paused) for kind in kinds)


def _late(seen: Evidence) -> Iterator[Breach]:
    """Whether each success that was told after a failure left its images on the job."""
    for order, job in seen.settled():
        code = job["error"]["code"] if job["error"] else None
        if code not in (UNCONFIRMED, MAX_OVERDUE_MS) or job.get("late_images"):
            continue
        for task in seen.tasks_of(order):
            if task["status"] == "succeeded" and _told_after(task, job["settled_at"]):
                yield Breach("late", job["id"], f"{task['id']} succeeded, and no image is kept")


def _told_after(task: Mapping[str, Any], settled_at: str) -> bool:
    """Whether a callback with the result was accepted after this time."""
    if not _calls_with_result(task):
        return False
    heard = [sent for sent in task["callbacks"] if sent["kind"] in TRUE and sent["status"] == 200]
    return any(unix(sent["at"]) > unix(settled_at) + SKEW for sent in heard)


def _calls_with_result(task: Mapping[str, Any]) -> bool:
    """Whether the true callbacks of a success hold its result."""
    where = re.split(r"[/*]", task["faults"].get("thin_success", "query"))[0]
    return where == "query"


def _misled(job: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a false callback was accepted, and no true one before it.

    The sandbox sends the false one after the true ones. A true one can still be applied later: it
    was in the spool. Then its images are a late result.
    """
    taken = {s["kind"] for t in tasks for s in t["callbacks"] if s["status"] == 200}
    return "conflict" in taken and (not taken & TRUE or bool(job.get("late_images")))


def _surroundings(seen: Evidence) -> Iterator[Breach]:
    for odd in seen.odd:
        yield Breach("answers", "API", odd)
    for name in seen.ended:
        yield Breach("alive", name, "ended by itself")
    for number, restart in enumerate(seen.restarts, 1):
        if restart.recovered is None:
            yield Breach("alive", f"restart {number} of Redis", "no sweep was finished after it")
    for name, at in seen.dropped:
        if not seen.died(at - RECONNECTS, at, REDIS):
            yield Breach("alive", name, "dropped a nudge, and Redis was there")
    if seen.verification is None:
        yield Breach("verified", "orchestrator verify", "told nothing")
    else:
        for found in seen.verification["invariants"]:
            for whose in found["breaches"]:
                yield Breach("verified", whose, found["meaning"])


def tally(seen: Evidence) -> Mapping[str, Counter[str]]:
    """Outcomes, by what they are, by provider and by what brought them."""
    outcomes: Counter[str] = Counter()
    for job in seen.jobs.values():
        code = f" {job['error']['code']}" if job["error"] else ""
        outcomes[f"{job['status']}{code}"] += 1
    return {
        "outcomes": outcomes,
        "providers": Counter(f"{j['provider']} {j['status']}" for j in seen.jobs.values()),
        "settled_by": Counter(str(job["settled_by"]) for job in seen.jobs.values()),
        "events": Counter(e["event"] for listed in seen.events.values() for e in listed),
        "callbacks": Counter(s["kind"] for task in seen.tasks for s in task["callbacks"]),
        "faults": Counter(name for task in seen.tasks for name in task["faults"]),
    }
