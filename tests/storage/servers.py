"""Servers of buckets on 127.0.0.1: moto's S3, and one that answers what a test says."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: What the tests' clients are given; neither may ever be told.
KEY, SECRET = "AKIATESTTESTTEST", "s3cr3t-s3cr3t-s3cr3t"


@contextmanager
def moto() -> Iterator[str]:
    """An S3 in memory; yields its endpoint."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415  # it takes half a second

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def bucket_client(endpoint: str) -> Any:
    """Return boto3's client of moto."""
    import boto3  # noqa: PLC0415  # it takes half a second

    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")


@dataclass(frozen=True, slots=True)
class BucketRequest:
    """A request: method, path with query, and how many bytes came with it."""

    method: str
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class BucketReply:
    """A response; None in its place closes the connection without one."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def stored(call: BucketRequest) -> BucketReply | None:
    """What S3 answers when all goes well."""
    if call.method == "POST" and call.path.endswith("uploads="):
        said = b"<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key>"
        return BucketReply(body=said + b"<UploadId>1</UploadId></InitiateMultipartUploadResult>")
    if call.method == "POST":
        said = b"<CompleteMultipartUploadResult><Location>l</Location><Bucket>b</Bucket>"
        return BucketReply(
            body=said + b"<Key>k</Key><ETag>e</ETag></CompleteMultipartUploadResult>"
        )
    return BucketReply(headers={"ETag": '"e"'})


class Bucketlike:
    """A server that answers as `answer` says, and keeps `calls`; `held` silences it."""

    def __init__(self) -> None:
        self.answer: Callable[[BucketRequest], BucketReply | None] = stored
        self.calls: list[BucketRequest] = []
        self.held = threading.Event()
        self.held.set()
        self.url = ""


@contextmanager
def bucketlike() -> Iterator[Bucketlike]:
    """A server as above, until the end."""
    told = Bucketlike()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            size = rest = int(self.headers.get("Content-Length") or 0)
            while rest:
                rest -= len(self.rfile.read(min(rest, 65536)))
            call = BucketRequest(self.command, self.path, size)
            told.calls.append(call)
            told.held.wait(60)
            answer = told.answer(call)
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):  # the client gave up
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield told
    finally:
        told.held.set()
        server.shutdown()
        server.server_close()
        thread.join()
