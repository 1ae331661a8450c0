"""Objects in a bucket of S3, Google Cloud or Azure, by obstore.

obstore reads credentials and endpoints from the environment by itself, when the store is made.
Added here: an empty variable counts as unset, AWS_ENDPOINT_URL_S3 goes before AWS_ENDPOINT_URL
before AWS_ENDPOINT, AWS_CA_BUNDLE is trusted too, and plain HTTP is spoken only to an endpoint that
begins with http://.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from orchestrator.storage.errors import NotStored, StorageError
from orchestrator.storage.source import PIECE, Source

#: How many pieces are under way at once; they are what a put holds in memory.
PIECES = 2
#: The longest wait for a connection, and for the answer to one request with its body. Seconds.
CONNECT, REQUEST = 3.0, 10.0
#: No request is sent again after this many times, or after this long (in seconds). Our callers have
#: a back-off of their own: a put ends within REQUEST of the storage's silence, or twice that.
RETRIES, RETRY_WITHIN = 2, 5.0

_STORES: dict[str, type[S3Store | GCSStore | AzureStore]] = {
    "s3": S3Store,
    "gs": GCSStore,
    "az": AzureStore,
}
SCHEMES = frozenset(_STORES)
_VARIABLES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
#: Where the environment names another server, first come first.
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}

_NO_CREDENTIALS = "no credentials, neither in the environment nor of a metadata service"
_MISSING = "not found: there is no such bucket, or the endpoint is no storage"
#: What obstore's errors hold, the first that is found, and what it means. Only these words and a
#: server's own error code are told: the rest may hold keys, signatures and tokens.
_REASONS = (
    (r"/latest/(api|meta-data)|computeMetadata|metadata/identity", _NO_CREDENTIALS),
    (r"MissingAccount", "AZURE_STORAGE_ACCOUNT_NAME is not set"),
    (r"<Code>(NoSuchBucket|ContainerNotFound)<", "there is no such bucket"),
    (r"<Code>(XMinioStorageFull|\w*QuotaExceeded)<|status: 507\b", "no space left"),
    (r"status: 40[13]\b", "access denied"),
    (r"BareRedirect|status: 30[178]\b", "the bucket is in another region"),
    (r"status: 404\b", _MISSING),
    (r"status: (5\d\d|429)\b", "unavailable"),
    (r"status: 4\d\d\b", "refused"),
    (r"kind: Timeout\b|TimedOut", f"no answer within {REQUEST:.0f} s"),
    (r"dns error", "unreachable: its name is not known"),
    (r"Connection refused", "unreachable: connection refused"),
    (r"kind: Connect\b", "unreachable"),
    (r"kind: (Request|Interrupted|Decode|Body)\b", "the connection broke"),
)
_FAILURES = (BaseError, OSError, ValueError, RuntimeError)


class Bucket:
    """Checked paths in, StorageError out: what `Storage` needs of a bucket.

    Raises:
        ValueError: the environment does not say enough, or something that cannot be read.
    """

    #: The process that obstore's threads are of; in a fork of it every call would wait for ever.
    _process: ClassVar[int | None] = None

    def __init__(self, scheme: str, bucket: str, prefix: str) -> None:
        self.description = f"{scheme}://{bucket}/{prefix}".rstrip("/")
        try:
            self._store = _store(scheme, bucket, prefix)
        except _FAILURES as error:
            # The reason only: what is said of a key file may quote it.
            variables = f"what the {_VARIABLES[scheme]}* variables say does not do"
            raise ValueError(f"{self.description}: {variables} ({_reason(error)})") from None

    def put(self, path: str, source: Source, content_type: str) -> None:
        """Keep an object; of a put that fails obstore takes back the parts."""
        attributes: Any = {"Content-Type": content_type}
        file: Any = source
        with self._told(path):
            obstore.put(
                self._store,
                path,
                file,
                attributes=attributes,
                chunk_size=PIECE,
                max_concurrency=PIECES,
            )

    def stream(self, path: str) -> Iterator[bytes]:
        """An object's bytes."""
        with self._told(path, reading=True):
            for piece in obstore.get(self._store, path).stream(min_chunk_size=PIECE):
                yield bytes(piece)

    def link(self, path: str, seconds: int) -> str | None:
        """A signed URL; None where Azure is used by a shared access signature."""
        with self._told(path):
            try:
                return obstore.sign(self._store, "GET", path, timedelta(seconds=seconds))
            except BaseError as error:
                if "SASforSASNotSupported" in str(error):
                    return None
                raise

    def delete(self, path: str) -> None:
        """Forget an object."""
        with suppress(NotStored), self._told(path, reading=True):
            obstore.delete(self._store, path)

    def sweep(self) -> None:
        """Nothing: the parts of a put whose process was killed need a rule of the bucket."""

    @contextmanager
    def _told(self, path: str, *, reading: bool = False) -> Iterator[None]:
        if Bucket._process not in {None, os.getpid()}:
            raise StorageError(f"{self.description}: was used before this process was forked")
        Bucket._process = os.getpid()
        try:
            yield
        except _FAILURES as error:
            reason = _reason(error)
            if reading and reason == _MISSING:
                raise NotStored(f"{self.description}: there is no {path}") from None
            raise StorageError(f"{self.description}: {reason}, at {path}") from None


def _store(scheme: str, bucket: str, prefix: str) -> S3Store | GCSStore | AzureStore:
    for name in [n for n in os.environ if n.startswith(_VARIABLES[scheme]) and not os.environ[n]]:
        del os.environ[name]  # obstore would take the empty value
    endpoint = next(filter(None, map(os.environ.get, _ENDPOINTS[scheme])), "")
    config: Any = {}
    client: Any = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT),
        "timeout": timedelta(seconds=REQUEST),
    }
    if scheme == "s3":
        # The call that deletes many objects is not known to every server.
        config["disable_bulk_delete"] = True
        if endpoint:
            config["aws_endpoint_url_s3"] = endpoint
        if bundle := os.environ.get("AWS_CA_BUNDLE"):
            client["root_certificate"] = Path(bundle).read_bytes()
    backoff: Any = {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=1)}
    retry: Any = {
        "max_retries": RETRIES,
        "retry_timeout": timedelta(seconds=RETRY_WITHIN),
        "backoff": backoff,
    }
    return _STORES[scheme](
        bucket, prefix=prefix or None, config=config, client_options=client, retry_config=retry
    )


def _reason(error: Exception) -> str:
    text = str(error)
    found = (meaning for pattern, meaning in _REASONS if re.search(pattern, text))
    meaning = next(found, f"failed ({type(error).__name__})")
    if meaning in {_MISSING, _NO_CREDENTIALS}:
        return meaning
    status, code = re.search(r"\bstatus: (\d{3})\b", text), re.search(r"<Code>(\w{1,64})<", text)
    numbers = " ".join(number[1] for number in (status, code) if number)
    return f"{meaning} ({numbers})" if numbers else meaning
