"""Servers for the guarded session, on 127.0.0.1: raw sockets, which can do anything wrong."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: A server waits or trickles this long. A client that is still connected then hangs.
HANG_SECONDS = 60.0


@dataclass
class Peer:
    """The server's side of one connection."""

    server: Server
    sock: socket.socket
    #: 1 for the server's first connection.
    number: int

    def request(self) -> bytes:
        """Read one request with its body."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._some()
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(s.split(b":")[1]) for s in lines if s.startswith(b"content-length")), 0)
        while len(body) < length:
            body += self._some()
        self.server.requests.append(head + b"\r\n\r\n" + body)
        return self.server.requests[-1]

    def say(self, *data: bytes) -> None:
        for each in data:
            self.sock.sendall(each)

    def trickle(self, data: bytes) -> None:
        """Send the data again and again, one byte in 20 ms, for HANG_SECONDS at most."""
        ends = time.monotonic() + HANG_SECONDS
        while time.monotonic() < ends and not self.server.over.wait(0.02):
            for byte in data:
                self.say(bytes([byte]))
                if self.server.over.wait(0.02):
                    return

    def wait(self) -> None:
        """Send nothing for HANG_SECONDS, or until the test ends."""
        self.server.over.wait(HANG_SECONDS)

    def reset(self) -> None:
        """Break the connection off."""
        linger = struct.pack("ii", 1, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()

    def _some(self) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("the client hung up")
        return data


@dataclass
class Server:
    """Does the same with each connection, in a thread of its own."""

    act: Callable[[Peer], None]
    tls: ssl.SSLContext | None = None
    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    #: The names that TLS clients asked for.
    sni: list[str | None] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    open: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def handle(self, sock: socket.socket, number: int) -> None:
        with ExitStack() as stack, suppress(OSError):  # the client may hang up at any time
            stack.enter_context(sock)
            if self.tls:
                sock = stack.enter_context(self.tls.wrap_socket(sock, server_side=True))
            self.open.append(sock)
            self.act(Peer(self, sock, number))

    def stop(self) -> None:
        """End what waits: for the test, for a client that keeps its connection."""
        self.over.set()
        for sock in self.open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


Serve = Callable[..., Server]


@contextmanager
def serving() -> Iterator[Serve]:
    """Gives a function that starts servers; all are gone afterwards."""
    with ExitStack() as stack:

        def begin(
            act: Callable[[Peer], None],
            tls: ssl.SSLContext | None = None,
            address: str = "127.0.0.1",
            port: int = 0,
        ) -> Server:
            server = Server(act, tls)
            if tls:
                tls.sni_callback = lambda _, name, __: server.sni.append(name)
            listener = stack.enter_context(socket.create_server((address, port)))
            server.port = listener.getsockname()[1]

            threads: list[threading.Thread] = []

            def accept() -> None:
                with suppress(OSError):
                    while True:
                        sock, _ = listener.accept()
                        server.connections += 1
                        arguments = (sock, server.connections)
                        thread = threading.Thread(target=server.handle, args=arguments)
                        thread.start()
                        threads.append(thread)

            threads.append(threading.Thread(target=accept))
            threads[0].start()
            stack.callback(_join, threads)
            stack.callback(server.stop)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return server

        yield begin


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(HANG_SECONDS)


def answer(body: bytes, *headers: str, status: int = 200) -> bytes:
    """An answer with a Content-Length."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def saying(data: bytes) -> Callable[[Peer], None]:
    """Answer each request of a connection with the same bytes."""

    def act(peer: Peer) -> None:
        while True:
            peer.request()
            peer.say(data)

    return act


def once(data: bytes) -> Callable[[Peer], None]:
    """Answer one request with these bytes, and hang up."""

    def act(peer: Peer) -> None:
        peer.request()
        peer.say(data)

    return act


def certificate(folder: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context with a self-signed certificate, and the file that has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    form = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    private = key.private_bytes(form, serialization.PrivateFormat.PKCS8, plain)
    pem.write_bytes(private + built.public_bytes(form))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, pem


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
