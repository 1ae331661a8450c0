"""Starts the web server. `orchestrator web` checks the settings, and then becomes this process.

python -m webhooks --host 127.0.0.1 --port 8080 --workers 2
"""

from __future__ import annotations

import logging
import sys
from argparse import ArgumentParser

from uvicorn import Config
from uvicorn._types import ASGI3Application
from uvicorn.config import STARTUP_FAILURE

from orchestrator import log
from webhooks.connection import MAX_CONNECTIONS, Connection
from webhooks.supervisor import STOP_TIMEOUT_SECONDS, Supervisor

#: A connection without a request is closed after this time. Seconds.
IDLE_SECONDS = 75
#: After SIGHUP, each new worker may take so long until it serves. Seconds.
START_SECONDS = 60


def main() -> None:
    """Serve until SIGTERM."""
    parser = ArgumentParser(prog="python -m webhooks", description="Start the web server.")
    parser.add_argument("--host", required=True, help="an IP address")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--workers", required=True, type=int)
    options = parser.parse_args()
    log.configure()
    config = server_config(options.host, options.port, options.workers)
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)  # of this process alone
    try:
        supervisor = Supervisor(config)
    except OSError as error:
        sys.exit(f"cannot listen at {options.host}, port {options.port}: {error.strerror}")
    log.get().info("web_starting", host=options.host, port=options.port, workers=options.workers)
    supervisor.run()
    if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
        sys.exit(1)


def server_config(
    host: str, port: int, workers: int, app: str | ASGI3Application = "webhooks.server:app"
) -> Config:
    """Return the options of uvicorn.

    Args:
        host: an IP address.
        port: of this machine.
        workers: the number of processes.
        app: an ASGI application, or where each process finds it.
    """
    return Config(
        app,
        host=host,
        port=port,
        workers=workers,
        interface="asgi3",
        loop="uvloop",
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=MAX_CONNECTIONS,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_TIMEOUT_SECONDS,
        timeout_worker_healthcheck=START_SECONDS,
    )


if __name__ == "__main__":
    main()
