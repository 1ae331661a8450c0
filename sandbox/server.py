"""Serves the sandbox over real HTTP, with connections that are kept alive or cut at will."""

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

from .app import MAX_BODY, create_app
from .http_types import WISHES, Body, Wishes
from .settings import Settings
from .state import SandboxState


class Handler(WSGIRequestHandler):
    """One connection. Werkzeug's own handler closes it after each answer; this one keeps it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    #: an answer leaves in one piece
    wbufsize = -1
    server: "Server"

    def setup(self) -> None:
        """Begin a connection."""
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        """End a connection."""
        self.server.connections.discard(self.connection)
        try:
            super().finish()
        except OSError:
            # The client went away, and part of an answer is still here.
            self.rfile.close()

    def run_wsgi(self) -> None:
        """Answer one request."""
        self.environ = environ = self.make_environ()
        self._read_body()
        environ[WISHES] = wishes = Wishes()
        answer = Response.from_app(self.server.app, environ, buffered=True)
        if wishes.vanish:
            self.close_connection = True
            return
        body = wishes.body
        if body is None:
            data = answer.get_data()
            body = Body((data,), None if answer.status_code == 204 else len(data), close=False)
        self._send(answer, body)

    def _send(self, answer: Response, body: Body) -> None:
        answer.headers.pop("Content-Length", None)
        if body.length is not None:
            answer.headers["Content-Length"] = str(body.length)
        elif body.close:
            # Nothing else says where it ends.
            self.close_connection = True
        self.send_response(answer.status_code)
        for name, value in answer.headers.to_wsgi_list():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        for piece in () if self.command == "HEAD" else body.pieces:
            self.wfile.write(piece)
            self.wfile.flush()
        self.wfile.flush()
        self.close_connection |= body.close

    def log(self, type: str, message: str, *args: object) -> None:
        """Say nothing: what matters is logged where it happens."""

    def _read_body(self) -> None:
        # The whole body, whether or not a view wants it: the next request starts after it.
        if self.environ.get("wsgi.input_terminated"):
            body = self.environ["wsgi.input"].read(MAX_BODY + 1)
            self.environ["CONTENT_LENGTH"] = str(len(body))
        else:
            text = self.environ.get("CONTENT_LENGTH") or "0"
            length = int(text) if text.isdigit() else MAX_BODY + 1
            body = self.rfile.read(length) if length <= MAX_BODY else b""
            self.close_connection |= length > MAX_BODY
        self.environ["wsgi.input"] = BytesIO(body)


class Server(ThreadedWSGIServer):
    """A thread per connection; closing it cuts the connections too."""

    def __init__(self, settings: Settings, world: SandboxState) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(settings.host, settings.port, create_app(world), Handler)

    def server_bind(self) -> None:
        """Bind without HTTPServer's look-up of the host's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, self.server_address[1]

    def cut(self) -> None:
        """End every open connection."""
        for connection in tuple(self.connections):
            # Shut, not closed: the thread that reads from it closes it, and may just have.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Sandbox:
    """A sandbox that serves in the background, for as long as the `with` block lasts."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.world = SandboxState(settings, clock)
        self._server = Server(settings, self.world)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        #: where it is reached; the port is the real one also when 0 was asked for
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
        self.world.stop()
        self._server.shutdown()
        self._server.cut()
        self._thread.join()
