"""One request and its answer, between the server (ASGI) and the application (WSGI)."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, BinaryIO, NamedTuple

from werkzeug.datastructures import EnvironHeaders

from orchestrator.api import holds, request_ids
from orchestrator.api.holds import EventStream

#: An answer of up to this size is kept in memory. A longer one is written to a file. Bytes.
MAX_ANSWER_BYTES = 1024 * 1024
#: The size of the parts in which a file is read. Bytes.
PART_BYTES = 256 * 1024
#: After an answer that closes the connection, so much of the body is still taken, for so long. A
#: client that still sends would lose the answer otherwise. Bytes, and seconds.
LINGER_BYTES, LINGER_SECONDS = 16 * 1024 * 1024, 2.0

Headers = list[tuple[str, str]]
#: What an ASGI server gives with a request: its description, and how to receive and send messages.
Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Answer(NamedTuple):
    """An answer of the application: its status, its headers as bytes, and its content."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content: bytes | BinaryIO


class BodyWanted(BaseException):
    """The application reads the body of a request before it is there. It is no error of a route."""


class AbsentBody:
    """`wsgi.input` before the body has arrived."""

    def read(self, size: int = -1) -> bytes:
        """Do not wait for the body.

        Raises:
            BodyWanted: always.
        """
        raise BodyWanted

    readline = read


class FileWrapper:
    """`wsgi.file_wrapper`: a file that is sent as it is."""

    def __init__(self, file: BinaryIO, part_bytes: int = PART_BYTES) -> None:
        self.file = file
        self._part_bytes = part_bytes

    def __iter__(self) -> Iterator[bytes]:
        return self  # werkzeug calls `seek` of the iterator, for a part of the file

    def __next__(self) -> bytes:
        part = self.file.read(self._part_bytes)
        if not part:
            raise StopIteration
        return part

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def seekable(self) -> bool:
        """Return True: a part of it can be sent."""
        return True

    def seek(self, *place: int) -> int:
        """Go to a place, as for a part."""
        return self.file.seek(*place)

    def tell(self) -> int:
        """Return the current place."""
        return self.file.tell()


class Exchange:
    """A request that has one answer.

    Args:
        scope: the server's description of the request.
        receive: gets a message of the server.
        send: gives a message to the server. It returns when the client has read most of what
            was sent before, or has gone.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        #: HTTP/1.0 has no chunks, so an answer without a length cannot be sent.
        self.takes_chunks = scope["http_version"] != "1.0"
        self._environ = _environ(scope)
        self._receive = receive
        self._send = send
        self.request_id = request_ids.chosen(self._environ.get("HTTP_X_REQUEST_ID"))
        self._environ["HTTP_X_REQUEST_ID"] = self.request_id
        self.is_chunked = "HTTP_TRANSFER_ENCODING" in self._environ
        #: The length of the body. 0: it has none, or comes in chunks. Bytes.
        self.length = int(self._environ.get("CONTENT_LENGTH") or 0)
        #: The rest of the body will not be read, so the connection must be closed.
        self.closing = False
        #: What the application kept for the time when it is asked again.
        self.state: Any = None
        #: The stream that has begun.
        self.stream: EventStream | None = None
        self._has_rest = True

    @property
    def headers(self) -> EnvironHeaders:
        """The headers of the request."""
        return EnvironHeaders(self._environ)

    def environ(self, body: Any) -> dict[str, Any]:
        """Return the WSGI environment of the request with a body."""
        environ = {**self._environ, "wsgi.input": body}
        if self.state is not None:
            environ[holds.STATE_KEY] = self.state
        return environ

    async def read(self) -> bytes | None:
        """Return a part of the body, or None after its end. A body that is cut off has an end."""
        if not self._has_rest:
            return None
        message = await self._receive()
        self._has_rest = message.get("more_body", False)
        if message["type"] == "http.disconnect":
            self.closing = True
            return None
        body: bytes = message["body"]
        return body

    async def gone(self) -> None:
        """Return when the client has closed the connection. The body was read before."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def begin_stream(self, stream: EventStream) -> None:
        """Send the beginning of a stream. The content of the answer is its rest."""
        await self._begin(200, [_encoded(header) for header in stream.headers])
        await self._send_part(b"")  # the head leaves with a part, also with an empty one
        self.stream = stream

    async def keep_alive(self) -> None:
        """Send a sign of life, if a stream has begun."""
        if self.stream is not None:
            await self._send_part(self.stream.keep_alive)

    async def answer(self, answer: Answer, read: Callable[[BinaryIO], Awaitable[bytes]]) -> None:
        """Send an answer. Return when most of it was read.

        Args:
            answer: its headers are not sent after the beginning of a stream.
            read: returns the next part of a file.
        """
        if self.stream is None:
            await self._begin(answer.status, answer.headers)
        content = answer.content
        if not isinstance(content, bytes):
            with content as file:
                await self._send_file(file, read)
            content = b""
        if self.closing:
            await self._send_part(content)
            await self._linger()
            content = b""
        await self._send_part(content, is_last=True)

    async def _send_file(
        self, file: BinaryIO, read: Callable[[BinaryIO], Awaitable[bytes]]
    ) -> None:
        """Send a file, unless the client goes away. The server drops what is sent then."""
        gone = None if self.closing else asyncio.ensure_future(self.gone())
        try:
            while not (gone and gone.done()) and (part := await read(file)):
                await self._send_part(part)
        finally:
            if gone:
                gone.cancel()

    async def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if self.closing:
            headers = [*headers, (b"connection", b"close")]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _send_part(self, part: bytes, is_last: bool = False) -> None:
        await self._send({"type": "http.response.body", "body": part, "more_body": not is_last})

    async def _linger(self) -> None:
        """Take more of the body for a while. A client that still sends may read its answer then."""
        taken = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while taken < LINGER_BYTES and (part := await self.read()) is not None:
                    taken += len(part)


def answer_of(status: str, headers: Headers, parts: Iterable[bytes]) -> Answer:
    """Return what the application answered.

    Args:
        status: a line, as `200 OK`.
        headers: they get a `Content-Length` where one is allowed. The server adds a `Date`.
        parts: of the content. They are read and closed, unless they are a file.
    """
    code = int(status[:3])
    content = parts.file if isinstance(parts, FileWrapper) else _closed_after(parts)
    encoded = [_encoded(header) for header in headers if header[0] != "Date"]
    if code not in (204, 304) and not any(name == b"content-length" for name, _ in encoded):
        encoded.append((b"content-length", b"%d" % _size(content)))
    return Answer(code, encoded, content)


def _encoded(header: tuple[str, str]) -> tuple[bytes, bytes]:
    name, value = header
    return _encoded_name(name), value.encode("latin-1")


@lru_cache
def _encoded_name(name: str) -> bytes:
    return name.lower().encode("latin-1")


def _size(content: bytes | BinaryIO) -> int:
    return len(content) if isinstance(content, bytes) else os.fstat(content.fileno()).st_size


def _environ(scope: Scope) -> dict[str, Any]:
    """Return the WSGI environment of a request, without its body."""
    path: str = scope["path"]
    server, port = scope["server"]
    client = scope["client"]
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        # PEP 3333: the bytes of a path, each as one character.
        "PATH_INFO": path if path.isascii() else path.encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": client[0] if client else "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    for name, value in scope["headers"]:
        key, text = _key(name), value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    # The protocol stays HTTP (RFC 9110, 7.8). Werkzeug would find no route for a WebSocket.
    environ.pop("HTTP_UPGRADE", None)
    return environ


@lru_cache
def _key(header: bytes) -> str:
    """Return the name of a header in a WSGI environment. `content_length` is another header."""
    name = header.decode("latin-1").replace("-", "_").upper()
    return name if header in {b"content-type", b"content-length"} else f"HTTP_{name}"


def _closed_after(parts: Iterable[bytes]) -> bytes | BinaryIO:
    """Return the parts as `_collected` does, and close them."""
    try:
        return _collected(parts)
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()


def _collected(parts: Iterable[bytes]) -> bytes | BinaryIO:
    """Return the parts as bytes, or as a file without a name when they are many."""
    kept, size, rest = list[bytes](), 0, iter(parts)
    for part in rest:
        kept.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            break
    else:
        return kept[0] if len(kept) == 1 else b"".join(kept)
    file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # it is closed when it was sent
    try:
        file.writelines(kept)
        file.writelines(rest)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file
