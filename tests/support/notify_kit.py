"""Jobs with notifications, and the state of those notifications."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from orchestrator.jobs.model import FollowUp, Outcome, Step
from orchestrator.ledger import keys
from orchestrator.ledger.circuit_breaker import FAILURES_TO_OPEN, MIN_FAILING_MS
from orchestrator.steps.notify import notify
from tests.support import job_states
from tests.support.fakes import FakeProvider, Harness


def whsec(text: str) -> str:
    """Return a secret in the form of Standard Webhooks."""
    return f"whsec_{b64encode(text.ljust(32, '-').encode()).decode()}"


SECRET, OLD_SECRET = whsec("this year's"), whsec("last year's")
VARIABLES: dict[str, str | None] = {
    "ORCHESTRATOR_NOTIFY_SECRET": SECRET,
    "ORCHESTRATOR_NOTIFY_TASKS": "shop.*, billing.paid",
    "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS": "1",
}
#: A secret in the receiver's URL. Only the receiver may see it.
TOKEN = "token-of-the-receiver"


def url(receiver: FakeProvider) -> str:
    return f"{receiver.url}/hooks/7?token={TOKEN}"


def host(receiver: FakeProvider) -> str:
    return receiver.url.removeprefix("http://")


def ended(harness: Harness, receiver: FakeProvider, outcome: Outcome = job_states.SUCCESS) -> str:
    """Return a job with an outcome and a pending notification to the receiver."""
    return job_states.ended(harness, outcome, notify_url=url(receiver))


def notification(harness: Harness, job_id: str) -> FollowUp:
    """Return the state of a job's notification."""
    follow_up = harness.job(job_id).notification
    assert follow_up is not None
    return follow_up


def wait(harness: Harness, job_id: str) -> float | None:
    """Return the seconds until the next try, or None when no try is planned."""
    tenant = harness.job(job_id).tenant
    score: Any = harness.redis.zscore(keys.follow_up(0, Step.NOTIFY, tenant), job_id)
    return None if score is None else (float(score) - harness.clock.now) / 1000


def once(harness: Harness, job_id: str) -> FollowUp:
    """Run the notify step once and return the notification."""
    notify(harness.runtime, job_id)
    return notification(harness, job_id)


def again(harness: Harness, job_id: str) -> FollowUp:
    """Run the step at its planned time and return the notification."""
    seconds = wait(harness, job_id)
    assert seconds is not None
    harness.clock.forward(seconds)
    return once(harness, job_id)


def pause(harness: Harness, name: str) -> None:
    """Record the failures that pause a host from now on. Its first probe is in one minute."""
    harness.ledger.circuit_breaker.forget(name)
    for number in range(FAILURES_TO_OPEN):
        harness.ledger.circuit_breaker.failed(
            name, now=harness.clock.now - (FAILURES_TO_OPEN - 1 - number) * MIN_FAILING_MS
        )


def redis_holds(harness: Harness, words: str) -> list[str]:
    """Return the Redis keys that contain these words outside the requests of jobs."""
    readers: dict[str, Callable[[str], Any]] = {
        "hash": lambda key: {**_hash(harness, key), "request": ""},
        "list": lambda key: harness.redis.lrange(key, 0, -1),
        "string": harness.redis.get,
        "stream": harness.redis.xrange,
        "zset": lambda key: harness.redis.zrange(key, 0, -1),
    }
    names: Any = harness.redis.keys()
    return [key for key in names if words in repr(readers[str(harness.redis.type(key))](key)) + key]


def _hash(harness: Harness, key: str) -> dict[str, str]:
    fields: Any = harness.redis.hgetall(key)
    return dict(fields)


def ids(receiver: FakeProvider) -> list[str]:
    """Return the ids of the received messages, in order."""
    return [request.headers["webhook-id"] for request in receiver.requests]
