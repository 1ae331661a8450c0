"""Starts the workers of `web`, starts those again that have ended, and stops them."""

from __future__ import annotations

import logging
from time import monotonic

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

#: A stop waits so long for the current requests. A request may wait a minute. Seconds.
STOP_TIMEOUT_SECONDS = 65
#: A worker that still runs so long after the stop began is killed. It is less than what
#: docker-compose.yml and the units of systemd allow. Seconds.
KILL_SECONDS = STOP_TIMEOUT_SECONDS + 4

_log = logging.getLogger("uvicorn.error")


class Supervisor(Multiprocess):
    """A supervisor of uvicorn that waits for no worker that hangs. The arguments are uvicorn's."""

    def keep_subprocess_alive(self) -> None:
        """Start the workers again that have ended, unless one cannot start.

        Uvicorn's asks each worker whether it runs, and waits for its answer. No signal is handled
        during the wait, and a worker that ends then does not answer.
        """
        for index, worker in enumerate(self.processes):
            if worker.exitcode is None:
                continue
            if worker.exitcode == STARTUP_FAILURE:  # it would fail again
                self.should_exit.set()
                return
            _log.error(f"Worker [{worker.pid}] ended with {worker.exitcode}, and is started again")
            worker.kill()  # closes its pipe
            self.processes[index] = Process(self.config, self.sockets)
            self.processes[index].start()

    def terminate_all(self) -> None:
        """Stop the workers, and listen no more. A client would wait for nobody otherwise."""
        for listening in self.sockets:
            listening.close()
        super().terminate_all()

    def join_all(self) -> None:
        """Wait for the workers. Kill those that do not stop in time."""
        until = monotonic() + KILL_SECONDS
        for worker in self.processes:
            worker.process.join(max(0.0, until - monotonic()))
            if worker.exitcode is None:
                _log.error(f"Worker [{worker.pid}] did not stop in time, and is killed")
                worker.kill()
                worker.process.join()
