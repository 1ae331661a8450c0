"""Jobs whose callers want to be told, and looks at how far that is."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestrator.jobs import FollowUp, Outcome, Step
from orchestrator.ledger import keys
from orchestrator.ledger.hosts import ENOUGH, LONG
from orchestrator.notify.step import notify
from orchestrator.nudges import Broker
from tests import lives
from tests.fakes import FakeProvider, World


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


def ended(world: World, receiver: FakeProvider, outcome: Outcome = lives.SUCCESS) -> str:
    """A job with its outcome, whose caller is to be told; its id."""
    return lives.ended(world, outcome, notify_url=url(receiver))


def told(world: World, job_id: str) -> FollowUp:
    """How far the notification is."""
    found = world.job(job_id).notification
    assert found is not None
    return found


def wait(world: World, job_id: str) -> float | None:
    """Seconds until the next try is due; None: there is none to come."""
    score: Any = world.redis.zscore(keys.follow_up(0, Step.NOTIFY), job_id)
    return None if score is None else (float(score) - world.clock.now) / 1000


def once(world: World, job_id: str) -> FollowUp:
    """Try once, and look."""
    notify(world.runtime, job_id)
    return told(world, job_id)


def again(world: World, job_id: str) -> FollowUp:
    """Try once more, at the moment that was planned."""
    seconds = wait(world, job_id)
    assert seconds is not None
    world.clock.forward(seconds)
    return once(world, job_id)


def pause(world: World, name: str) -> None:
    """Have a host fail often enough, for long enough, up to now; its first probe is in a minute."""
    world.ledger.hosts.forget(name)
    for number in range(ENOUGH):
        world.ledger.hosts.failed(name, now=world.clock.now - (ENOUGH - 1 - number) * LONG)


def change(world: World, **settings: Any) -> World:
    """The same world after a restart with other settings."""
    changed = replace(world.runtime.settings, **settings)
    return replace(world, runtime=replace(world.runtime, settings=changed))


def with_broker(world: World, address: str) -> World:
    return replace(world, runtime=replace(world.runtime, broker=Broker(address)))


def redis_holds(world: World, words: str) -> list[str]:
    """Where in Redis these words stand, the jobs' own requests left out."""
    readers: dict[str, Callable[[str], Any]] = {
        "hash": lambda key: {**_hash(world, key), "request": ""},
        "list": lambda key: world.redis.lrange(key, 0, -1),
        "string": world.redis.get,
        "stream": world.redis.xrange,
        "zset": lambda key: world.redis.zrange(key, 0, -1),
    }
    found: Any = world.redis.keys()
    return [key for key in found if words in repr(readers[str(world.redis.type(key))](key)) + key]


def _hash(world: World, key: str) -> dict[str, str]:
    fields: Any = world.redis.hgetall(key)
    return dict(fields)


class Killed(BaseException):
    """Stands for SIGKILL."""


def killed(*_: Any, **__: Any) -> None:
    raise Killed


def ids(receiver: FakeProvider) -> list[str]:
    """The ids of what the receiver was told, in order."""
    return [asked.headers["webhook-id"] for asked in receiver.asked]
