"""Starts a process of Celery. `orchestrator worker`, `beat` and `intake` become this process.

python -m workers worker --queues orchestrator.steps,orchestrator.archive
python -m workers beat
python -m workers intake
"""

from __future__ import annotations

import sys

from celery.bin.celery import celery

#: Workers find their work in the ledger, so they need not know of each other.
ALONE = ("--without-gossip", "--without-mingle", "--without-heartbeat")
WORKER = ("worker", "--pool", "solo", *ALONE)
#: The application and the arguments of each process.
COMMANDS = {
    "worker": ("workers", *WORKER),
    "beat": ("workers", "beat", "--scheduler", "workers.beat_scheduler:WatchedScheduler"),
    "intake": ("workers.intake", *WORKER, "--queues", "orchestrator.enqueue"),
}


def main(name: str, *more: str) -> None:
    """Run a process until SIGTERM. `more` are options of the Celery command."""
    application, *arguments = COMMANDS[name]
    # Celery looks in the working directory first, but this package is imported already.
    options = ["--quiet", "--app", application, *arguments, *more]
    celery(options, prog_name="celery", auto_envvar_prefix="CELERY")


if __name__ == "__main__":
    main(*sys.argv[1:])
