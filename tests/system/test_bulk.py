"""A bulk action whose worker and whose Redis are killed: every job is acted on exactly once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import requests

from orchestrator.clock import now_ms
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import Ledger, identifiers
from tests.system.conftest import Client, UnpolledStack, eventually

#: Jobs for several parts. A limit keeps the action from its end until the kill.
JOBS, LIMIT = 300, 200
TENANT = "bulk"


def post(client: Client, **body: Any) -> dict[str, Any]:
    url = f"{client.stack.web_url}/v1/bulk"
    answer = requests.post(url, json=body, headers=client.headers, timeout=60)
    assert answer.status_code in (200, 202), answer.text
    found: dict[str, Any] = answer.json()
    return found


def state(client: Client, bulk_id: str) -> dict[str, Any]:
    url = f"{client.stack.web_url}/v1/bulk/{bulk_id}"
    answer = requests.get(url, headers=client.headers, timeout=60)
    assert answer.status_code in (200, 503), answer.text
    found: dict[str, Any] = answer.json()
    return found


def ended(client: Client, bulk_id: str) -> dict[str, Any]:
    """The action once it is done."""
    eventually(lambda: state(client, bulk_id).get("state") == "done")
    return state(client, bulk_id)


def test_every_job_is_retried_once_although_the_worker_and_redis_are_killed(
    unpolled: UnpolledStack,
) -> None:
    client, stack = unpolled.client, unpolled.stack
    ledger, now = Ledger.from_url(unpolled.redis.url), now_ms()
    ledger.admission.pause("evolink", by="tests", now=now)
    ledger.access.set_tenant(TENANT, {"max_open": str(LIMIT)})
    for number in range(JOBS):
        request = JobRequest(
            "evolink", "nano-banana-2-lite", {"prompt": "A cube"}, metadata={"n": number}
        )
        made = ledger.create(request, now=now, deadline_at=now + 3_600_000, tenant=TENANT)
        ledger.cancel(made.job_id, now=now)
    filters = {"tenant": TENANT}
    preview = post(client, action="retry", filter=filters, dry_run=True)
    assert preview["by_status"] == {"cancelled": JOBS}

    post(client, action="retry", preview=preview["id"])
    eventually(lambda: state(client, preview["id"])["done"] > 0)
    stack.kill("worker")
    seen = state(client, preview["id"])
    unpolled.redis.kill()
    unpolled.redis.start()
    ledger.access.set_tenant(TENANT, {"max_open": None})
    stack.start("worker")

    assert 0 < seen["done"] <= LIMIT, "it was killed in the middle"
    done = ended(client, preview["id"])
    assert (done["done"], done["refused"]) == (JOBS, [])
    job_ids = ledger.overview.newest(3 * JOBS, below=identifiers.LAST_ID, tenant=TENANT)
    jobs = ledger.overview.jobs(job_ids).values()
    assert Counter(job.request.metadata["n"] for job in jobs) == dict.fromkeys(range(JOBS), 2)
    assert Counter(job.status for job in jobs) == {"cancelled": JOBS, "queued": JOBS}

    again = post(client, action="cancel", filter=filters)
    assert ended(client, again["id"])["done"] == JOBS
    assert ledger.overview.tenants()[TENANT].get("open", 0) == 0
    ledger.admission.resume("evolink", now=now_ms())
