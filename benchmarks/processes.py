"""Starts processes for benchmarks, ends them by their ids, and reads their CPU time."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

#: A process is killed when it has not ended this long after SIGTERM. Seconds.
STOP_SECONDS = 10.0
#: A server must listen after this time. Seconds.
START_SECONDS = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Processes(AbstractContextManager["Processes"]):
    """Processes by name. The exit ends them and their children, the last one first.

    Args:
        folder: for a log file of each process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def __exit__(self, *_: object) -> None:
        for running in reversed(self.running.values()):
            end(running)
        self.running.clear()

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own. `options` go to Popen."""
        with (self._folder / f"{name}.log").open("ab") as output:
            self.running[name] = subprocess.Popen(
                command,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **options,
            )
        return self.running[name]

    def output(self) -> str:
        """Return the last output of the process that was started last."""
        name = next(reversed(self.running))
        return (self._folder / f"{name}.log").read_text("utf-8", "replace")[-2000:]

    def kill(self, name: str) -> None:
        """SIGKILL a process and its children."""
        kill(self.running.pop(name))


def end(running: subprocess.Popen[bytes]) -> None:
    """End a process and its children: by SIGTERM, and then by SIGKILL."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        running.wait(STOP_SECONDS)
    kill(running)


def kill(running: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process and its children."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and all its descendants so far. Seconds."""
    return sum(ticks(each) for each in family(pid)) / _TICKS


def ticks(pid: int) -> int:
    """Return user and system time, of the process and of its children that have ended."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return sum(int(fields[number]) for number in (11, 12, 13, 14))
    return 0


def family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text("utf-8").split():
                yield from family(int(child))


def wait_for(what: str, reached: Callable[[], object], seconds: float = START_SECONDS) -> None:
    """Wait until a function returns something true.

    Raises:
        TimeoutError: it does not in time. The message says what was waited for.
    """
    tick, ends = Event(), monotonic() + seconds
    while not reached():
        if monotonic() > ends:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        tick.wait(0.01)
