"""What is different when the broker is RabbitMQ: options of connections, and kinds of queues.

Nudges are hints. Their queues are durable, because RabbitMQ 4.3 refuses others, but their messages
are transient and need no acknowledgement. An enqueue message is the only record of a request. Its
queue is a quorum queue, and each of its messages is confirmed by the broker and acknowledged by us.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from amqp.exceptions import PreconditionFailed
from kombu import Connection, Queue

#: Without a sign of life, a connection is closed after two of these intervals. Seconds.
HEARTBEAT_SECONDS = 10.0
#: The arguments of a queue that RabbitMQ keeps on most of its nodes.
QUORUM = {"x-queue-type": "quorum"}


def is_rabbitmq(url: str) -> bool:
    """Return whether the URL of a broker is that of RabbitMQ."""
    return urlsplit(url).scheme in ("amqp", "amqps")


def connection_options(answer_timeout: float, *, confirms: bool) -> dict[str, Any]:
    """Return options of a connection to RabbitMQ.

    Args:
        answer_timeout: RabbitMQ must answer within this time, seconds.
        confirms: a message counts as sent only when RabbitMQ has confirmed it.
    """
    return {
        "read_timeout": answer_timeout,
        "write_timeout": answer_timeout,
        "confirm_publish": confirms,
    }


def nudge_queue(name: str, url: str) -> Queue:
    """Return the queue of nudges with this name. RabbitMQ expects no acknowledgements."""
    return Queue(name, routing_key=name, no_ack=is_rabbitmq(url))


def quorum_queue(name: str, url: str) -> Queue:
    """Return a queue for messages that must not be lost. At RabbitMQ it is a quorum queue."""
    return Queue(name, routing_key=name, queue_arguments=QUORUM if is_rabbitmq(url) else None)


def has_other_type(connection: Connection, queue: Queue) -> bool:
    """Declare a queue. Return whether it already exists with other arguments.

    Raises:
        OSError: RabbitMQ is away.
    """
    with connection.channel() as channel:
        try:
            queue(channel).declare()
        except PreconditionFailed:
            return True
        return False
