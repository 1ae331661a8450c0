"""What a bucket adds: links, the environment, and servers that refuse, fall silent or break off."""

from __future__ import annotations

import io
import os
import re
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import certifi
import pytest
import requests

from orchestrator.storage import bucket
from orchestrator.storage.bucket import Bucket
from orchestrator.storage.source import PART_BYTES
from orchestrator.storage.storage import NotStored, Storage, StorageError
from tests.storage.servers import KEY, SECRET, Bucketlike, BucketReply, BucketRequest, stored
from tests.support import fork_server

MIB = 1024 * 1024
PATH = "2026-11-21/job_01/0.png"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs a tenth as long."""
    monkeypatch.setattr(bucket, "REQUEST_TIMEOUT_SECONDS", bucket.REQUEST_TIMEOUT_SECONDS / 10)
    monkeypatch.setattr(bucket, "CONNECT_TIMEOUT_SECONDS", bucket.CONNECT_TIMEOUT_SECONDS / 10)
    monkeypatch.setattr(bucket, "RETRY_TIMEOUT_SECONDS", bucket.RETRY_TIMEOUT_SECONDS / 10)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nothing listens on, and that nobody else is given."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def failure(server: Bucketlike, status: int, code: str) -> str:
    """What is said of a put that the server answers so."""
    said = (
        f"<Error><Code>{code}</Code><Message>{SECRET}</Message><StringToSign>{KEY}</StringToSign>"
    )
    body = f"<?xml version='1.0'?>{said}</Error>".encode() if code else b""
    server.answer = lambda call: BucketReply(status, body)
    with pytest.raises(StorageError) as raised:
        Storage.from_url("s3://archive/p").put(PATH, b"\0", "image/png")
    assert not isinstance(raised.value, NotStored)
    assert raised.value.__suppress_context__
    return str(raised.value)


def test_objects_lie_below_the_prefix_with_their_type(in_s3: Storage, s3: Any) -> None:
    in_s3.put(PATH, b"bytes", "image/png")
    in_s3.put("large.webp", bytes(11 * MIB), "image/webp")

    kept = s3.list_objects_v2(Bucket="archive")["Contents"]
    types = [s3.head_object(Bucket="archive", Key=k["Key"])["ContentType"] for k in kept]
    assert [k["Key"] for k in kept] == [f"pre/fix/{PATH}", "pre/fix/large.webp"]
    assert types == ["image/png", "image/webp"]


def test_a_bucket_needs_no_prefix(in_s3: Storage, s3: Any) -> None:
    for url in ("s3://archive", "s3://archive/"):
        storage = Storage.from_url(url)
        storage.put(PATH, b"bytes", "image/png")

        assert str(storage) == "s3://archive"
        assert [k["Key"] for k in s3.list_objects_v2(Bucket="archive")["Contents"]] == [PATH]


def test_a_link_gives_the_object_to_anybody_for_its_time(in_s3: Storage) -> None:
    in_s3.put(PATH, b"bytes", "image/png")

    link = in_s3.link(PATH, seconds=90)

    assert link is not None
    got = requests.get(link, timeout=60)
    assert (got.status_code, got.content) == (200, b"bytes")
    assert got.headers["Content-Type"] == "image/png"
    assert urlsplit(link).path == f"/archive/pre/fix/{PATH}"
    assert parse_qs(urlsplit(link).query)["X-Amz-Expires"] == ["90"]
    assert SECRET not in link


def test_large_files_go_in_parts_and_small_ones_at_once(server: Bucketlike) -> None:
    storage = Storage.from_url("s3://archive")

    storage.put("a.png", io.BytesIO(bytes(5 * MIB)), "image/png")
    assert [(c.method, c.size) for c in server.calls] == [("PUT", 5 * MIB)]

    server.calls.clear()
    storage.put("b.png", io.BytesIO(bytes(11 * MIB)), "image/png")
    assert sorted(c.size for c in server.calls if c.method == "PUT") == [MIB, 5 * MIB, 5 * MIB]
    assert [c.method for c in server.calls].count("POST") == 2


def test_what_a_put_holds_in_memory_is_small() -> None:
    assert bucket.MAX_CONCURRENT_PARTS * PART_BYTES <= 10 * MIB


def test_delete_is_a_call_that_every_server_knows(server: Bucketlike) -> None:
    Storage.from_url("s3://archive/p").delete(PATH)

    assert server.calls == [BucketRequest("DELETE", f"/archive/p/{PATH}", 0)]


def test_a_server_that_misses_what_is_deleted_has_deleted_it(server: Bucketlike) -> None:
    server.answer = lambda call: BucketReply(404, b"<Error><Code>NoSuchKey</Code></Error>")

    Storage.from_url("s3://archive/p").delete(PATH)


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "AccessDenied", "access denied (403 AccessDenied)"),
        (403, "SignatureDoesNotMatch", "wrong credentials (403 SignatureDoesNotMatch)"),
        (403, "InvalidAccessKeyId", "wrong credentials (403 InvalidAccessKeyId)"),
        (403, "RequestTimeTooSkewed", "the clock of this host is wrong (403 RequestTimeTooSkewed)"),
        (403, "ExpiredToken", "the credentials have expired (403 ExpiredToken)"),
        (403, "", "access denied (403)"),
        (401, "AccessDenied", "access denied (401 AccessDenied)"),
        (400, "ExpiredToken", "the credentials have expired (400 ExpiredToken)"),
        (400, "InvalidArgument", "refused (400 InvalidArgument)"),
        (404, "NoSuchBucket", "the bucket does not exist (404 NoSuchBucket)"),
        (404, "", "not found: the bucket does not exist, or the endpoint is not a storage"),
        (301, "PermanentRedirect", "the bucket is in another region"),
        (500, "InternalError", "unavailable (500 InternalError)"),
        (503, "SlowDown", "unavailable (503 SlowDown)"),
        (507, "XMinioStorageFull", "no space left (507 XMinioStorageFull)"),
        (507, "", "no space left (507)"),
    ],
)
def test_a_refusal_is_one_line_without_credentials(
    server: Bucketlike, status: int, code: str, said: str
) -> None:
    assert failure(server, status, code) == f"s3://archive/p: {said}, at {PATH}"


def test_a_wrong_region_is_told(server: Bucketlike) -> None:
    code, body = "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong"
    xml = f"<Error><Code>{code}</Code><Message>{body}</Message></Error>".encode()
    server.answer = lambda _: BucketReply(400, xml)

    with pytest.raises(StorageError, match="the bucket is in another region"):
        Storage.from_url("s3://archive/p").put(PATH, b"bytes", "image/png")


@pytest.mark.parametrize("size", [5, PART_BYTES + 1])
@pytest.mark.parametrize("page", [b"", b"<html>Sign in to this network</html>"])
def test_a_page_in_place_of_a_storage_stores_nothing(
    server: Bucketlike, page: bytes, size: int
) -> None:
    server.answer = lambda _: BucketReply(200, page)

    with pytest.raises(StorageError, match="the answer is not that of a storage"):
        Storage.from_url("s3://archive/p").put(PATH, bytes(size), "image/png")


def test_a_code_that_is_no_word_is_not_repeated(server: Bucketlike) -> None:
    assert failure(server, 403, "a b") == f"s3://archive/p: access denied (403), at {PATH}"
    assert failure(server, 403, "x" * 65) == f"s3://archive/p: access denied (403), at {PATH}"


def test_every_call_tells_a_refusal(server: Bucketlike) -> None:
    server.answer = lambda call: BucketReply(403)
    storage = Storage.from_url("s3://archive/p")

    with pytest.raises(StorageError, match="access denied"):
        storage.get(PATH)
    with pytest.raises(StorageError, match="access denied"):
        storage.delete(PATH)
    with pytest.raises(StorageError, match="access denied"):
        storage.check()


def test_a_missing_bucket_is_no_missing_object(in_s3: Storage) -> None:
    storage = Storage.from_url("s3://nowhere/p")

    for call in (storage.check, lambda: storage.get(PATH), lambda: storage.delete(PATH)):
        with pytest.raises(StorageError, match="the bucket does not exist") as raised:
            call()
        assert not isinstance(raised.value, NotStored)


def test_a_storage_that_is_away_is_told_within_seconds(
    closed_port: int, credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}")
    storage = Storage.from_url("s3://archive/p")

    for content in (b"small", bytes(11 * MIB)):
        with pytest.raises(StorageError, match="unreachable: connection refused"):
            storage.put(PATH, content, "image/png")


def test_a_name_that_is_not_known_is_told(
    credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://storage.invalid:9000")

    with pytest.raises(StorageError, match="unreachable: the host name is unknown"):
        Storage.from_url("s3://archive/p").put(PATH, b"", "image/png")


@pytest.mark.parametrize("size", [1, 11 * MIB], ids=["one request", "parts"])
def test_a_silent_storage_is_given_up(server: Bucketlike, impatient: None, size: int) -> None:
    storage = Storage.from_url("s3://archive/p")
    server.held.clear()

    with pytest.raises(StorageError, match="no answer within 10 s"):
        storage.put(PATH, bytes(size), "image/png")

    assert len(server.calls) == 1


def test_a_storage_that_falls_silent_midway_is_given_up(
    server: Bucketlike, impatient: None
) -> None:
    def midway(call: BucketRequest) -> BucketReply | None:
        if call.method == "PUT":
            server.held.clear()
        return stored(call)

    storage = Storage.from_url("s3://archive/p")
    server.answer = midway

    with pytest.raises(StorageError, match="no answer within 10 s"):
        storage.put(PATH, bytes(31 * MIB), "image/png")


def test_the_time_outs_end_a_put_within_twenty_seconds() -> None:
    assert 2 * bucket.REQUEST_TIMEOUT_SECONDS <= 20
    assert (
        bucket.RETRY_TIMEOUT_SECONDS + bucket.CONNECT_TIMEOUT_SECONDS
        < bucket.REQUEST_TIMEOUT_SECONDS
    )


def test_a_server_that_dies_midway_completes_nothing(server: Bucketlike) -> None:
    def dies(call: BucketRequest) -> BucketReply | None:
        return stored(call) if "partNumber=3" not in call.path and not dead(call) else None

    def dead(call: BucketRequest) -> bool:
        return any("partNumber=3" in earlier.path for earlier in server.calls)

    server.answer = dies

    with pytest.raises(StorageError, match=r"the connection broke|unreachable"):
        Storage.from_url("s3://archive/p").put(PATH, bytes(31 * MIB), "image/png")

    assert [c.path for c in server.calls if c.method == "POST"] == [f"/archive/p/{PATH}?uploads="]


def test_a_refused_part_takes_the_others_back(server: Bucketlike) -> None:
    server.answer = lambda call: BucketReply(403) if "partNumber=2" in call.path else stored(call)

    with pytest.raises(StorageError, match="access denied"):
        Storage.from_url("s3://archive/p").put(PATH, bytes(31 * MIB), "image/png")

    # A part that was under way may arrive after the request that ends the upload.
    assert BucketRequest("DELETE", f"/archive/p/{PATH}?uploadId=1", 0) in server.calls
    assert not any(
        call.path.endswith("?uploadId=1") for call in server.calls[1:] if call.method == "POST"
    )


def test_an_object_that_breaks_off_is_an_error(server: Bucketlike) -> None:
    whole = {"Content-Length": "100", "ETag": '"e"', "Last-Modified": "x", "Connection": "close"}
    whole["Last-Modified"] = "Sat, 21 Nov 2026 12:00:00 GMT"
    server.answer = lambda call: BucketReply(200, b"half", whole)

    with pytest.raises(StorageError):
        Storage.from_url("s3://archive/p").get(PATH)


def test_a_storage_that_recovers_is_asked_again(server: Bucketlike) -> None:
    server.answer = lambda call: stored(call) if len(server.calls) > 2 else BucketReply(503)

    Storage.from_url("s3://archive/p").put(PATH, b"1", "image/png")

    assert len(server.calls) == 3


GROWTH = """
import re, sys, tempfile
from pathlib import Path
from orchestrator.storage.storage import Storage
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
storage = Storage.from_url(sys.argv[1])
storage.put("warm.png", bytes(6 * 2**20), "image/png")
before = peak()
with tempfile.TemporaryFile() as file:
    file.truncate(100 * 2**20)
    storage.put("large.png", file, "image/png")
print((peak() - before) // 1024)
"""


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_a_large_put_takes_little_memory(server: Bucketlike, tmp_path: Path, kind: str) -> None:
    url = "s3://archive/p" if kind == "s3" else (tmp_path / "archive").as_uri()

    process = fork_server.run(["-c", GROWTH, url])

    assert process.returncode == 0, process.stderr
    assert int(process.stdout) < 40


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"])
def test_the_endpoint_comes_from_the_environment(
    server: Bucketlike, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    order = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
    for earlier in order[: order.index(variable)]:
        monkeypatch.setenv(earlier, "")
    monkeypatch.setenv(variable, server.url)
    for later in order[order.index(variable) + 1 :]:
        monkeypatch.setenv(later, "http://127.0.0.1:1")

    Storage.from_url("s3://archive/p").put(PATH, b"1", "image/png")

    assert server.calls == [BucketRequest("PUT", f"/archive/p/{PATH}", 1)]


def test_empty_variables_count_as_unset(
    server: Bucketlike, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")

    link = Storage.from_url("s3://archive/p").link(PATH, seconds=60) or ""

    assert link.startswith(server.url)
    assert "Security-Token" not in link
    assert "eu-west-1" in link


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({}, "us-east-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-west-2"}, "eu-west-2"),
    ],
)
def test_the_region_comes_from_the_environment(
    credentials: None, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], region: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    link = Storage.from_url("s3://archive/p").link(PATH, seconds=60) or ""

    assert link.startswith("https://")
    assert re.search(r"X-Amz-Credential=\w+%2F\d{8}%2F([\w-]+)%2F", link)[1] == region  # type: ignore[index]


def test_plain_http_is_spoken_only_where_the_endpoint_says_so(
    monkeypatch: pytest.MonkeyPatch, credentials: None
) -> None:
    given: list[bool] = []

    def made(name: str, **options: Any) -> object:
        given.append(options["client_options"]["allow_http"])
        return object()

    monkeypatch.setitem(bucket._STORES, "s3", made)
    for endpoint in ("", "https://minio.example", "http://127.0.0.1:9000"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        Storage.from_url("s3://archive/p")

    assert given == [False, False, True]


def test_without_credentials_a_silent_metadata_service_does_not_hang(
    server: Bucketlike, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", server.url)
    storage = Storage.from_url("s3://archive/p")
    server.held.clear()

    with pytest.raises(StorageError, match=r"p: there are no credentials in the environment"):
        storage.put(PATH, b"1", "image/png")
    with pytest.raises(StorageError, match=r"p: there are no credentials in the environment"):
        storage.link(PATH, seconds=60)


def test_a_ca_bundle_is_read_and_must_be_one(
    credentials: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", certifi.where())
    Storage.from_url("s3://archive/p")

    (tmp_path / "bundle").write_text("none")
    for wrong in (tmp_path / "bundle", tmp_path / "absent"):
        monkeypatch.setenv("AWS_CA_BUNDLE", str(wrong))
        with pytest.raises(ValueError, match=r"s3://archive/p: the AWS_\* variables"):
            Storage.from_url("s3://archive/p")


def test_a_bucket_in_a_forked_process_is_an_error_and_does_not_hang(
    server: Bucketlike, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage.from_url("s3://archive/p")
    storage.put(PATH, b"1", "image/png")
    monkeypatch.setattr(os, "getpid", lambda process=os.getpid(): process + 1)  # noqa: B008

    with pytest.raises(StorageError, match="this process was forked"):
        storage.put(PATH, b"1", "image/png")

    monkeypatch.setattr(Bucket, "_process", None)
    storage.put(PATH, b"1", "image/png")


def test_azure_needs_an_account_and_signs_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="AZURE_STORAGE_ACCOUNT_NAME is not set"):
        Storage.from_url("az://archive/p")

    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "ours")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5a2V5a2V5")
    link = Storage.from_url("az://archive/p").link(PATH, seconds=60) or ""

    assert link.startswith(f"https://ours.blob.core.windows.net/archive/p/{PATH}?")
    query = parse_qs(urlsplit(link).query)
    assert "a2V5" not in link
    assert query["sp"] == ["r"]
    assert query["se"] > query["st"]


def test_azure_with_a_shared_access_signature_never_tells_it(
    server: Bucketlike, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "ours")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", f"sv=2023-11-03&sig={SECRET}")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", server.url)
    server.answer = lambda call: BucketReply(
        403, b"<Error><Code>AuthenticationFailed</Code></Error>"
    )
    storage = Storage.from_url("az://archive/p")

    with pytest.raises(StorageError) as raised:
        storage.put(PATH, b"1", "image/png")

    said = f"az://archive/p: access denied (403 AuthenticationFailed), at {PATH}"
    assert str(raised.value) == said
    assert "sig=" in server.calls[0].path
    assert storage.link(PATH, seconds=60) is None


def test_a_google_key_that_cannot_be_read_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", f'{{"private_key": "{SECRET}", ')

    with pytest.raises(ValueError, match=r"gs://archive: the GOOGLE_\* variables") as raised:
        Storage.from_url("gs://archive")

    assert SECRET not in str(raised.value)


def test_a_life_is_given_in_seconds(in_s3: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[timedelta] = []
    monkeypatch.setattr("obstore.sign", lambda *told: given.append(told[3]))

    in_s3.link(PATH, seconds=7)

    assert given == [timedelta(seconds=7)]
