"""The place of an image: at the provider, in the archive, or lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fakeredis
import pytest

from orchestrator.jobs.model import Image, Outcome
from orchestrator.ledger import Ledger, LedgerUnavailable, identifiers, keys
from orchestrator.ledger.identifiers import folder
from orchestrator.operations.locate_image import Archived, AtProvider, Lost, locate_image
from orchestrator.operations.manifest import path
from orchestrator.storage.storage import StorageError
from tests.support import archive_kit, job_states
from tests.support.archive_kit import Gallery, archived, ended, picture
from tests.support.fakes import NOON, TENANT, Answer, Harness

LOST = Lost("it answered 404")


def everyone(_: str) -> bool:
    return True


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Harness:
    return archive_kit.harness(start, tmp_path)


@pytest.fixture
def mixed(harness: Harness) -> str:
    """A job with a lost first image and an archived second image."""
    return ended(harness, Gallery(harness).job(Answer(404), picture(1, "JPEG"), expires=[0, 0]))


def forgotten(harness: Harness, job_id: str) -> str:
    """Delete a job from the ledger and return its id."""
    harness.redis.delete(keys.job(job_id), keys.events(job_id))
    assert harness.ledger.get(job_id) is None
    return job_id


def copied(harness: Harness, job_id: str, index: int, extension: str) -> Archived:
    copy = harness.job(job_id).images[index].copy
    assert copy is not None
    place = f"{folder(job_id)}/{index}"
    kind = {"jpg": "image/jpeg", "png": "image/png"}[extension]
    return Archived(f"{place}.{extension}", f"{place}.thumb.webp", kind, copy.sha256)


def test_an_image_without_a_copy_is_at_the_provider(harness: Harness) -> None:
    gallery = Gallery(harness)
    job_id = gallery.job(Answer(404), picture())
    links = [image.source_url for image in harness.job(job_id).images]

    assert [locate_image(harness.runtime, job_id, n, sees=everyone) for n in (0, 1)] == [
        AtProvider(url) for url in links
    ]
    archived(harness, job_id)
    assert locate_image(harness.runtime, job_id, 0, sees=everyone) == AtProvider(links[0]), (
        "tried, and not given up"
    )
    assert locate_image(harness.runtime, job_id, 1, sees=everyone) == copied(
        harness, job_id, 1, "png"
    )


def test_an_image_that_was_given_up_is_lost_and_the_other_is_archived(
    harness: Harness, mixed: str
) -> None:
    assert locate_image(harness.runtime, mixed, 0, sees=everyone) == LOST
    assert locate_image(harness.runtime, mixed, 1, sees=everyone) == copied(
        harness, mixed, 1, "jpg"
    )


def test_the_manifest_of_an_expired_job_gives_the_same_answers(
    harness: Harness, mixed: str
) -> None:
    known = [locate_image(harness.runtime, mixed, index, sees=everyone) for index in range(3)]
    forgotten(harness, mixed)

    assert [
        locate_image(harness.runtime, mixed, index, sees=everyone) for index in range(3)
    ] == known
    assert known[2] is None


@pytest.mark.parametrize("index", [1, 2, 10**6, 2**63, 10**30])
def test_an_index_without_an_image_is_none(harness: Harness, index: int) -> None:
    job_id = archived(harness, Gallery(harness).job(picture()))

    assert locate_image(harness.runtime, job_id, index, sees=everyone) is None
    assert locate_image(harness.runtime, forgotten(harness, job_id), index, sees=everyone) is None


def test_a_job_without_images_has_none(harness: Harness) -> None:
    jobs = [
        harness.enqueue(),
        job_states.running(harness),
        job_states.refused(harness),
        job_states.cancelled(harness),
    ]

    assert [locate_image(harness.runtime, job_id, 0, sees=everyone) for job_id in jobs] == [
        None
    ] * 4


@pytest.mark.parametrize(
    "job_id",
    [
        "",
        "job_",
        "../../etc/passwd",
        "job_01m7z20phnfb7am34n5y69ch6f00x",
        "job_01m7z20phnfb7am34n5y69ch6f00\n",
        "JOB_01M7Z20PHNFB7AM34N5Y69CH6F00",
        "job_01m7z20phnfb7am34n5y69ch6f00",
        "job_" + "0" * 28,
        # Ids of the year 10889, which Python's datetime cannot hold, and of a later year.
        "job_7zzzzzzzzzzzzzzzzzzzzzzzzz00",
        "job_zzzzzzzzzzzzzzzzzzzzzzzzzz00",
        "job_01m7z20phnfb7am34n5y69ch6fff",
    ],
)
def test_an_unknown_job_is_none(harness: Harness, job_id: str) -> None:
    assert locate_image(harness.runtime, job_id, 0, sees=everyone) is None


def test_an_unreadable_manifest_gives_none(harness: Harness) -> None:
    job_id = identifiers.new_job_id(0, NOON)
    for content in (b"", b"{", b"[]", b'{"images": []}'):
        harness.runtime.storage.put(path(job_id), content, "application/json")
        assert locate_image(harness.runtime, job_id, 0, sees=everyone) is None


def test_the_manifest_is_not_read_while_the_ledger_has_the_job(
    harness: Harness, tmp_path: Path
) -> None:
    job_id = archived(harness, Gallery(harness).job(picture()))
    (tmp_path / "archive" / path(job_id)).unlink()

    assert locate_image(harness.runtime, job_id, 0, sees=everyone) == copied(
        harness, job_id, 0, "png"
    )


def test_an_expired_link_that_was_not_tried_is_at_the_provider(harness: Harness) -> None:
    image = Image("https://cdn.example/0.png", NOON - 1)

    job_id = job_states.ended(harness, Outcome.succeeded((image,)))

    assert locate_image(harness.runtime, job_id, 0, sees=everyone) == AtProvider(
        "https://cdn.example/0.png"
    )


def test_an_outage_of_the_storage_or_the_ledger_raises(harness: Harness, tmp_path: Path) -> None:
    job_id = forgotten(harness, archived(harness, Gallery(harness).job(picture())))
    (tmp_path / "archive" / path(job_id)).unlink()
    (tmp_path / "archive" / path(job_id)).mkdir()

    with pytest.raises(StorageError, match="Is a directory"):
        locate_image(harness.runtime, job_id, 0, sees=everyone)
    server = fakeredis.FakeServer()
    server.connected = False
    away = Ledger(lambda: fakeredis.FakeRedis(server=server, decode_responses=True))
    with pytest.raises(LedgerUnavailable):
        locate_image(harness.on(away).runtime, job_id, 0, sees=everyone)


def test_an_image_of_another_tenant_does_not_exist(harness: Harness, mixed: str) -> None:
    def others(tenant: str) -> bool:
        return tenant != TENANT

    known = locate_image(harness.runtime, mixed, 1, sees=others)
    forgotten(harness, mixed)

    assert known is None
    assert locate_image(harness.runtime, mixed, 1, sees=others) is None
    assert locate_image(harness.runtime, mixed, 1, sees=everyone) is not None
