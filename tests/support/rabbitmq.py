"""A RabbitMQ server for tests, from Debian's package. It listens on 127.0.0.1 only."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO, Self

from kombu import Connection

from orchestrator.cli.ports import free_port
from tests.ledger.kit import eventually

#: Debian's wrapper in /usr/sbin changes the user and the folders. This is the program itself.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class RabbitMQ(AbstractContextManager["RabbitMQ"]):
    """A server with its own port mapper, cookie and data. It runs between enter and exit.

    Args:
        folder: for data and logs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._mapper_port = free_port(), free_port()
        self._running: list[subprocess.Popen[bytes]] = []
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}//"

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "epmd.log").open("ab") as log:
            self._mapper = subprocess.Popen(
                ["epmd", "-address", "127.0.0.1", "-port", str(self._mapper_port)],
                stdout=log,
                stderr=log,
            )
        eventually(lambda: _listens(self._mapper_port))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._mapper.kill()
        self._mapper.wait()

    def start(self) -> None:
        """Start the server. Return when it answers."""
        with (self._folder / "server.log").open("ab") as log:
            self._running.append(self._start(log))
        eventually(self._answers, every=0.05)

    def kill(self) -> None:
        """SIGKILL the server."""
        while self._running:
            server = self._running.pop()
            with suppress(ProcessLookupError):
                os.killpg(server.pid, 9)
            server.wait()

    def empty(self) -> None:
        """Kill the server, delete its data, and start it again."""
        self.kill()
        shutil.rmtree(self._folder / "data")
        self.start()

    def _start(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        folder = self._folder
        (folder / "plugins").write_text("[].\n", "utf-8")
        environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "RABBITMQ_NODENAME": "tests@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                # +sbwt: its threads do not wait by running.
                "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +SDcpu 1 +SDio 1"
                " +sbwt none +sbwtdcpu none +sbwtdio none"
            ),
        }
        return subprocess.Popen(
            [SERVER],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _answers(self) -> bool:
        with suppress(OSError), Connection(self.url, connect_timeout=2) as connection:
            connection.connect()
            return True
        return False


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
