"""Starts the workers of `web`, starts those again that have ended, and stops them."""

from __future__ import annotations

import logging
import math
import socket
from collections import defaultdict
from time import monotonic

from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

#: A stop waits so long for the current requests. A request may wait a minute. Seconds.
STOP_TIMEOUT_SECONDS = 65
#: A worker that still runs so long after the stop began is killed. It is less than what
#: docker-compose.yml and the units of systemd allow. Seconds.
KILL_SECONDS = STOP_TIMEOUT_SECONDS + 4
#: A worker that ended is started again at once. When those after it end, too, there is this time
#: between two starts: it doubles from the first up to the longest. Seconds.
FIRST_INTERVAL_SECONDS, LONGEST_INTERVAL_SECONDS = 1.0, 30.0
#: After so long without a new start, the next one is at once again. Seconds.
STEADY_SECONDS = 300.0

_log = logging.getLogger("uvicorn.error")


class Supervisor(Multiprocess):
    """A supervisor of uvicorn that waits for no worker that hangs.

    Args:
        config: of the server.

    Raises:
        OSError: nothing can listen at its address.
    """

    def __init__(self, config: Config) -> None:
        #: When workers were started again, by their index.
        self._restarts = defaultdict[int, _Restarts](_Restarts)
        #: Workers that were told to stop, because others are in their places.
        self._retired: list[Process] = []
        self._bound = bound(config)
        super().__init__(config, [])

    @property
    def sockets(self) -> list[socket.socket]:
        """A new socket for the worker that is started now. The one before has its own by then.

        At one socket, a worker takes all connections that come at the same time. The system spreads
        them over several sockets of one address.
        """
        new = bound(self.config)  # first, so that nobody else gets the port meanwhile
        self._bound.close()
        self._bound = new
        return [new]

    @sockets.setter
    def sockets(self, _: object) -> None:
        """Keep none, because uvicorn sets it."""

    def run(self) -> None:
        """Run the workers until a signal. Whatever else ends this process stops them, too."""
        try:
            super().run()
        except BaseException:
            self.terminate_all()
            self.join_all()
            raise

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
            restarts = self._restarts[index]
            seconds = restarts.seconds_left()
            if restarts.note_end(worker):
                when = f" in {math.ceil(seconds)} s" if seconds > 0 else ""
                text = f"Worker [{worker.pid}] ended with {worker.exitcode}, and is started again"
                _log.error(text + when)
            if seconds <= 0:
                restarts.begin()
                if new := self._started():
                    worker.kill()  # closes its pipe
                    self.processes[index] = new

    def _started(self) -> Process | None:
        """Return a new worker, or None if the system starts none, as when memory is short."""
        try:
            worker = Process(self.config, self.sockets)
            worker.start()
        except OSError as error:
            _log.error(f"A worker cannot be started ({error.strerror})")
            return None
        return worker

    def restart_all(self) -> None:
        """Replace each worker, at SIGHUP, by a new one that serves. No old one is waited for."""
        for index, old in enumerate(self.processes):
            new = self._started()
            if new is None:
                return
            if not new.wait_until_ready(self.config.timeout_worker_healthcheck):
                _log.error(f"Worker [{new.pid}] does not serve, so [{old.pid}] is not replaced")
                new.kill()
                return
            self.processes[index] = new
            self._retire(old)

    def handle_ttou(self) -> None:
        """Stop one worker, unless it is the last one. It is not waited for."""
        if self.processes_num > 1:
            self.processes_num -= 1
            self._retire(self.processes.pop())

    def _retire(self, worker: Process) -> None:
        worker.terminate()
        running = [each for each in self._retired if each.exitcode is None]
        self._retired = [*running, worker]

    def terminate_all(self) -> None:
        """Stop the workers. Nobody waits at the socket that is left here."""
        self._bound.close()
        super().terminate_all()

    def join_all(self) -> None:
        """Wait for the workers. Kill those that do not stop in time."""
        until = monotonic() + KILL_SECONDS
        for worker in (*self._retired, *self.processes):
            worker.process.join(max(0.0, until - monotonic()))
            if worker.exitcode is None:
                _log.error(f"Worker [{worker.pid}] did not stop in time, and is killed")
                worker.kill()
                worker.process.join()


class _Restarts:
    """The starts in the place of workers that ended, one after another."""

    def __init__(self) -> None:
        self._last, self._interval = -math.inf, 0.0
        self._ended: Process | None = None

    def note_end(self, worker: Process) -> bool:
        """Return whether the end of this worker was not noted before."""
        is_new = worker is not self._ended
        self._ended = worker
        return is_new

    def seconds_left(self) -> float:
        """Return the time until the next start. It is not positive when the start is due."""
        return self._last + self._interval - monotonic()

    def begin(self) -> None:
        """Note that a worker is started now."""
        now = monotonic()
        is_steady = now - self._last > STEADY_SECONDS
        longer = min(2 * self._interval, LONGEST_INTERVAL_SECONDS)
        self._last, self._interval = now, FIRST_INTERVAL_SECONDS if is_steady else longer


def bound(config: Config) -> socket.socket:
    """Return a socket at the address of a server. A worker begins to listen when it can serve.

    The workers of a server that was killed a moment ago may still listen there.

    Raises:
        OSError: nothing can listen there.
    """
    is_ipv6 = ":" in config.host
    one = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if is_ipv6:  # `::` takes IPv4, too
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.bind((config.host, config.port))
    except BaseException:
        one.close()
        raise
    return one
