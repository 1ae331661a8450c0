"""One request and its answer, between the server (RSGI) and the application (WSGI)."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from typing import IO, Any, BinaryIO, Protocol

from orchestrator.api import holds, request_ids
from orchestrator.api.holds import EventStream

#: An answer of up to this size is kept in memory. A longer one is written to a file. Bytes.
MAX_ANSWER_BYTES = 1024 * 1024
#: The size of the parts in which a file is read. Bytes.
_PART_BYTES = 64 * 1024

Headers = list[tuple[str, str]]


class StreamTransport(Protocol):
    """What we use of granian's transport of an answer in parts."""

    async def send_bytes(self, data: bytes) -> None:
        """Send a part. Raises RuntimeError when the client is gone."""


class ServerProtocol(Protocol):
    """What we use of granian's `RSGIHTTPProtocol`. Answers may be given in any thread."""

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer with bytes. A second answer is ignored."""

    def response_file(self, status: int, headers: Headers, file: str) -> None:
        """Answer with a file, which the server opens a moment later."""

    def response_stream(self, status: int, headers: Headers) -> StreamTransport:
        """Begin an answer in parts."""

    async def __call__(self) -> bytes:
        """Return the whole body."""

    def __aiter__(self) -> Any:
        """Yield the body in parts. The last part is empty, and so is one that cannot be read."""

    async def client_disconnect(self) -> None:
        """Return when the client has closed the connection."""


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
    """`wsgi.file_wrapper`: a file that the server may send by itself."""

    def __init__(self, file: BinaryIO, part_bytes: int = _PART_BYTES) -> None:
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
        scope: granian's description of the request.
        protocol: takes the answer.
    """

    def __init__(self, scope: Any, protocol: ServerProtocol) -> None:
        self.protocol = protocol
        self.method: str = scope.method
        self.path: str = scope.path
        self.headers = scope.headers
        #: The address and the port of the client.
        self.client: str = scope.client
        self.request_id = request_ids.chosen(self.headers.get(request_ids.HEADER.lower()))
        #: The rest of the body will not be read, so the connection must be closed.
        self.closing = False
        #: What the application kept for the time when it is asked again.
        self.state: Any = None
        self._scope = scope
        #: The stream that has begun.
        self.stream: EventStream | None = None
        self._transport: StreamTransport | None = None
        self._rest: bytes | BinaryIO = b""

    def environ(self, body: Any) -> dict[str, Any]:
        """Return the WSGI environment of the request with a body."""
        scope = self._scope
        server, _, port = scope.server.rpartition(":")
        path = self.path
        environ: dict[str, Any] = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": "",
            # PEP 3333: the bytes of a path, each as one character.
            "PATH_INFO": path if path.isascii() else path.encode().decode("latin-1"),
            "QUERY_STRING": scope.query_string,
            "SERVER_NAME": server,
            "SERVER_PORT": port,
            "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
            "REMOTE_ADDR": self.client.rpartition(":")[0],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": scope.scheme,
            "wsgi.input": body,
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
        }
        for name, value in self.headers.items():
            key = _key(name)
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        # The protocol stays HTTP (RFC 9110, 7.8). Werkzeug would find no route for a WebSocket.
        environ.pop("HTTP_UPGRADE", None)
        environ["HTTP_X_REQUEST_ID"] = self.request_id
        if self.state is not None:
            environ[holds.STATE_KEY] = self.state
        return environ

    def begin_stream(self, stream: EventStream) -> None:
        """Send the beginning of a stream. What the application answers later is its rest."""
        headers = [*stream.headers, *([("Connection", "close")] if self.closing else [])]
        self.stream = stream
        self._transport = self.protocol.response_stream(200, headers)

    async def keep_alive(self) -> None:
        """Send a sign of life, if a stream has begun."""
        if self.stream is not None and self._transport is not None:
            with suppress(RuntimeError):  # the client is gone
                await self._transport.send_bytes(self.stream.keep_alive)

    async def end_stream(self) -> None:
        """Send the rest of a stream."""
        if self._transport is None:
            return
        rest = BytesIO(self._rest) if isinstance(self._rest, bytes) else self._rest
        with rest as file, suppress(RuntimeError):  # the client is gone
            file.seek(0)
            while part := file.read(_PART_BYTES):
                await self._transport.send_bytes(part)

    def answer(self, status: str, headers: Headers, parts: Iterable[bytes]) -> BinaryIO | None:
        """Send an answer of the application. Return a file that may be closed a while later."""
        if self._transport is not None:
            self._rest = _closed_after(parts)
            return None
        if self.closing:
            headers = [*headers, ("Connection", "close")]
        code = int(status[:3])
        if isinstance(parts, FileWrapper):
            self.protocol.response_file(code, headers, _path(parts.file))
            return parts.file
        content = _closed_after(parts)
        if isinstance(content, bytes):
            self.protocol.response_bytes(code, headers, content)
            return None
        if not any(name.lower() == "content-length" for name, _ in headers):
            size = os.fstat(content.fileno()).st_size
            headers = [*headers, ("Content-Length", str(size))]
        self.protocol.response_file(code, headers, _path(content))
        return content


@lru_cache
def _key(header: str) -> str:
    """Return the name of a header in a WSGI environment. `content_length` is another header."""
    name = header.replace("-", "_").upper()
    return name if header in {"content-type", "content-length"} else f"HTTP_{name}"


def _path(file: IO[bytes]) -> str:
    """Return a path by which the server can open an open file, also one without a name."""
    return f"/dev/fd/{file.fileno()}"


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
    file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # the server reads it later
    try:
        file.writelines(kept)
        file.writelines(rest)
        file.flush()
    except BaseException:
        file.close()
        raise
    return file
