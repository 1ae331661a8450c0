"""The sockets of libcurl's idle connections.

libcurl uses a connection again without a look at it when it was idle for less than a second. What
the server sent meanwhile would be taken for the answer to the next request.
"""

from __future__ import annotations

import select
from collections import OrderedDict

import pycurl

#: The most connections that are remembered.
MAX_SOCKETS = 4096

#: A connection: the address there, the address here, the port there, the port here.
Ends = tuple[str, str, int, int]


class IdleSockets:
    """Remembers the sockets of connections on which a call has ended. Threads share it."""

    def __init__(self) -> None:
        self._of: OrderedDict[Ends, int] = OrderedDict()

    def put(self, handle: pycurl.Curl) -> None:
        """Remember the connection of a call that has just ended, if it is open."""
        descriptor = handle.getinfo(pycurl.ACTIVESOCKET)
        if descriptor < 0:
            return
        self._of[
            handle.getinfo(pycurl.PRIMARY_IP),
            handle.getinfo(pycurl.LOCAL_IP),
            handle.getinfo(pycurl.PRIMARY_PORT),
            handle.getinfo(pycurl.LOCAL_PORT),
        ] = descriptor
        if len(self._of) > MAX_SOCKETS:
            self._of.popitem(last=False)

    def spoiled(self, ends: Ends) -> bool:
        """Return whether a connection that was idle has something to read, or was closed.

        The connection is forgotten, because it is used again.
        """
        descriptor = self._of.pop(ends, None)
        if descriptor is None:
            return False
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
