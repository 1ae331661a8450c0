"""`orchestrator mcp`: checks its settings, and becomes the MCP server."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from ipaddress import ip_address

import click

from orchestrator.cli.processes import CannotStart, free_address
from orchestrator.settings.mcp_settings import McpSettings

#: What installs the MCP SDK.
FIX = "Run pip install 'image-orchestrator[mcp]'"


@click.command()
@click.option(
    "--http",
    "address",
    metavar="HOST:PORT",
    help="Serve agents over HTTP at this address, at the path /mcp. Without it, one agent is served"
    " on stdin and stdout.",
)
def mcp(address: str | None) -> None:
    """Run the MCP server: image jobs as tools for agents.

    It calls the HTTP API at ORCHESTRATOR_MCP_API_URL, by default http://127.0.0.1:8080, and needs
    no other setting of the installation. An agent starts it as a program and speaks on stdin and
    stdout; then the API key is ORCHESTRATOR_MCP_KEY. With --http, each agent sends its own API key
    in the header Authorization, as it does to the API, and sees only its own jobs.

    With --http it speaks plain HTTP, so a proxy with TLS stands in front of it. At another address
    than one of this machine, ORCHESTRATOR_MCP_HOSTS must have the names under which agents reach
    it. It stops at SIGTERM, after the current calls.
    """
    if find_spec("mcp") is None:
        raise CannotStart(f"the MCP SDK is not installed. {FIX}.")
    settings = McpSettings.from_env()
    arguments = []
    if address is None:
        settings.needed_key()
    else:
        host, port = _parts(address)
        found = free_address(host, port, "--http")
        if not ip_address(found).is_loopback and not settings.hosts:
            raise CannotStart(
                f"{host} can be reached from other machines, and ORCHESTRATOR_MCP_HOSTS is not set."
                " Set it to the names under which agents reach it, such as agents.example.com."
            )
        arguments = ["--host", found, "--port", str(port)]
    command = [sys.executable, "-P", "-m", "orchestrator.mcp_server", *arguments]
    os.execv(command[0], command)  # noqa: S606


def _parts(address: str) -> tuple[str, int]:
    """Return the host and the port of `host:port`; an IPv6 address stands in brackets.

    Raises:
        BadParameter: it has another form.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise click.BadParameter("HOST:PORT is needed, such as 127.0.0.1:8090", param_hint="--http")
    return host.removeprefix("[").removesuffix("]"), int(port)
