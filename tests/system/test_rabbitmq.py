"""RabbitMQ as the broker: what it confirms, what it drops, and that it may lose everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from uuid import uuid4

import pytest
from amqp.exceptions import PreconditionFailed
from celery import Celery
from click.testing import CliRunner
from kombu import Connection, Queue

from orchestrator.cli import main
from orchestrator.messages import ARCHIVE_QUEUE, ENQUEUE_QUEUE, QUEUE, Broker, Unroutable
from orchestrator.operations.check_broker import check_broker
from orchestrator.runtime import default_runtime
from orchestrator.servers.rabbitmq import QUORUM, has_other_type, quorum_queue
from tests.support import job_states
from tests.support.debian import missing, program
from tests.support.fakes import Harness
from tests.support.fork_server import ForkedStack
from tests.support.notify_kit import VARIABLES, again, once
from tests.support.providers import EXAMPLE_REQUESTS
from tests.support.rabbitmq import RabbitMQ
from tests.system.conftest import ONE_WEB_PROCESS, TIMES, Client, eventually

pytestmark = pytest.mark.server

PACKAGE = "rabbitmq-server"


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    if program(PACKAGE) is None:
        pytest.skip(missing(PACKAGE))
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as running:
        yield running


def declare(url: str, queue: Queue) -> None:
    with Connection(url) as connection, connection.channel() as channel:
        queue(channel).declare()


def consumers(url: str, name: str) -> int:
    """The number of processes that read a queue. None reads one that does not exist."""
    with Connection(url) as connection, connection.channel() as channel:
        try:
            return int(channel.queue_declare(name, passive=True).consumer_count)
        except connection.channel_errors:
            return 0


def test_a_notification_to_a_queue_that_nobody_declared_is_tried_again(
    start: Callable[..., Harness], rabbitmq: RabbitMQ
) -> None:
    harness = start(**VARIABLES, ORCHESTRATOR_BROKER_URL=rabbitmq.url)
    job_id = job_states.ended(harness, notify_task="shop.told", notify_queue="shop")

    failed = once(harness, job_id)

    assert failed.status == "pending"
    assert failed.tries == 1
    assert "no queue named 'shop'" in (failed.error or "")

    declare(rabbitmq.url, Queue("shop"))
    assert again(harness, job_id).status == "done"
    assert harness.runtime.broker.waiting(["shop"]) == {"shop": 1}
    harness.runtime.broker.close()


def test_a_nudge_without_a_queue_is_dropped(rabbitmq: RabbitMQ) -> None:
    with closing(Broker(rabbitmq.url)) as broker:
        broker.publish("a.task", [], queue="nobody", message_id="1")

    with closing(Broker(rabbitmq.url, confirms=True)) as broker, pytest.raises(Unroutable):
        broker.publish("a.task", [], queue="nobody", message_id="1")


def test_doctor_looks_at_the_queue_without_declaring_it(
    harness: Harness, rabbitmq: RabbitMQ
) -> None:
    settings = replace(harness.runtime.settings, broker_url=rabbitmq.url)
    broker = Broker(rabbitmq.url)
    [result] = check_broker(settings, broker)
    assert result.mark == "ok"
    assert result.found.startswith("a message came back")
    with Connection(rabbitmq.url) as connection, connection.channel() as channel:  # noqa: SIM117
        with pytest.raises(connection.channel_errors):
            channel.queue_declare(QUEUE, passive=True)


@pytest.mark.parametrize("name", ["worker", "beat", "intake"])
def test_a_process_that_rabbitmq_refuses_does_not_start(
    name: str, rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    for wrong in (rabbitmq.url.replace("guest@", "wrong@"), f"{rabbitmq.url[:-1]}nowhere"):
        monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", redis_url)
        monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", wrong)
        default_runtime.cache_clear()
        result = CliRunner().invoke(main, [name])
        default_runtime.cache_clear()

        assert result.exit_code == 2, result.output
        assert "Correct ORCHESTRATOR_BROKER_URL" in result.output
        assert result.output.count("\n") == 1


def test_a_queue_of_another_kind_is_found(rabbitmq: RabbitMQ) -> None:
    declare(rabbitmq.url, Queue("classic"))
    with Connection(rabbitmq.url) as connection:
        assert has_other_type(connection, quorum_queue("classic", rabbitmq.url))
        assert not has_other_type(connection, quorum_queue("quorum", rabbitmq.url))
        assert not has_other_type(connection, quorum_queue("quorum", rabbitmq.url))


@pytest.mark.slow
def test_a_broker_that_loses_everything_loses_no_job(rabbitmq: RabbitMQ) -> None:
    settings = {**TIMES, **ONE_WEB_PROCESS, "ORCHESTRATOR_BROKER_URL": rabbitmq.url}
    processes = ("web", "worker", "beat", "intake")
    with ForkedStack(processes, task_seconds=0.5, settings=settings) as stack:
        client = Client(stack)
        send(rabbitmq.url, "before")
        eventually(lambda: client.tasks("before"))
        with pytest.raises(PreconditionFailed):
            declare(rabbitmq.url, Queue(ENQUEUE_QUEUE, queue_arguments={"x-queue-type": "classic"}))
        jobs = {text: client.enqueue("hiapi", text) for text in ("a", "b", "c")}
        rabbitmq.kill()
        jobs |= {text: client.enqueue("evolink", text) for text in ("d", "e", "f")}

        rabbitmq.empty()

        for text, job_id in jobs.items():
            assert client.outcome(job_id)["status"] == "succeeded"
            assert len(client.tasks(text)) == 1
        for queue in (QUEUE, ARCHIVE_QUEUE, ENQUEUE_QUEUE):
            eventually(lambda queue=queue: consumers(rabbitmq.url, queue))  # type: ignore[misc]
        send(rabbitmq.url, "after")
        eventually(lambda: client.tasks("after"))


def send(url: str, text: str) -> None:
    """What another service does. The queue is the one that intake reads."""
    with Celery(broker=url, set_as_current=False) as service:
        service.conf.update(
            task_queues=[Queue(ENQUEUE_QUEUE, queue_arguments=QUORUM)],
            broker_transport_options={"confirm_publish": True},
        )
        request = {**EXAMPLE_REQUESTS["hiapi"], "prompt": text}
        service.send_task(
            "orchestrator.enqueue", kwargs=request, queue=ENQUEUE_QUEUE, task_id=str(uuid4())
        )
