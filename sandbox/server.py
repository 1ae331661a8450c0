"""Serves the sandbox over real HTTP. Connections are kept alive, or closed by faults."""

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from io import BytesIO
from types import TracebackType
from typing import Self

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wrappers import Response

from .app import MAX_BODY_BYTES, create_app
from .http_types import RESPONSE_CONTROL, ResponseBody, ResponseControl
from .settings import SandboxSettings
from .state import SandboxState

#: Interim answers by their status.
_INTERIM_ANSWERS = {
    100: b"HTTP/1.1 100 Continue\r\n\r\n",
    102: b"HTTP/1.1 102 Processing\r\n\r\n",
    103: b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\r\n",
}


class SandboxRequestHandler(WSGIRequestHandler):
    """One connection. It stays open after an answer, unlike with Werkzeug's own handler."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    #: Buffers the whole answer, so it is sent in one piece.
    wbufsize = -1
    server: "SandboxServer"
    #: Number of requests on this connection.
    request_count = 0

    def setup(self) -> None:
        """Register a new connection."""
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        """Remove a closed connection."""
        self.server.connections.discard(self.connection)
        try:
            super().finish()
        except OSError:
            # The client disconnected before the whole answer was sent.
            self.rfile.close()

    def run_wsgi(self) -> None:
        """Answer one request."""
        self.environ = environ = self.make_environ()
        self._read_body()
        self.request_count += 1
        control = ResponseControl(is_reused=self.request_count > 1)
        environ[RESPONSE_CONTROL] = control
        answer = Response.from_app(self.server.app, environ, buffered=True)
        if control.close_without_answer:
            self.close_connection = True
            return
        body = control.body
        if body is None:
            data = answer.get_data()
            body = ResponseBody(
                (data,), None if answer.status_code == 204 else len(data), close=False
            )
        answer.headers.extend(control.raw_headers)
        self.wfile.write(_INTERIM_ANSWERS.get(control.interim_status or 0, b""))
        self.wfile.flush()
        self._send(answer, body, control.header_seconds)

    def _send(self, answer: Response, body: ResponseBody, header_seconds: float) -> None:
        answer.headers.pop("Content-Length", None)
        if body.length is not None:
            answer.headers["Content-Length"] = str(body.length)
        elif body.close:
            # Without a Content-Length, the end of the connection is the end of the body.
            self.close_connection = True
        self.send_response(answer.status_code)
        for name, value in answer.headers.to_wsgi_list():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self._end_header(header_seconds)
        for piece in () if self.command == "HEAD" else body.pieces:
            self.wfile.write(piece)
            self.wfile.flush()
        self.wfile.flush()
        self.close_connection |= body.close

    def _end_header(self, seconds: float) -> None:
        """Send the header, at once or byte by byte in this time."""
        if seconds == 0:
            self.end_headers()
            return
        connection, self.wfile = self.wfile, BytesIO()
        self.end_headers()
        header, self.wfile = self.wfile.getvalue(), connection
        for number in range(len(header)):
            self.wfile.write(header[number : number + 1])
            self.wfile.flush()
            self.server.state.stopping.wait(seconds / len(header))

    def log(self, type: str, message: str, *args: object) -> None:
        """Log nothing. The views log their own events."""

    def _read_body(self) -> None:
        # The next request begins after the body, so the body is read even if no view uses it.
        if self.environ.get("wsgi.input_terminated"):
            body = self.environ["wsgi.input"].read(MAX_BODY_BYTES + 1)
            self.environ["CONTENT_LENGTH"] = str(len(body))
        else:
            text = self.environ.get("CONTENT_LENGTH") or "0"
            length = int(text) if text.isdigit() else MAX_BODY_BYTES + 1
            body = self.rfile.read(length) if length <= MAX_BODY_BYTES else b""
            self.close_connection |= length > MAX_BODY_BYTES
        self.environ["wsgi.input"] = BytesIO(body)


class SandboxServer(ThreadedWSGIServer):
    """A server with one thread for each connection."""

    def __init__(self, settings: SandboxSettings, state: SandboxState) -> None:
        self.connections: set[socket.socket] = set()
        self.state = state
        super().__init__(settings.host, settings.port, create_app(state), SandboxRequestHandler)

    def server_bind(self) -> None:
        """Bind without the name lookup of HTTPServer, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, self.server_address[1]

    def cut(self) -> None:
        """Close every open connection."""
        for connection in tuple(self.connections):
            # The reading thread closes the socket itself, so this only shuts it down.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Sandbox:
    """A sandbox that serves in the background while its `with` block runs."""

    def __init__(self, settings: SandboxSettings, clock: Callable[[], float] = time.time) -> None:
        self.state = SandboxState(settings, clock)
        self._server = SandboxServer(settings, self.state)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        #: Base URL. Its port is the real one, also for port 0.
        self.url = f"http://{host}:{self._server.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="sandbox-server", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.state.stop()
        self._server.shutdown()
        self._server.cut()
        self._thread.join()
