"""A TCP proxy whose connections can fall silent without closing, as after a failover."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import AbstractContextManager, suppress
from typing import Self

#: How often a pump looks whether it is to be silent. Seconds.
TICK = 0.1
CHUNK = 65_536


class Wire(AbstractContextManager["Wire"]):
    """Listens on `port` and passes everything on to another port of this machine."""

    def __init__(self, target: int) -> None:
        #: The port that new connections reach.
        self.target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._silences = 0
        self._held: list[socket.socket] = []
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._listen, name="wire", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._server.close()
        for held in self._held:
            held.close()

    def fall_silent(self) -> None:
        """Let every connection of now hang, open and dead; new ones work."""
        self._silences += 1

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                pump = (near, far, self._silences)
                threading.Thread(target=self._pump, args=pump, daemon=True).start()

    def _pump(self, near: socket.socket, far: socket.socket, silences: int) -> None:
        with far, suppress(OSError):
            while not self._closed.is_set():
                if self._silences != silences:
                    self._held.append(near)
                    return
                for ready in select.select([near, far], [], [], TICK)[0]:
                    data = ready.recv(CHUNK)
                    if not data:
                        near.close()
                        return
                    (far if ready is near else near).sendall(data)
        if near not in self._held:
            near.close()
