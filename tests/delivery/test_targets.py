"""The targets that a request may name, and deliveries to a task or a stream."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import structlog
from kombu.exceptions import OperationalError
from redis import Redis

from orchestrator.delivery.targets import refusals
from orchestrator.enqueuing import create_job
from orchestrator.jobs.model import FollowUpStatus
from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.jobs.views import job_view
from orchestrator.jsonio import dump, parse
from orchestrator.ledger import LedgerUnavailable, keys
from orchestrator.messages import Broker
from orchestrator.steps.notify import notify
from tests.support import job_states
from tests.support.fakes import PUBLIC_URL, Harness
from tests.support.notify_kit import (
    SECRET,
    VARIABLES,
    again,
    notification,
    once,
    redis_holds,
    wait,
)
from tests.support.providers import EXAMPLE_REQUESTS

PENDING, DONE = FollowUpStatus.PENDING, FollowUpStatus.DONE
PUBLIC = "https://shop.example.com/hooks"
#: A broker that does not exist.
NOWHERE = "redis://:broker-password@127.0.0.1:1/0"


@pytest.fixture
def strict(start: Callable[..., Harness]) -> Harness:
    """A process that refuses private networks, as in production."""
    return start(**{**VARIABLES, "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS": None})


def refused(harness: Harness, **fields: Any) -> list[Violation]:
    request = JobRequest("hiapi", "Nano-Banana-2", **fields)
    settings = harness.runtime.settings
    return list(refusals(request.receiver, settings, signs=bool(settings.notify_secrets)))


# Checks of a request -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"notify_url": PUBLIC},
        {"notify_url": "https://93.184.216.34:8443/hooks?key=1#part"},
        {"notify_task": "shop.told"},
        {"notify_task": "shop.orders.told", "notify_queue": "shop"},
        {"notify_task": "billing.paid"},
        {"notify_stream": "shop"},
    ],
)
def test_allowed_targets_are_accepted(strict: Harness, fields: dict[str, Any]) -> None:
    assert refused(strict, **fields) == []


URL, TASK, QUEUE, WAY = (
    "an https:// URL",
    "a task of ORCHESTRATOR_NOTIFY_TASKS",
    "a queue of",
    "left out",
)


def test_a_refusal_has_the_field_the_value_and_the_allowed_values(strict: Harness) -> None:
    for fields, field, allowed in [
        ({"notify_url": "http://shop.example.com/"}, "notify_url", URL),
        ({"notify_url": "https://localhost/"}, "notify_url", URL),
        ({"notify_url": "https://127.0.0.1/"}, "notify_url", URL),
        ({"notify_url": "https://10.1.2.3/"}, "notify_url", URL),
        ({"notify_url": "https://169.254.169.254/latest"}, "notify_url", URL),
        ({"notify_url": "https://[::1]/"}, "notify_url", URL),
        ({"notify_url": "https://shop.example.com:6379/"}, "notify_url", URL),
        ({"notify_url": "ftp://shop.example.com/"}, "notify_url", URL),
        ({"notify_url": "//shop.example.com/"}, "notify_url", URL),
        ({"notify_url": "shop"}, "notify_url", URL),
        ({"notify_task": "store.told"}, "notify_task", TASK),
        ({"notify_task": "shop"}, "notify_task", TASK),
        ({"notify_task": "Shop.told"}, "notify_task", TASK),
        ({"notify_task": "my.shop.told"}, "notify_task", TASK),
        ({"notify_task": "billing.paid.twice"}, "notify_task", TASK),
        ({"notify_task": "orchestrator.enqueue"}, "notify_task", TASK),
        (
            {"notify_task": "shop.told", "notify_queue": "orchestrator.steps"},
            "notify_queue",
            QUEUE,
        ),
        (
            {"notify_task": "shop.told", "notify_queue": "{orch:0}:events:job_1"},
            "notify_queue",
            QUEUE,
        ),
        ({"notify_queue": "shop"}, "notify_queue", "left out without notify_task"),
        (
            {"notify_stream": "shop", "notify_queue": "shop"},
            "notify_queue",
            "left out without notify_task",
        ),
        (
            {"notify_task": "shop.told", "notify_url": PUBLIC},
            "notify_task",
            "left out when notify_url is given",
        ),
        (
            {"notify_url": PUBLIC, "notify_stream": "shop"},
            "notify_stream",
            "left out when notify_url is given",
        ),
        (
            {"notify_task": "shop.told", "notify_stream": "shop"},
            "notify_stream",
            "left out when notify_task is given",
        ),
    ]:
        [violation] = refused(strict, **fields)

        assert (violation.field, violation.value) == (field, fields[field])
        assert violation.allowed.startswith(allowed)


def test_a_refused_task_names_the_allowed_tasks(strict: Harness) -> None:
    [some] = refused(strict, notify_task="store.told")
    [none] = refused(strict.with_settings(notify_tasks=()), notify_task="store.told")

    assert some.allowed.endswith("ORCHESTRATOR_NOTIFY_TASKS: shop.*, billing.paid")
    assert "ORCHESTRATOR_NOTIFY_TASKS: none" in none.allowed


@pytest.mark.parametrize("task", ["orchestrator.enqueue", "orchestrator.", "orchestrator.submit"])
def test_our_own_tasks_are_never_allowed(strict: Harness, task: str) -> None:
    assert refused(strict.with_settings(notify_tasks=("*",)), notify_task=task)
    assert not refused(strict.with_settings(notify_tasks=("*",)), notify_task="orchestratorx.told")


def test_without_a_secret_a_notify_url_is_refused(start: Callable[..., Harness]) -> None:
    harness = start()

    [violation] = refused(harness, notify_url=PUBLIC)

    assert violation.field == "notify_url"
    assert "ORCHESTRATOR_NOTIFY_SECRET" in violation.allowed
    assert refused(harness, notify_stream="shop") == []


def test_listed_hosts_are_allowed(start: Callable[..., Harness]) -> None:
    harness = start(
        ORCHESTRATOR_NOTIFY_SECRET=SECRET, ORCHESTRATOR_ALLOW_HOSTS="shop.internal:8000, 10.0.0.0/8"
    )

    assert refused(harness, notify_url="http://shop.internal:8000/hooks") == []
    assert refused(harness, notify_url="https://10.1.2.3/hooks") == []
    assert refused(harness, notify_url="http://shop.internal:8001/hooks")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "https://me:hunter2@shop.example.com/a?key=hunter2#hunter2",
            "https://***@shop.example.com/a",
        ),
        ("https://user:hunter2?x@shop.example.com/a", "https://***@shop.example.com/a"),
        ("HTTPS://hunter2@hunter2@localhost/", "HTTPS://***@localhost/"),
        ("user:hunter2@shop.example.com/a", "***@shop.example.com/a"),
        ("http://shop.example.com/a?key=hunter2", "http://shop.example.com/a"),
        ("http://shop.example.com/a#hunter2", "http://shop.example.com/a"),
        ("ftp://user:hunter2//@shop.example.com", "***@shop.example.com"),
    ],
    ids=["password", "odd password", "two", "no scheme", "query", "fragment", "ftp"],
)
def test_secrets_in_a_refused_url_are_not_repeated(strict: Harness, url: str, shown: str) -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(InvalidRequest) as error:
        create_job(strict.runtime, {**EXAMPLE_REQUESTS["hiapi"], "notify_url": url}, scope="test")

    [violation] = error.value.violations
    assert violation.value == shown
    assert "hunter2" not in f"{error.value}{logs}"
    assert strict.redis.keys() == []


def test_a_refused_request_names_every_wrong_field(strict: Harness) -> None:
    bad = {
        "notify_url": "http://10.0.0.1/",
        "notify_task": "store.told",
        "notify_queue": "orchestrator.x",
    }

    with pytest.raises(InvalidRequest) as error:
        create_job(strict.runtime, {**EXAMPLE_REQUESTS["hiapi"], **bad}, scope="test")

    named = [violation.field for violation in error.value.violations]
    assert named == ["notify_task", "notify_url", "notify_task", "notify_queue"]


# A Celery task -------------------------------------------------------------------------------


@pytest.fixture
def on_broker(start: Callable[..., Harness], redis_url: str, real_redis: Redis) -> Harness:
    """A harness with a real broker."""
    return start(**VARIABLES, ORCHESTRATOR_BROKER_URL=redis_url)


def sent(redis: Redis, queue: str) -> list[dict[str, Any]]:
    """Return the messages of a queue, oldest first, with decoded bodies."""
    texts: Any = redis.lrange(queue, 0, -1)
    messages = [orjson.loads(text) for text in reversed(texts)]
    return [{**m, "body": orjson.loads(base64.b64decode(m["body"]))} for m in messages]


@pytest.mark.parametrize(
    ("fields", "queue"), [({}, "celery"), ({"notify_queue": "shop"}, "shop")], ids=["usual", "own"]
)
def test_a_task_is_sent_with_the_message_and_its_id(
    on_broker: Harness, real_redis: Redis, fields: dict[str, Any], queue: str
) -> None:
    job_id = job_states.ended(on_broker, notify_task="shop.told", **fields)
    view = job_view(on_broker.job(job_id), PUBLIC_URL)

    now = once(on_broker, job_id)

    assert (now.status, now.tries) == (DONE, 1)
    [message] = sent(real_redis, queue)
    assert message["headers"]["task"] == "shop.told"
    assert message["headers"]["id"] == f"msg_{job_id}"
    [args, named, _] = message["body"]
    assert named == {}
    [content] = args
    assert set(content) == {"type", "timestamp", "data"}
    assert content["type"] == "job.succeeded"
    assert {**content["data"], "notification": None} == {
        **parse(dump(view)),
        "notification": None,
    }


def test_a_broker_outage_is_retried_with_the_same_id(on_broker: Harness, real_redis: Redis) -> None:
    job_id = job_states.ended(on_broker, notify_task="shop.told")

    now = once(on_broker.with_runtime(broker=Broker(NOWHERE)), job_id)

    assert (now.status, now.tries) == (PENDING, 1)
    assert (now.error or "").startswith("the broker is away: ")
    assert wait(on_broker, job_id) == 5
    assert redis_holds(on_broker, "broker-password") == []
    assert again(on_broker, job_id).status is DONE
    [message] = sent(real_redis, "celery")
    assert message["headers"]["id"] == f"msg_{job_id}"


def test_a_queue_of_the_wrong_type_is_retried(on_broker: Harness, real_redis: Redis) -> None:
    real_redis.set("shop", "not a list")
    job_id = job_states.ended(on_broker, notify_task="shop.told", notify_queue="shop")

    now = once(on_broker, job_id)

    assert (now.status, now.tries) == (PENDING, 1)
    assert "WRONGTYPE" in (now.error or "")
    real_redis.delete("shop")
    assert again(on_broker, job_id).status is DONE


def test_an_error_of_the_broker_is_shortened(
    on_broker: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OperationalError("x" * 10_000)

    monkeypatch.setattr(type(on_broker.runtime.broker), "publish", broken)

    assert (
        len(once(on_broker, job_states.ended(on_broker, notify_task="shop.told")).error or "")
        == 200
    )


# A stream ------------------------------------------------------------------------------------


def test_a_stream_gets_the_message_and_its_id(harness: Harness) -> None:
    job_id = job_states.ended(harness, job_states.failure(), notify_stream="shop.v1")

    now = once(harness, job_id)

    assert (now.status, now.tries) == (DONE, 1)
    entries: Any = harness.redis.xrange("{orch:0}:stream:shop.v1")
    [(_, entry)] = entries
    assert set(entry) == {"id", "type", "body"}
    assert (entry["id"], entry["type"]) == (f"msg_{job_id}", "job.failed")
    content = parse(entry["body"])
    assert content["data"]["id"] == job_id
    assert content["data"]["error"]["code"] == "content_policy"
    assert keys.stream("shop.v1") == "{orch:0}:stream:shop.v1"


def test_a_stream_entry_that_cannot_be_added_is_repeated_after_the_lease(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = job_states.ended(harness, notify_stream="shop")

    def away(*_: Any) -> None:
        raise LedgerUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(type(harness.ledger.follow_ups), "publish", away)
        with pytest.raises(LedgerUnavailable):
            notify(harness.runtime, job_id)

    assert notification(harness, job_id).tries == 0
    assert again(harness, job_id).status is DONE
