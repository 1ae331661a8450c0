"""Stores objects in a bucket of S3, Google Cloud or Azure, with obstore.

obstore reads credentials and endpoints from the environment when the store is made. This module
adds four rules. An empty variable counts as unset. The endpoint is AWS_ENDPOINT_URL_S3, else
AWS_ENDPOINT_URL, else AWS_ENDPOINT. AWS_CA_BUNDLE is trusted too. Plain HTTP is used only for an
endpoint that begins with http://.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from orchestrator.storage.bundle import NewObject
from orchestrator.storage.commits import Run
from orchestrator.storage.errors import NotStored, StorageError
from orchestrator.storage.source import PART_BYTES

#: The parts that are uploaded at the same time. A put holds them in memory.
MAX_CONCURRENT_PARTS = 2
CONNECT_TIMEOUT_SECONDS = 3.0
#: For one request with its body and its answer.
REQUEST_TIMEOUT_SECONDS = 10.0
#: obstore repeats a request a few times for a short time. Steps have their own back-off.
MAX_RETRIES = 2
RETRY_TIMEOUT_SECONDS = 5.0

_STORES: dict[str, type[S3Store | GCSStore | AzureStore]] = {
    "s3": S3Store,
    "gs": GCSStore,
    "az": AzureStore,
}
SCHEMES = frozenset(_STORES)
_VARIABLES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
#: The variables that name another server, in the order of precedence.
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}

_NO_CREDENTIALS = "there are no credentials in the environment, and no metadata service"
_OTHER_REGION = "the bucket is in another region"
_MISSING = "not found: the bucket does not exist, or the endpoint is not a storage"
#: Patterns in obstore's errors, and their meaning. The first match counts. Messages show only the
#: meaning and the server's error code. The rest of an error may hold keys, signatures and tokens.
_REASONS = (
    (r"/latest/(api|meta-data)|computeMetadata|metadata/identity", _NO_CREDENTIALS),
    (r"MissingAccount", "AZURE_STORAGE_ACCOUNT_NAME is not set"),
    (r"<Code>(NoSuchBucket|ContainerNotFound)<", "the bucket does not exist"),
    (r"<Code>(XMinioStorageFull|\w*QuotaExceeded)<|status: 507\b", "no space left"),
    (r"<Code>Expired\w*<", "the credentials have expired"),
    (r"<Code>(InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken)<", "wrong credentials"),
    (r"<Code>RequestTimeTooSkewed<", "the clock of this host is wrong"),
    (r"status: 40[13]\b", "access denied"),
    (r"BareRedirect|status: 30[178]\b", _OTHER_REGION),
    (r"<Code>AuthorizationHeaderMalformed<.*\bregion\b", _OTHER_REGION),
    (r"MissingEtag|InvalidMultipartResponse", "the answer is not that of a storage"),
    (r"status: 404\b", _MISSING),
    (r"status: (5\d\d|429)\b", "unavailable"),
    (r"status: 4\d\d\b", "refused"),
    (r"kind: Timeout\b|TimedOut", f"no answer within {REQUEST_TIMEOUT_SECONDS:.0f} s"),
    (r"dns error", "unreachable: the host name is unknown"),
    (r"Connection refused", "unreachable: connection refused"),
    (r"kind: Connect\b", "unreachable"),
    (r"kind: (Request|Interrupted|Decode|Body)\b", "the connection broke"),
)
_FAILURES = (BaseError, OSError, ValueError, RuntimeError)


class Bucket:
    """A bucket as a storage. Paths were checked by `Storage`. Methods raise StorageError.

    Raises:
        ValueError: a variable of the environment is missing or invalid.
    """

    #: The process that owns obstore's threads. In a fork of it, every call would wait forever.
    _process: ClassVar[int | None] = None

    def __init__(self, scheme: str, bucket: str, prefix: str) -> None:
        self.description = f"{scheme}://{bucket}/{prefix}".rstrip("/")
        try:
            self._store = _store(scheme, bucket, prefix)
        except _FAILURES as error:
            # Only the reason: the error may quote a key file.
            variables = f"the {_VARIABLES[scheme]}* variables are not sufficient"
            raise ValueError(f"{self.description}: {variables} ({_reason(error)})") from None

    def commit(self, objects: Sequence[NewObject], run: Run, written: Callable[[], None]) -> None:
        """Store objects. A bucket answers a put when the object is safe."""
        run(partial(self._put_all, objects))
        written()

    def _put_all(self, objects: Sequence[NewObject]) -> None:
        for each in objects:
            self._put(each)

    def _put(self, new: NewObject) -> None:
        """Store an object. obstore removes the parts of a put that fails."""
        attributes: Any = {"Content-Type": new.content_type}
        if new.attachment:
            name = new.path.rpartition("/")[2]
            attributes["Content-Disposition"] = f'attachment; filename="{name}"'
        file: Any = new.source
        with self._storage_errors(new.path):
            obstore.put(
                self._store,
                new.path,
                file,
                attributes=attributes,
                chunk_size=PART_BYTES,
                max_concurrency=MAX_CONCURRENT_PARTS,
            )

    def size(self, path: str) -> int | None:
        """Return the length of an object, bytes; None if it does not exist."""
        with suppress(NotStored), self._storage_errors(path, reading=True):
            return obstore.head(self._store, path)["size"]
        return None

    def modified(self, path: str) -> int | None:
        """Return when an object was put, ms; None if it does not exist."""
        with suppress(NotStored), self._storage_errors(path, reading=True):
            return _ms(obstore.head(self._store, path)["last_modified"])
        return None

    def put_before(self, folder: str, before: int) -> Iterator[str]:
        """Yield the paths of the objects in a folder that were put before a time, ms."""
        with self._storage_errors("its list of objects"):
            for page in obstore.list(self._store, folder):
                yield from (e["path"] for e in page if _ms(e["last_modified"]) < before)

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield an object's bytes."""
        with self._storage_errors(path, reading=True):
            for piece in obstore.get(self._store, path).stream(min_chunk_size=PART_BYTES):
                yield bytes(piece)

    def paths(self) -> Iterator[str]:
        """Yield the paths of all objects."""
        with self._storage_errors("its list of objects"):
            for page in obstore.list(self._store):
                yield from (each["path"] for each in page)

    def local_path(self, path: str) -> Path | None:
        """Return None: the objects are not in the file system."""
        return None

    def link(self, path: str, seconds: int) -> str | None:
        """Return a signed URL. With an Azure shared access signature it is None."""
        with self._storage_errors(path):
            try:
                return obstore.sign(self._store, "GET", path, timedelta(seconds=seconds))
            except BaseError as error:
                if "SASforSASNotSupported" in str(error):
                    return None
                raise

    def delete(self, path: str) -> None:
        """Delete an object."""
        with suppress(NotStored), self._storage_errors(path, reading=True):
            obstore.delete(self._store, path)

    def sweep(self) -> None:
        """No-op: the parts of a killed process need a lifecycle rule of the bucket."""

    @contextmanager
    def _storage_errors(self, path: str, *, reading: bool = False) -> Iterator[None]:
        if Bucket._process not in {None, os.getpid()}:
            raise StorageError(
                f"{self.description}: this process was forked after the storage was used"
            )
        Bucket._process = os.getpid()
        try:
            yield
        except _FAILURES as error:
            reason = _reason(error)
            if reading and reason == _MISSING:
                raise NotStored(f"{self.description}: {path} does not exist") from None
            raise StorageError(f"{self.description}: {reason}, at {path}") from None


def _ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def _store(scheme: str, bucket: str, prefix: str) -> S3Store | GCSStore | AzureStore:
    for name in [n for n in os.environ if n.startswith(_VARIABLES[scheme]) and not os.environ[n]]:
        del os.environ[name]  # obstore would use the empty value
    endpoint = next(filter(None, map(os.environ.get, _ENDPOINTS[scheme])), "")
    config: Any = {}
    client: Any = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_SECONDS),
        "timeout": timedelta(seconds=REQUEST_TIMEOUT_SECONDS),
    }
    if scheme == "s3":
        # Not every server knows the call that deletes many objects.
        config["disable_bulk_delete"] = True
        if endpoint:
            config["aws_endpoint_url_s3"] = endpoint
        if bundle := os.environ.get("AWS_CA_BUNDLE"):
            client["root_certificate"] = Path(bundle).read_bytes()
    backoff: Any = {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=1)}
    retry: Any = {
        "max_retries": MAX_RETRIES,
        "retry_timeout": timedelta(seconds=RETRY_TIMEOUT_SECONDS),
        "backoff": backoff,
    }
    return _STORES[scheme](
        bucket, prefix=prefix or None, config=config, client_options=client, retry_config=retry
    )


def _reason(error: Exception) -> str:
    text = str(error)
    meanings = (meaning for pattern, meaning in _REASONS if re.search(pattern, text))
    meaning = next(meanings, f"failed ({type(error).__name__})")
    if meaning in {_MISSING, _NO_CREDENTIALS}:
        return meaning
    status, code = re.search(r"\bstatus: (\d{3})\b", text), re.search(r"<Code>(\w{1,64})<", text)
    numbers = " ".join(number[1] for number in (status, code) if number)
    return f"{meaning} ({numbers})" if numbers else meaning
