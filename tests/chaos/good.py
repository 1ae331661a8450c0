"""A run in which everything went well, for tests of the judge to break."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from orchestrator.providers import BUILT_IN
from tests.chaos.archived import pictures
from tests.chaos.evidence import Archive, Evidence
from tests.chaos.killer import Restart
from tests.chaos.plan import INBOX, Order, plan

CREATED, SETTLED = "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:05.000Z"
TOLD = "2026-01-01T00:00:05.100Z"
DEADLINE = "2026-01-01T00:01:00.000Z"
LATER = "2026-01-01T00:01:05.000Z"
DAY = "2026-01-01"
UNCONFIRMED = {"code": "submission_unconfirmed"}
FACTS = {"bytes": 9, "width": 64, "height": 64, "content_type": "image/png"}


def good() -> Evidence:
    """There is one order for each provider."""
    orders = sorted(
        plan(seed=1, jobs=len(BUILT_IN), minutes=1).orders, key=lambda order: order.provider
    )
    orders = [replace(o, number=n, inbox=INBOX, trouble={}) for n, o in enumerate(orders)]
    seen = Evidence(
        orders=orders,
        accepted={order.number: {f"job-{order.number}"} for order in orders},
        jobs={f"job-{order.number}": job(order) for order in orders},
        events={f"job-{order.number}": [] for order in orders},
        tasks=[task(order) for order in orders],
        charged=len(orders),
        at_risk=set(),
        lease=13.0,
        restarts=[Restart(1.0, 2.0, None)],
        verification={"invariants": [{"meaning": "all is well", "breaches": []}]},
    )
    for each in seen.jobs.values():
        seen.events[each["id"]].extend(timeline(each))
    follow(seen)
    return seen


def job(order: Order) -> dict[str, Any]:
    """A job that went well."""
    return {
        "id": f"job-{order.number}",
        "provider": order.provider,
        "status": "succeeded",
        "images": [image(order, index) for index in range(order.images)],
        "error": None,
        "cost": {"amount": 1.0, "unit": "credits", "source": "computed"},
        "metadata": {"number": order.number},
        "attempts": [{"number": 1, "task_id": f"task-{order.number}", "submitted_at": CREATED}],
        "created_at": CREATED,
        "deadline_at": DEADLINE,
        "settled_at": SETTLED,
        "settled_by": "callback",
        "archive": {"status": "done", "attempts": 1, "last_attempt_at": TOLD, "error": None},
        "notification": {"status": "done", "attempts": 1, "error": None},
    }


def image(order: Order, index: int) -> dict[str, Any]:
    """An image that was archived."""
    link = f"http://x/task-{order.number}-{index}.png"
    return {"source_url": link, "sha256": f"sha of {link}", **FACTS, "error": None}


def lose(seen: Evidence) -> dict[str, Any]:
    """The first job's first image has no copy, and the archive was given up; the image."""
    lost: dict[str, Any] = seen.jobs["job-0"]["images"][0]
    lost |= {**dict.fromkeys(["sha256", *FACTS]), "error": "it answered 404"}
    seen.jobs["job-0"]["archive"]["status"] = "dead"
    rename(seen, "archive_done", "archive_dead")
    follow(seen)
    return lost


def come_late(seen: Evidence) -> None:
    """The first job fails at its deadline. Its success is told later, kept and archived."""
    late = seen.jobs["job-0"]
    late |= {"status": "failed", "settled_at": DEADLINE, "error": {"code": "deadline_exceeded"}}
    late |= {"late_images": late["images"], "images": []}
    seen.named("job-0", "settled")[0]["detail"] = {"status": "failed"}
    seen.events["job-0"].append({"event": "notify_done", "detail": {}, "at": LATER})
    seen.tasks[0]["callbacks"].append({**sent("true", 200), "at": LATER})
    follow(seen)
    usual = notice(late, LATER)
    told = {**usual, "id": "msg_job-0_late", "type": "job.late_result"}
    others = [each for each in seen.inbox if each["job_id"] != "job-0"]
    seen.inbox = [*others, usual, told]


def rename(seen: Evidence, event: str, name: str) -> None:
    """An event of the first job was another one."""
    for told in seen.named("job-0", event):
        told["event"] = name


def timeline(settled: dict[str, Any]) -> list[dict[str, Any]]:
    """Its events."""
    detail = {"status": settled["status"]}
    names = ("settled", "archive_done", "notify_done")
    return [{"event": name, "detail": detail, "at": SETTLED} for name in names]


def follow(seen: Evidence) -> None:
    """The archive, the inbox and the usage report, as they are after these jobs."""
    files: dict[str, str] = {}
    manifests, originals = {}, {}
    for each in [job for job in seen.jobs.values() if pictures(job)]:
        listed = []
        for index, kept in enumerate(pictures(each)):
            place = f"{DAY}/{each['id']}/{index}"
            if kept["sha256"] is None:
                listed.append({**kept, "path": None, "thumbnail": None})
                continue
            path, small = f"{place}.png", f"{place}.thumb.webp"
            listed.append({**kept, "path": path, "thumbnail": small})
            files[path] = kept["sha256"]
            originals[kept["source_url"]] = {"sha256": kept["sha256"], **FACTS}
        told = f"{DAY}/{each['id']}/job.json"
        files[told] = "told"
        number = len(each["images"])
        manifests[told] = {
            "id": each["id"],
            "status": each["status"],
            "images": listed[:number],
            "late_images": listed[number:],
        }
    seen.archive = Archive(files, manifests)
    seen.originals = originals
    seen.inbox = [notice(each) for each in seen.jobs.values()]
    seen.usage = [row(each) for each in seen.jobs.values()]


def row(made: dict[str, Any]) -> dict[str, Any]:
    """The usage of a job."""
    counts = dict.fromkeys(["succeeded", "failed", "cancelled", "open", "cost_unknown_jobs"], 0)
    images = len(made["images"]) + len(made.get("late_images", []))
    counts |= {"jobs": 1, made["status"]: 1, "images": images}
    amount = made["cost"]["amount"] if made["cost"] else 0.0
    cost = {"unit": "credits", "cost_reported": 0.0, "cost_computed": amount}
    return {"provider": made["provider"], **counts, **cost}


def notice(told: dict[str, Any], at: str = TOLD, status: int | None = 204) -> dict[str, Any]:
    """A delivery."""
    kind = f"job.{told['status']}"
    data = {name: told[name] for name in ("id", "status", "settled_at", "error")}
    return {
        "inbox": INBOX,
        "id": f"msg_{told['id']}",
        "type": kind,
        "job_id": told["id"],
        "status": status,
        "verified": True,
        "problem": None,
        "received_at": at,
        "body": json.dumps({"type": kind, "data": data}),
    }


def task(order: Order, name: str = "task") -> dict[str, Any]:
    """Its provider task."""
    return {
        "id": f"{name}-{order.number}",
        "prompt": order.prompt,
        "status": "succeeded",
        "charged": {"amount": 1.0, "unit": "credits"},
        "finished_at": CREATED,
        "image_asks": [1] * order.images,
        "faults": {},
        "callbacks": [],
    }


def sent(kind: str, status: int | None) -> dict[str, Any]:
    """A callback."""
    return {"kind": kind, "status": status, "at": CREATED, "error": None}
