"""Tells the ledger that this process lives, in a thread.

It says that the process runs, not that it works: the sweeps and the health checks show that.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from orchestrator import log
from orchestrator.forks import renew_in_children
from orchestrator.ledger import LedgerMismatch, LedgerUnavailable
from orchestrator.ledger.processes import FORGOTTEN_MS, Process
from orchestrator.runtime import Runtime

#: Time between two signs of life. Each is one command. Seconds.
HEARTBEAT_SECONDS = 5.0
#: A stop waits this long for a sign of life that is on its way. Seconds.
STOP_SECONDS = 1.0

Kind = Literal["web", "worker", "beat", "intake", "recorder"]


class Heartbeat:
    """Records this process until it stops. Redis may be away: nothing is raised.

    Args:
        runtime: of this process.
        kind: of this process.
    """

    def __init__(self, runtime: Runtime, kind: Kind) -> None:
        self._runtime = runtime
        self._kind = kind
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """In the child of a fork, be silent. The parent's entry stays."""
        self._stopped = threading.Event()
        self._recording = threading.Lock()
        self._process: Process | None = None
        self._away = self._misfit = False

    def start(self) -> None:
        """Record the process in a thread, and remove it when the process ends."""
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Remove the entry of the process. While Redis is away, the entry stays for an hour."""
        self._stopped.set()
        # A record that is on its way must not come after the removal.
        if self._away or not self._recording.acquire(timeout=STOP_SECONDS):
            return
        try:
            process, self._process = self._process, None
            if process is not None:
                self._runtime.ledger.processes.forget(process)
        except LedgerUnavailable as error:
            log.get().debug("heartbeat_not_removed", reason=str(error))
        finally:
            self._recording.release()

    def beat(self) -> None:
        """Record the process once. The first time, remove the entries of forgotten ones.

        Raises:
            LedgerMismatch: this process must begin no work any more.
            LedgerUnavailable: Redis is away.
        """
        processes, now = self._runtime.ledger.processes, self._runtime.clock()
        if self._process is None:
            processes.forget(*(p for p in processes.known() if now - p.seen_at > FORGOTTEN_MS))
            host, pid = socket.gethostname(), os.getpid()
            self._process = Process(self._kind, host, pid, product_version(), now, now)
        self._process = replace(self._process, seen_at=now)
        processes.record(self._process)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._recording:
                    if not self._stopped.is_set():
                        self.beat()
                self._away = self._misfit = False
            except LedgerMismatch as error:
                self._away = False
                if not self._misfit:
                    log.get().error("process_does_not_fit", reason=str(error))
                self._misfit = True
            except Exception as error:
                # Other lines say that Redis is away. Nothing may end the process.
                self._away = True
                log.get().debug("heartbeat_failed", reason=str(error))
            self._stopped.wait(HEARTBEAT_SECONDS)


def product_version() -> str:
    """Return the version of the product, or `unknown` when it runs without being installed."""
    try:
        return version("image-orchestrator")
    except PackageNotFoundError:
        return "unknown"
