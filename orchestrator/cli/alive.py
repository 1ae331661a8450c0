"""`orchestrator alive`: a health check of one process, for Kubernetes and Docker."""

from __future__ import annotations

import socket

import click

from orchestrator.cli.output import lines
from orchestrator.cli.processes import PROCESSES
from orchestrator.ledger import LedgerUnavailable
from orchestrator.runtime import default_runtime

#: A process that gave no sign of life for this long hangs as a whole. It gives one every 5 s.
HANGS_AFTER_MS = 60_000


@click.command()
@click.argument("process", type=click.Choice(PROCESSES))
def alive(process: str) -> None:
    """Check that a process of this host, or of this container, gives signs of life.

    Exit status 1 if its last sign is older than a minute. While Redis does not answer, nothing can
    be said, and the exit status is 0: a restart would not help, and a worker would lose the answers
    of providers that it holds until Redis is back.
    """
    runtime, host = default_runtime(), socket.gethostname()
    try:
        known = runtime.ledger.processes.known()
        now = runtime.clock()
    except LedgerUnavailable as error:
        lines(f"Redis does not answer ({error}). The process is not restarted for that.")
        return
    seen = max((p.seen_at for p in known if (p.kind, p.host) == (process, host)), default=None)
    if seen is None:
        raise click.ClickException(f"No {process} of {host} has given a sign of life.")
    seconds = (now - seen) // 1000
    if now - seen > HANGS_AFTER_MS:
        raise click.ClickException(f"{process} of {host} gave its last sign {seconds} s ago.")
    lines(f"{process} of {host} gave a sign of life {seconds} s ago.")
