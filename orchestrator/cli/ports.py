"""Ports of this machine to listen at."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

from orchestrator.cli.stack_error import StackError

#: Ports below the range from which systems choose the ports of outgoing connections.
UNASSIGNED_PORTS = range(10_000, 32_768)


def free_port() -> int:
    """Return a free port on 127.0.0.1, which the system gives to no other program by itself."""
    while True:
        port = random.choice(UNASSIGNED_PORTS)  # noqa: S311  # not a secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def require_free_port(option: str, port: int) -> None:
    """Check that nothing listens on a port of 127.0.0.1.

    Args:
        option: the option of `dev` that chooses the port. make has a variable of the same name.
        port: the port.

    Raises:
        StackError: the port is in use. The message says how both choose another one.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            variable = option.removeprefix("--").replace("-", "_").upper()
            raise StackError(
                f"{option}: port {port} cannot be used ({error.strerror}). Stop the process that"
                f" listens on it, or choose another port: `orchestrator dev {option} N`, or with"
                f" make `make dev {variable}=N`."
            ) from None
