"""Jobs whose callers want to be told, and looks at how far that is."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestrator.jobs.model import FollowUp, Outcome, Step
from orchestrator.ledger import keys
from orchestrator.ledger.circuit_breaker import FAILURES_TO_OPEN, MIN_FAILING_MS
from orchestrator.messages import Broker
from orchestrator.steps.notify import notify
from tests.support import job_states
from tests.support.fakes import FakeProvider, Harness


def whsec(text: str) -> str:
    """A secret as Standard Webhooks has it."""
    return f"whsec_{b64encode(text.ljust(32, '-').encode()).decode()}"


SECRET, OLD_SECRET = whsec("this year's"), whsec("last year's")
VARIABLES: dict[str, str | None] = {
    "ORCHESTRATOR_NOTIFY_SECRET": SECRET,
    "ORCHESTRATOR_NOTIFY_TASKS": "shop.*, billing.paid",
    "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS": "1",
}
#: What stands in a URL and may be seen by its receiver only.
TOKEN = "token-of-the-receiver"


def url(receiver: FakeProvider) -> str:
    return f"{receiver.url}/hooks/7?token={TOKEN}"


def host(receiver: FakeProvider) -> str:
    return receiver.url.removeprefix("http://")


def ended(harness: Harness, receiver: FakeProvider, outcome: Outcome = job_states.SUCCESS) -> str:
    """A job with its outcome, whose caller is to be told; its id."""
    return job_states.ended(harness, outcome, notify_url=url(receiver))


def told(harness: Harness, job_id: str) -> FollowUp:
    """How far the notification is."""
    found = harness.job(job_id).notification
    assert found is not None
    return found


def wait(harness: Harness, job_id: str) -> float | None:
    """Seconds until the next try is due; None: there is none to come."""
    score: Any = harness.redis.zscore(keys.follow_up(0, Step.NOTIFY), job_id)
    return None if score is None else (float(score) - harness.clock.now) / 1000


def once(harness: Harness, job_id: str) -> FollowUp:
    """Try once, and look."""
    notify(harness.runtime, job_id)
    return told(harness, job_id)


def again(harness: Harness, job_id: str) -> FollowUp:
    """Try once more, at the moment that was planned."""
    seconds = wait(harness, job_id)
    assert seconds is not None
    harness.clock.forward(seconds)
    return once(harness, job_id)


def pause(harness: Harness, name: str) -> None:
    """Have a host fail often enough, for long enough, up to now; its first probe is in a minute."""
    harness.ledger.circuit_breaker.forget(name)
    for number in range(FAILURES_TO_OPEN):
        harness.ledger.circuit_breaker.failed(
            name, now=harness.clock.now - (FAILURES_TO_OPEN - 1 - number) * MIN_FAILING_MS
        )


def change(harness: Harness, **settings: Any) -> Harness:
    """The same harness after a restart with other settings."""
    changed = replace(harness.runtime.settings, **settings)
    return replace(harness, runtime=replace(harness.runtime, settings=changed))


def with_broker(harness: Harness, address: str) -> Harness:
    return replace(harness, runtime=replace(harness.runtime, broker=Broker(address)))


def redis_holds(harness: Harness, words: str) -> list[str]:
    """Where in Redis these words stand, the jobs' own requests left out."""
    readers: dict[str, Callable[[str], Any]] = {
        "hash": lambda key: {**_hash(harness, key), "request": ""},
        "list": lambda key: harness.redis.lrange(key, 0, -1),
        "string": harness.redis.get,
        "stream": harness.redis.xrange,
        "zset": lambda key: harness.redis.zrange(key, 0, -1),
    }
    found: Any = harness.redis.keys()
    return [key for key in found if words in repr(readers[str(harness.redis.type(key))](key)) + key]


def _hash(harness: Harness, key: str) -> dict[str, str]:
    fields: Any = harness.redis.hgetall(key)
    return dict(fields)


class Killed(BaseException):
    """Stands for SIGKILL."""


def killed(*_: Any, **__: Any) -> None:
    raise Killed


def ids(receiver: FakeProvider) -> list[str]:
    """The ids of what the receiver was told, in order."""
    return [asked.headers["webhook-id"] for asked in receiver.asked]
