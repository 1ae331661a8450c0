"""Callers are told of outcomes by the real processes: by URL, Celery task and stream."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest
import requests
from celery import Celery
from celery.contrib.testing.worker import start_worker
from redis import Redis
from standardwebhooks import Webhook

from orchestrator.cli.stack import Stack
from orchestrator.ledger import keys
from orchestrator.steps.delivery import LEASE_MS
from tests.support.fakes import Answer, FakeProvider, ReceivedRequest, serving
from tests.support.providers import POLLED_WITH_KEYS
from tests.system.conftest import WAIT_SECONDS, Client, eventually

#: Deliveries to the slow host, all of which hang: more than it has slots.
HANGING = 15


@dataclass
class Shop:
    """A caller's server; what it is told, verified with the reference library, by job."""

    secret: str
    fake: FakeProvider = field(default_factory=FakeProvider)
    heard: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    #: Until this is set, and for no longer than 20 s, nothing is answered.
    answers: threading.Event = field(default_factory=threading.Event)
    #: How many are told to wait.
    waiting: list[str] = field(default_factory=list)

    def __call__(self, asked: ReceivedRequest) -> Answer:
        content = Webhook(self.secret).verify(asked.body, dict(asked.headers))
        job_id = content["data"]["id"]
        self.waiting.append(job_id)
        self.answers.wait(60)
        self.ids.append(asked.headers["webhook-id"])
        self.heard.setdefault(job_id, []).append(content)
        return Answer(204)

    @property
    def url(self) -> str:
        return f"{self.fake.url}/hooks?key=of-the-shop"


def secret(client: Client) -> str:
    return client.stack.env["ORCHESTRATOR_NOTIFY_SECRET"]


@pytest.fixture
def shop(client: Client) -> Iterator[Shop]:
    """A server that answers at once."""
    with opened(client) as shop:
        shop.answers.set()
        yield shop


@contextmanager
def opened(client: Client) -> Iterator[Shop]:
    """A server that answers when it is told to."""
    shop = Shop(secret(client))
    with serving(shop.fake):
        shop.fake.handler = shop
        try:
            yield shop
        finally:
            shop.answers.set()


@dataclass
class Bereft:
    """A job whose caller was being told when the worker was killed."""

    shop: Shop
    job_id: str
    killed_at: float


@pytest.fixture(scope="module", autouse=True)
def bereft(stack: Stack) -> Iterator[Bereft]:
    """Begun before all else, since its lease has to run out meanwhile."""
    client = Client(stack)
    with opened(client) as shop:
        job_id = client.enqueue("hiapi", str(uuid4()), notify_url=shop.url)
        eventually(lambda: shop.waiting)
        stack.kill("worker")
        killed_at = monotonic()
        stack.start("worker")
        shop.answers.set()
        yield Bereft(shop, job_id, killed_at)


def told(client: Client, job_id: str, status: str = "done") -> dict[str, Any]:
    """The notification once it is that far."""

    def look() -> Any:
        shown = client.job(job_id)["notification"]
        return shown if shown["status"] == status else None

    notification: dict[str, Any] = eventually(look, WAIT_SECONDS)
    return notification


# By URL --------------------------------------------------------------------------------------


def test_a_batch_is_told_once_when_every_job_has_its_outcome(client: Client, shop: Shop) -> None:
    prompts = [str(uuid4()) for _ in range(4)]
    jobs = [{"provider": "hiapi", "model": "Nano-Banana-2", "prompt": p} for p in prompts]
    answer = requests.post(
        f"{client.stack.web_url}/v1/jobs/batch",
        json={"jobs": [*jobs, {"provider": "hiapi"}], "notify_url": shop.url},
        headers=client.headers,
        timeout=60,
    )
    results, batch_id = answer.json()["results"], answer.json()["batch"]
    assert [entry["problem"]["status"] for entry in results[4:]] == [422]

    def completed() -> Any:
        url = f"{client.stack.web_url}/v1/batches/{batch_id}"
        batch = requests.get(url, params={"wait": 5}, headers=client.headers, timeout=60).json()
        sent = batch["notification"]["status"] == "done"
        return batch if batch["status"] == "completed" and sent else None

    batch = eventually(completed)

    assert {status: n for status, n in batch["counts"].items() if n} == {"succeeded": 4}
    [content] = shop.heard[batch_id]
    assert content["type"] == "batch.completed"
    assert content["data"]["counts"] == batch["counts"]
    assert shop.ids == [f"msg_{batch_id}"]
    assert [len(client.tasks(prompt)) for prompt in prompts] == [1] * 4
    assert {client.job(entry["job"]["id"])["batch"] for entry in results[:4]} == {batch_id}


def test_success_is_told_by_a_post_that_the_reference_library_verifies(
    client: Client, shop: Shop
) -> None:
    metadata = {"order": 7}
    job_id = client.enqueue("evolink", str(uuid4()), notify_url=shop.url, metadata=metadata)
    assert client.job(job_id)["notification"]["to"] == shop.fake.url.removeprefix("http://")

    now = told(client, job_id)

    [content] = shop.heard[job_id]
    job = client.job(job_id)
    assert content["type"] == "job.succeeded"
    assert content["timestamp"] == job["settled_at"]
    assert (now["attempts"], now["error"]) == (1, None)
    moving = {"archive", "notification", "images"}
    assert {k: v for k, v in content["data"].items() if k not in moving} == {
        k: v for k, v in job.items() if k not in moving
    }
    assert content["data"]["images"][0]["url"] == job["images"][0]["url"]
    assert shop.ids == [f"msg_{job_id}"]


def test_failure_is_told(client: Client, shop: Shop) -> None:
    text = f"{uuid4()} [sandbox: fail]"
    job_id = client.enqueue("hiapi", text, notify_url=shop.url)

    told(client, job_id)

    [content] = shop.heard[job_id]
    assert content["type"] == "job.failed"
    assert content["data"]["error"]["code"] == "content_policy"


def test_a_job_that_is_called_off_is_told(client: Client, shop: Shop) -> None:
    job_id = client.enqueue(POLLED_WITH_KEYS, f"{uuid4()} [sandbox: 429=60]", notify_url=shop.url)
    cancel = f"{client.stack.web_url}/v1/jobs/{job_id}/cancel"

    eventually(lambda: requests.post(cancel, headers=client.headers, timeout=60).ok)
    told(client, job_id)

    [content] = shop.heard[job_id]
    assert content["type"] == "job.cancelled"


def test_a_caller_is_told_again_with_the_same_id(client: Client, shop: Shop) -> None:
    job_id = client.enqueue("hiapi", str(uuid4()), notify_url=shop.url)
    told(client, job_id)

    again = f"{client.stack.web_url}/v1/jobs/{job_id}/notify"
    assert requests.post(again, headers=client.headers, timeout=60).status_code == 202

    eventually(lambda: len(shop.ids) == 2)
    assert set(shop.ids) == {f"msg_{job_id}"}


def test_one_that_is_refused_is_tried_again_after_five_seconds(client: Client, shop: Shop) -> None:
    answers = [Answer(503), Answer(200)]
    shop.fake.handler = lambda _: answers.pop(0)
    job_id = client.enqueue("hiapi", str(uuid4()), notify_url=shop.url)

    first = told(client, job_id, "pending")
    eventually(lambda: client.job(job_id)["notification"]["attempts"] == 1)
    now = told(client, job_id)

    assert first["attempts"] in {0, 1}
    assert now["attempts"] == 2
    one, two = (int(asked.headers["webhook-timestamp"]) for asked in shop.fake.requests)
    assert 4 <= two - one <= 9


# A slow host ---------------------------------------------------------------------------------


def test_one_slow_host_does_not_keep_another_waiting(client: Client, shop: Shop) -> None:
    with opened(client) as slow:
        hanging = [
            client.enqueue("hiapi", str(uuid4()), notify_url=slow.url) for _ in range(HANGING)
        ]
        for job_id in hanging:
            client.outcome(job_id)
        eventually(lambda: slow.waiting)

        job_id = client.enqueue("hiapi", str(uuid4()), notify_url=shop.url)
        client.outcome(job_id)
        eventually(lambda: job_id in shop.heard)

        assert len(slow.waiting) < HANGING
        assert slow.heard == {}
        slow.answers.set()
        for job_id in hanging:
            told(client, job_id)
        assert sorted(slow.ids) == sorted(f"msg_{job_id}" for job_id in hanging)


# By Celery task and by stream ----------------------------------------------------------------


def test_a_celery_worker_of_somebody_elses_is_told(client: Client) -> None:
    heard: list[tuple[str, Any]] = []
    queue = f"shop-{uuid4()}"

    with Celery(broker=client.stack.redis_url, set_as_current=False) as service:
        service.conf.update(task_ignore_result=True, worker_enable_remote_control=False)

        @service.task(name="shop.heard", bind=True)
        def shop_told(self: Any, message: dict[str, Any]) -> None:
            heard.append((self.request.id, message))

        with start_worker(service, pool="solo", perform_ping_check=False, queues=[queue]):
            way = {"notify_task": "shop.heard", "notify_queue": queue}
            job_id = client.enqueue("evolink", str(uuid4()), **way)
            eventually(lambda: heard)

    [(task_id, message)] = heard
    assert task_id == f"msg_{job_id}"
    assert (message["type"], message["data"]["id"]) == ("job.succeeded", job_id)
    assert told(client, job_id)["to"] == "shop.heard"


def test_a_stream_is_read_with_xread(client: Client) -> None:
    name = f"shop-{uuid4()}"
    job_id = client.enqueue("hiapi", str(uuid4()), notify_stream=name)

    with Redis.from_url(client.stack.redis_url or "", decode_responses=True) as redis:
        found: Any = redis.xread({keys.stream(name): "0"}, block=15_000)

    [[_, [(_, entry)]]] = found
    assert (entry["id"], entry["type"]) == (f"msg_{job_id}", "job.succeeded")
    assert job_id in entry["body"]
    assert told(client, job_id)["to"] == name


# A worker that dies --------------------------------------------------------------------------


def test_a_caller_whose_worker_was_killed_in_the_call_is_told_by_another(
    client: Client, bereft: Bereft
) -> None:
    now = told(client, bereft.job_id)

    assert now["attempts"] == 1
    [asked, again] = bereft.shop.fake.requests
    assert {each.headers["webhook-id"] for each in (asked, again)} == {f"msg_{bereft.job_id}"}
    apart = int(again.headers["webhook-timestamp"]) - int(asked.headers["webhook-timestamp"])
    assert apart >= LEASE_MS / 1000 - 1
    assert client.timeline(bereft.job_id).count("notify_done") == 1
