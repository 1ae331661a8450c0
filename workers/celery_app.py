"""Makes Celery applications on our broker."""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery

from orchestrator.runtime import Runtime, default_runtime
from orchestrator.servers.broker_server import BrokerServer
from orchestrator.servers.rabbitmq import HEARTBEAT_SECONDS
from orchestrator.settings.environment import ConfigError


def process_runtime() -> Runtime:
    """Return the runtime of this process. A wrong setting ends the process with one line."""
    try:
        return default_runtime()
    except ConfigError as error:
        sys.exit(f"orchestrator: {error}")


def broker_url() -> str:
    """Return the URL of the broker."""
    return process_runtime().settings.broker_url


def celery_app(name: str, **settings: Any) -> Celery:
    """Return a Celery application on our broker. A wrong setting ends the process with one line."""
    server = BrokerServer.parse(broker_url())
    app = Celery(name, broker=server.url, set_as_current=False)
    app.conf.update(
        broker_use_ssl=server.ssl,
        broker_heartbeat=HEARTBEAT_SECONDS,  # of RabbitMQ
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A Redis that refuses writes since a failover ends the worker otherwise.
        broker_channel_error_retry=True,
        worker_disable_rate_limits=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        enable_utc=True,
        **settings,
    )
    return app
