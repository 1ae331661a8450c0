"""Closes incoming connections on which nothing was sent for a long time.

Its client may be gone, or it may send its request too slowly. A connection whose answer is held is
left alone: the wait for an image may take longer, and it has an end of its own.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

from orchestrator import log

#: A connection on which nothing was sent for this long is closed. The limit is longer than the
#: longest `?wait=`, and than the largest body takes at 150 kB/s. Seconds.
MAX_SILENCE_SECONDS = 75.0
#: Interval of the checks. Seconds.
CHECK_INTERVAL_SECONDS = 5.0
#: Offset of `tcpi_last_data_sent` (ms ago) in Linux' struct tcp_info, and the part that is read.
_LAST_SENT_OFFSET, _INFO_BYTES = 44, 104


def start_closing(is_held: Callable[[str], bool]) -> None:
    """Start a thread that closes silent connections. Only Linux reports the silence.

    Args:
        is_held: returns whether an answer is held for a client: `127.0.0.1:5000`, `[::1]:5000`.
    """
    if sys.platform == "linux":
        threading.Thread(
            target=_close_for_ever, args=(is_held,), name="idle-connections", daemon=True
        ).start()


def _close_for_ever(is_held: Callable[[str], bool]) -> None:
    never = threading.Event()
    while not never.wait(CHECK_INTERVAL_SECONDS):
        try:
            closed = close_silent(MAX_SILENCE_SECONDS, is_held)
        except Exception as error:  # noqa: BLE001  # without the thread, none would be closed
            log.get().error("connections_not_checked", reason=f"{type(error).__name__}: {error}")
            continue
        if closed:
            reason = f"nothing was sent for {MAX_SILENCE_SECONDS:g} s"
            log.get().warning("connections_closed", number=closed, reason=reason)


def close_silent(seconds: float, is_held: Callable[[str], bool] = lambda _: False) -> int:
    """Close incoming connections on which nothing was sent for `seconds`. Return their number."""
    closed, ports = 0, set()
    for one in _sockets():
        with closing(one), suppress(OSError):
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                ports.add(one.getsockname()[1])
    for one in _sockets():
        with closing(one), suppress(OSError, struct.error):
            client = _written(one.getpeername())  # a listener has no peer
            is_ours = one.getsockname()[1] in ports
            if is_ours and _silent_seconds(one) >= seconds and not is_held(client):
                one.shutdown(socket.SHUT_RDWR)
                closed += 1
    return closed


def _sockets() -> Iterator[socket.socket]:
    """Yield this process's TCP sockets as duplicates, because the server may close its own."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # numbers, not files
        with suppress(OSError):
            duplicate = os.dup(int(name))
            try:
                one = socket.socket(fileno=duplicate)
            except OSError:
                os.close(duplicate)
                continue
            is_tcp = one.family in (socket.AF_INET, socket.AF_INET6)
            if one.type == socket.SOCK_STREAM and is_tcp:
                yield one
            else:
                one.close()


def _written(address: tuple[Any, ...]) -> str:
    """Return an address as granian writes it."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _silent_seconds(connection: socket.socket) -> float:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    milliseconds: int = struct.unpack_from("=I", info, _LAST_SENT_OFFSET)[0]
    return milliseconds / 1000
