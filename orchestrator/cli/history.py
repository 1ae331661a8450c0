"""`orchestrator recorder` and `history`: the record of all jobs in SQL."""

from __future__ import annotations

import signal
from queue import Empty, SimpleQueue

import click

from orchestrator import log
from orchestrator.cli.output import Group, as_json, line, print_json, progress
from orchestrator.cli.processes import fitting_runtime
from orchestrator.heartbeat import Heartbeat
from orchestrator.runtime import default_runtime


class StopSignal:
    """Is set by a signal handler.

    `threading.Event` is not safe there: a handler that interrupts `wait` while this holds its lock
    waits for that lock for ever.
    """

    def __init__(self) -> None:
        self._stops: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """End the present wait, or the next one."""
        self._stops.put(None)

    def wait(self, timeout: float) -> bool:
        """Wait at most this many seconds. Return whether it was set."""
        try:
            self._stops.get(timeout=timeout)
        except Empty:
            return False
        return True


@click.command()
def recorder() -> None:
    """Run the recorder: write the changes of jobs to the history, until SIGTERM.

    Run one or more. Each shard has one writer at a time. While no recorder runs, everything else
    goes on, and lists of jobs come from Redis.
    """
    from orchestrator.history.recorder import Recorder  # noqa: PLC0415  # loads SQLAlchemy

    log.configure()
    runtime, stopping = fitting_runtime(), StopSignal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    log.get().info("recorder_started", history=runtime.history.place)
    heartbeat = Heartbeat(runtime, "recorder")
    heartbeat.start()
    Recorder(runtime.ledger, runtime.history, runtime.clock).run(stopping)
    runtime.history.close()
    heartbeat.stop()


@click.group(cls=Group)
def history() -> None:
    """Look after the history: the record of all jobs in SQL."""


@history.command()
@as_json
def rebuild(json_: bool) -> None:
    """Fill the history from the ledger and from the manifests in the archive.

    Use it after the stream of changes was cut, with a new database, or when `orchestrator verify`
    finds differences. Everything may run meanwhile. It may be interrupted and run again.
    """
    from orchestrator.operations import rebuild as operation  # noqa: PLC0415  # loads SQLAlchemy

    runtime = default_runtime()
    with progress(quiet=json_) as shown:
        bar = shown.add_task("reading jobs", total=None)
        result = operation.rebuild(runtime, advanced=lambda more: shown.advance(bar, more))
    if json_:
        print_json({"from_ledger": result.from_ledger, "from_manifests": result.from_manifests})
    else:
        line(f"jobs from the ledger: {result.from_ledger}, from manifests: {result.from_manifests}")
