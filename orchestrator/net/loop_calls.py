"""The calls of libcurl that one event loop makes side by side."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pycurl

from orchestrator.net.idle_sockets import IdleSockets

#: libcurl's code of a call that ended well.
DONE = 0
#: What libcurl waits for at a socket -> the same for epoll.
_EPOLL_EVENTS: Mapping[int, int] = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}


class LoopCalls:
    """Calls of one event loop that share idle connections. libcurl says which sockets it waits for.

    These sockets have an epoll of their own, and the loop watches that. Each call begins and ends
    to watch its socket, and that takes the loop four times as long.

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
        self._epoll = select.epoll()
        self._watched: set[int] = set()
        loop.add_reader(self._epoll.fileno(), self._act_on_events)
        self._futures: dict[pycurl.Curl, asyncio.Future[int]] = {}
        self._limits: dict[pycurl.Curl, asyncio.TimerHandle] = {}
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

    def limit(self, handle: pycurl.Curl, seconds: float) -> None:
        """End a call in this time, if it has not ended before. Its code is that of a time-out."""
        self._limits[handle] = self.loop.call_later(
            seconds, self._end, handle, pycurl.E_OPERATION_TIMEDOUT
        )

    def _act_on_events(self) -> None:
        for descriptor, events in self._epoll.poll(0):
            readable = pycurl.CSELECT_IN if events & ~select.EPOLLOUT else 0  # also at an error
            writable = pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0
            self._multi.socket_action(descriptor, readable | writable)
        self._end_calls()

    def _act_on_time(self) -> None:
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._end_calls()

    def _end_calls(self) -> None:
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
        if limit := self._limits.pop(handle, None):
            limit.cancel()
        self._futures.pop(handle).set_result(code)

    def _watch(self, event: int, descriptor: int, *_: Any) -> None:
        events = _EPOLL_EVENTS.get(event)
        if events is None:
            self._watched.discard(descriptor)
            with suppress(OSError):  # it is closed
                self._epoll.unregister(descriptor)
        elif descriptor in self._watched:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
            self._watched.add(descriptor)

    def _set_timer(self, milliseconds: int) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None
        if milliseconds == 0:
            self._timer = self.loop.call_soon(self._act_on_time)
        elif milliseconds > 0:
            self._timer = self.loop.call_later(milliseconds / 1000, self._act_on_time)
