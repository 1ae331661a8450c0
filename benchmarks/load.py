"""A load generator. Each keep-alive connection sends its next request after an answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

CONNECTIONS = 64


@dataclass(frozen=True)
class Load:
    """The result of a run: answers by status, requests per second, sorted latencies in ms."""

    statuses: Counter[int]
    rate: float
    latencies: Sequence[float]

    def percentile(self, part: float) -> float:
        """Return the latency at a percentile, such as 0.99. ms."""
        return self.latencies[min(int(len(self.latencies) * part), len(self.latencies) - 1)]


@dataclass(frozen=True)
class NewJob:
    """A request that enqueues a job."""

    path: str
    headers: dict[str, str]
    body: bytes


def request(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Return the bytes of a POST request."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def run(port: int, requests: Sequence[bytes], connections: int = CONNECTIONS) -> Load:
    """Send every request once over a number of connections."""
    return asyncio.run(_run(port, requests, connections))


async def _run(port: int, requests: Sequence[bytes], connections: int) -> Load:
    queue = iter(requests)
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    clients = []
    for _ in range(connections):
        client = _Client(port, queue, statuses, latencies)
        await client.connect()
        clients.append(client)
    began = perf_counter()
    for client in clients:
        client.next()
    await asyncio.gather(*(client.finished for client in clients))
    rate = len(latencies) / (perf_counter() - began)
    return Load(statuses, rate, sorted(latencies))


class _Client(asyncio.Protocol):
    """Sends requests over one connection, and over another one if the server closes it."""

    def __init__(
        self, port: int, queue: Iterator[bytes], statuses: Counter[int], latencies: list[float]
    ) -> None:
        self._port = port
        self._queue, self._statuses, self._latencies = queue, statuses, latencies
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._message, self._got = b"", b""
        self._again: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def next(self) -> None:
        try:
            self._message = next(self._queue)
        except StopIteration:
            self._transport.close()
            self.finished.set_result(None)
            return
        self._sent = perf_counter()
        self._transport.write(self._message)

    def connection_lost(self, _: Exception | None) -> None:
        """Send the request that has no answer again. A server closes after an early answer."""
        if not self.finished.done() and self._message:
            self._got = b""
            self._again = asyncio.get_running_loop().create_task(self.connect())

    async def connect(self) -> None:
        """Open a connection. Send the request that has no answer, if there is one."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, "127.0.0.1", self._port)
        self._transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
        if len(body) < length:
            return
        self._latencies.append((perf_counter() - self._sent) * 1000)
        self._statuses[int(head[9:12])] += 1
        self._got = b""
        self.next()
