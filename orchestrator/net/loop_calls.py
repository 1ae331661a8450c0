"""The calls of libcurl that one event loop makes side by side."""

from __future__ import annotations

import asyncio
from typing import Any

import pycurl

from orchestrator.net.idle_sockets import IdleSockets

#: libcurl's code of a call that ended well.
DONE = 0


class LoopCalls:
    """Calls of one event loop that share idle connections. libcurl says which sockets it waits for.

    Args:
        loop: of the calls.
        connections: idle connections that are kept.
        idle: remembers their sockets.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connections: int, idle: IdleSockets
    ) -> None:
        self.loop = loop
        self._idle = idle
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._timer: asyncio.Handle | None = None
        #: What is watched of each socket.
        self._watched: dict[int, int] = {}
        self._futures: dict[pycurl.Curl, asyncio.Future[int]] = {}
        self._free: list[pycurl.Curl] = []

    def handle(self) -> pycurl.Curl:
        """Return a handle that no call uses."""
        return self._free.pop() if self._free else pycurl.Curl()

    def free(self, handle: pycurl.Curl) -> None:
        """Take back the handle of a call that has ended."""
        self._free.append(handle)

    def start(self, handle: pycurl.Curl) -> asyncio.Future[int]:
        """Start a call. The future gives libcurl's code of its end."""
        future = self._futures[handle] = self.loop.create_future()
        self._multi.add_handle(handle)
        return future

    def _act(self, descriptor: int, events: int) -> None:
        self._multi.socket_action(descriptor, events)
        left = 1
        while left:
            left, done, failed = self._multi.info_read()
            for handle in done:
                self._idle.put(handle)
                self._end(handle, DONE)
            for handle, code, _ in failed:
                self._end(handle, code)

    def _end(self, handle: pycurl.Curl, code: int) -> None:
        self._multi.remove_handle(handle)
        self._futures.pop(handle).set_result(code)

    def _watch(self, event: int, descriptor: int, *_: Any) -> None:
        before = self._watched.pop(descriptor, 0)
        now = 0 if event == pycurl.POLL_REMOVE else event
        if now & pycurl.POLL_IN and not before & pycurl.POLL_IN:
            self.loop.add_reader(descriptor, self._act, descriptor, pycurl.CSELECT_IN)
        elif before & pycurl.POLL_IN and not now & pycurl.POLL_IN:
            self.loop.remove_reader(descriptor)
        if now & pycurl.POLL_OUT and not before & pycurl.POLL_OUT:
            self.loop.add_writer(descriptor, self._act, descriptor, pycurl.CSELECT_OUT)
        elif before & pycurl.POLL_OUT and not now & pycurl.POLL_OUT:
            self.loop.remove_writer(descriptor)
        if now:
            self._watched[descriptor] = now

    def _set_timer(self, milliseconds: int) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None
        if milliseconds == 0:
            self._timer = self.loop.call_soon(self._act, pycurl.SOCKET_TIMEOUT, 0)
        elif milliseconds > 0:
            self._timer = self.loop.call_later(
                milliseconds / 1000, self._act, pycurl.SOCKET_TIMEOUT, 0
            )
