"""Starts the MCP server. `orchestrator mcp` checks the settings, and then becomes this process.

python -m orchestrator.mcp_server [--host 127.0.0.1 --port 8090]
"""

from __future__ import annotations

import logging
import sys
from argparse import ArgumentParser
from contextlib import suppress

import anyio
from mcp.server.stdio import stdio_server

from orchestrator import log
from orchestrator.mcp_server.http import serve
from orchestrator.mcp_server.server import make_server
from orchestrator.security.secret import Secret
from orchestrator.settings.environment import ConfigError
from orchestrator.settings.mcp_settings import McpSettings


def main() -> None:
    """Serve one agent on stdin and stdout, or agents over HTTP."""
    parser = ArgumentParser(prog="python -m orchestrator.mcp_server")
    parser.add_argument("--host", help="an IP address; without it, stdin and stdout are used")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    configure_log()
    try:
        settings = McpSettings.from_env()
        if options.host is None:
            key = settings.needed_key()
    except ConfigError as error:
        sys.exit(str(error))
    if options.host is not None:
        serve(settings.url, settings.hosts, options.host, options.port)
    else:
        with suppress(KeyboardInterrupt):
            anyio.run(_serve_one, settings.url, key)


def configure_log() -> None:
    """Log to stderr. Errors of libraries have no text: one may hold a prompt or a header."""
    log.configure(logging.WARNING)

    def hide(record: logging.LogRecord) -> bool:
        if isinstance(record.exc_info, tuple) and record.exc_info[0]:
            record.msg = f"{record.getMessage()} ({record.exc_info[0].__name__})"
            record.args, record.exc_info, record.exc_text = None, None, None
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(hide)


async def _serve_one(base_url: str, key: Secret) -> None:
    """Serve the agent that started this process, until it closes stdin or dies."""
    server = make_server(base_url, lambda _: key.reveal())
    try:
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())
    except* BrokenPipeError:  # the agent was killed while an answer was written
        pass


if __name__ == "__main__":
    main()
