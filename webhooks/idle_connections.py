"""Closes incoming connections on which nothing was sent for a long time.

Such a connection holds a thread. Its client may be gone, or it may send its body too slowly.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

from orchestrator import log

#: A connection on which nothing was sent for this long is closed. The limit is longer than the
#: longest `?wait=`, and than the largest body takes at 150 kB/s. Seconds.
MAX_SILENCE_SECONDS = 75.0
#: Interval of the checks. Seconds.
CHECK_INTERVAL_SECONDS = 5.0
#: Offset of `tcpi_last_data_sent` (ms ago) in Linux' struct tcp_info, and the part that is read.
_LAST_SENT_OFFSET, _INFO_BYTES = 44, 104


def start_closing() -> None:
    """Start a thread that closes silent connections. Only Linux reports the silence."""
    if sys.platform == "linux":
        threading.Thread(target=_close_for_ever, name="idle-connections", daemon=True).start()


def _close_for_ever() -> None:
    never = threading.Event()
    while not never.wait(CHECK_INTERVAL_SECONDS):
        closed = close_silent(MAX_SILENCE_SECONDS)
        if closed:
            reason = f"nothing was sent for {MAX_SILENCE_SECONDS:g} s"
            log.get().warning("connections_closed", number=closed, reason=reason)


def close_silent(seconds: float) -> int:
    """Close incoming connections on which nothing was sent for `seconds`. Return their number."""
    closed, ports = 0, set()
    for one in _sockets():
        with closing(one), suppress(OSError):
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                ports.add(one.getsockname()[1])
    for one in _sockets():
        with closing(one), suppress(OSError, struct.error):
            one.getpeername()  # a listener has no peer
            if one.getsockname()[1] in ports and _silent_seconds(one) >= seconds:
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


def _silent_seconds(connection: socket.socket) -> float:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    milliseconds: int = struct.unpack_from("=I", info, _LAST_SENT_OFFSET)[0]
    return milliseconds / 1000
