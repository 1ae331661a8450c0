"""An environment without clouds, and the storages that every test of the contract runs on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from orchestrator.storage.storage import Storage
from tests.storage.servers import KEY, SECRET, Bucketlike, bucket_client, bucketlike, moto

CLOUDS = ("AWS_", "GOOGLE_", "AZURE_")


@pytest.fixture(autouse=True)
def _no_clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(CLOUDS)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """moto's S3, by real HTTP."""
    with moto() as endpoint:
        yield endpoint


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture
def s3(s3_endpoint: str, credentials: None) -> Iterator[Any]:
    """boto3's client of moto, with an empty bucket named `archive`."""
    client = bucket_client(s3_endpoint)
    client.create_bucket(Bucket="archive")
    yield client
    client.close()
    # moto keeps deleted objects, too, until it is reset.
    requests.post(f"{s3_endpoint}/moto-api/reset", timeout=60).raise_for_status()


@pytest.fixture
def in_s3(s3: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A storage in moto's bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    return Storage.from_url("s3://archive/pre/fix")


@pytest.fixture(params=["file", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """The same test on a folder and on a bucket."""
    if request.param == "file":
        return Storage.from_url((tmp_path / "archive").as_uri())
    storage: Storage = request.getfixturevalue("in_s3")
    return storage


@pytest.fixture
def objects(
    request: pytest.FixtureRequest, storage: Storage, tmp_path: Path
) -> Callable[[], list[str]]:
    """Whatever is kept in the storage, halves and parts of uploads too; paths, in order."""

    def of_folder() -> list[str]:
        root = tmp_path / "archive"
        return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())

    def of_bucket() -> list[str]:
        s3 = request.getfixturevalue("s3")
        kept = s3.list_objects_v2(Bucket="archive").get("Contents", ())
        parts = s3.list_multipart_uploads(Bucket="archive").get("Uploads", ())
        return sorted(
            [found["Key"].removeprefix("pre/fix/") for found in kept]
            + [f"parts of {found['Key']}" for found in parts]
        )

    return of_folder if str(storage).startswith("file") else of_bucket


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, credentials: None) -> Iterator[Bucketlike]:
    """A bucket's server that answers what the test says."""
    with bucketlike() as told:
        monkeypatch.setenv("AWS_ENDPOINT_URL", told.url)
        yield told
