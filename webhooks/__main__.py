"""Starts the web server. `orchestrator web` checks the settings, and then becomes this process.

python -m webhooks --host 127.0.0.1 --port 8080 --workers 2
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pkgutil import resolve_name

from granian.constants import HTTPModes, Interfaces, Loops
from granian.errors import FatalError
from granian.http import HTTP1Settings
from granian.server import Server

#: Connections that one process serves at once, and those that wait for it.
MAX_CONNECTIONS = 4096
#: A connection is closed when the headers of a request take longer. Milliseconds.
HEADER_TIMEOUT_MS = 10_000
#: A worker is killed when it has not stopped after this time. A request may wait a minute. Seconds.
STOP_TIMEOUT_SECONDS = 65


def main() -> None:
    """Serve until SIGTERM."""
    parser = ArgumentParser(prog="python -m webhooks", description="Start the web server.")
    parser.add_argument("--host", required=True, help="an IP address")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--workers", required=True, type=int)
    parser.add_argument("--header-timeout-ms", default=HEADER_TIMEOUT_MS, type=int)
    options = parser.parse_args()
    server = Server(
        "webhooks.server:app",
        address=options.host,
        port=options.port,
        workers=options.workers,
        interface=Interfaces.RSGI,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=options.header_timeout_ms),
        websockets=False,
        backlog=MAX_CONNECTIONS,
        backpressure=MAX_CONNECTIONS,
        workers_kill_timeout=STOP_TIMEOUT_SECONDS,
        respawn_failed_workers=True,
    )
    try:
        # Granian's own loader puts the working directory first in the module path.
        server.serve(target_loader=resolve_name)
    except FatalError:
        sys.exit(1)


if __name__ == "__main__":
    main()
