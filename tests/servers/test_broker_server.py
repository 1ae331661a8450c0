"""What kombu gets for each URL of the broker."""

from __future__ import annotations

import pytest

from orchestrator.servers.broker_server import BrokerServer
from orchestrator.servers.url_parts import BadServerUrl
from tests.support.cases import for_each


@for_each(
    ("url", "shown"),
    [
        ("redis://h", "redis://h:6379/0"),
        ("redis://h?db=5", "redis://h:6379/5"),
        ("REDIS://:p%40@h:1/5", "redis://:p%40@h:1/5"),
        ("redis://[::1]/5", "redis://[::1]:6379/5"),
        ("rediss://h/1?socket_timeout=3", "rediss://h:6379/1"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
        ("unix://u:p@/run/redis.sock?db=5", "redis+socket://u:p@/run/redis.sock?virtual_host=5"),
        (
            "redis+socket:///run/redis.sock?virtual_host=2",
            "redis+socket:///run/redis.sock?virtual_host=2",
        ),
        (
            "sentinel://u:p@a,b:1/3?master_name=m",
            "sentinel://u:p@a:26379/3;sentinel://u:p@b:1/3",
        ),
        (
            "redis+socket:///run/virtual_host=/s?virtual_host=2",
            "redis+socket:///run/virtual_host%3D/s?virtual_host=2",
        ),
        ("amqp://mq", "amqp://mq:5672/"),
        ("amqp://mq//", "amqp://mq:5672/%2F"),
        ("amqps://u:p@mq/shop?heartbeat=30", "amqps://u:p@mq:5671/shop?heartbeat=30"),
    ],
)
def test_a_url_becomes_kombus(url: str, shown: str) -> None:
    assert BrokerServer.parse(url).url == shown


def test_options_go_to_the_transport() -> None:
    server = BrokerServer.parse("sentinel://a?master_name=m&socket_timeout=3&client_name=x")

    assert server.transport_options["master_name"] == "m"
    assert server.transport_options["socket_timeout"] == 3.0
    assert server.transport_options["client_name"] == "x"


@for_each(
    ("url", "allowed"),
    [
        ("sqs://", "begins with redis://"),
        ("amqp://", "names a host"),
        ("amqp://a,b", "one host"),
        ("amqp://a?hartbeat=1", "did you mean heartbeat"),
        ("amqp://a?ssl_cert_reqs=none", "without the option ssl_cert_reqs"),
        ("redis://h?db=x", "db=a whole number"),
        ("amqp://h%3A1", "port"),
    ],
)
def test_a_wrong_url_is_refused(url: str, allowed: str) -> None:
    with pytest.raises(BadServerUrl) as error:
        BrokerServer.parse(url)

    assert allowed in str(error.value)


def test_a_broker_shows_no_password() -> None:
    assert "pass" not in repr(BrokerServer.parse("amqp://u:pass@mq"))
