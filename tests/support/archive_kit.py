"""A harness with an archive: image links with answers that the test sets, and succeeded jobs."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from PIL import Image as Pillow

from orchestrator.jobs.model import FollowUp, FollowUpStatus, Image, Outcome, Step
from orchestrator.ledger import identifiers, keys
from orchestrator.ledger.identifiers import folder
from orchestrator.step_loop import in_thread
from orchestrator.steps.archive import archive
from orchestrator.storage.commits import Run
from orchestrator.storage.folder import Folder
from orchestrator.storage.storage import Bundle, Storage, StorageError
from tests.support import job_states
from tests.support.fakes import Answer, Harness, ReceivedRequest

#: The answer of an image link: image bytes, an answer, None to drop the connection, or a function.
LinkAnswer = bytes | Answer | None | Callable[[ReceivedRequest], Answer | None]

DEAD_LINK = Answer(404, b"gone")
#: The default lifetime of a link after the success of its job. ms.
LINK_LIFETIME_MS = 24 * 3_600_000


def harness(start: Callable[..., Harness], folder: Path, **variables: str) -> Harness:
    """Return a harness that archives into `folder` and may call 127.0.0.1."""
    settings = {
        "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS": "1",
        "ORCHESTRATOR_ARCHIVE_URL": (folder / "archive").as_uri(),
        "ORCHESTRATOR_DATA_DIR": str(folder / "data"),
        "ORCHESTRATOR_DOWNLOAD_TIMEOUT_SECONDS": "5",
        **variables,
    }
    return start(**settings)


def picture(number: int = 0, form: str = "PNG", size: tuple[int, int] = (96, 64)) -> bytes:
    """Return the bytes of an image. Each number gives another image."""
    image, file = Pillow.new("RGB", size, (number * 40 % 256, number, 90)), io.BytesIO()
    image.save(file, form)
    return file.getvalue()


@dataclass
class Gallery:
    """The image links of a fake provider. A test can change their answers at any time."""

    harness: Harness
    pages: dict[str, LinkAnswer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.harness.provider.handler = self._show

    def add_links(self, *pages: LinkAnswer) -> list[str]:
        """Add links with these answers and return their URLs."""
        paths = [f"/image-{len(self.pages) + number}" for number in range(len(pages))]
        self.pages.update(zip(paths, pages, strict=True))
        return [f"{self.harness.provider.url}{path}" for path in paths]

    def job(
        self, *pages: LinkAnswer, expires: Sequence[int | None] | None = None, **fields: Any
    ) -> str:
        """Return a job that has just succeeded, with image links that give these answers.

        `expires` is the lifetime of each link from now, ms.
        """
        now, lifetimes = self.harness.clock.now, expires or [LINK_LIFETIME_MS] * len(pages)
        links = zip(self.add_links(*pages), lifetimes, strict=True)
        images = [
            Image(url, None if lifetime is None else now + lifetime) for url, lifetime in links
        ]
        return job_states.ended(self.harness, Outcome.succeeded(tuple(images)), **fields)

    def fetched(self) -> list[str]:
        """Return the paths that were fetched since the last call."""
        paths = [request.path for request in self.harness.provider.requests]
        self.harness.provider.requests.clear()
        return paths

    def _show(self, request: ReceivedRequest) -> Answer | None:
        page = self.pages[request.path]
        if isinstance(page, bytes):
            return Answer(200, page, {"Content-Type": "image/png"})
        return page(request) if callable(page) else page


class RecordingStorage(Storage):
    """A folder storage that records each stored path and refuses the paths that a test chooses."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Folder(folder))
        self.paths: list[str] = []
        self.refuses: Callable[[str], bool] = lambda _: False
        self.failure: Exception = StorageError("the storage is away")

    def commit(
        self, bundle: Bundle, run: Run = in_thread, written: Callable[[], None] = lambda: None
    ) -> None:
        paths = [each.path for each in bundle.objects]
        self.paths += paths
        if any(map(self.refuses, paths)):
            bundle.clear()
            raise self.failure
        super().commit(bundle, run, written)


def with_recording_storage(harness: Harness, folder: Path) -> tuple[Harness, RecordingStorage]:
    """Return the harness with a recording storage."""
    storage = RecordingStorage(folder / "archive")
    return harness.with_runtime(storage=storage), storage


def archived(harness: Harness, job_id: str) -> str:
    """Run the archive step once and return the job's id."""
    archive(harness.runtime, job_id)
    return job_id


def again(harness: Harness, job_id: str) -> str:
    """Run the step at the time that the ledger planned."""
    wait = seconds_until_due(harness, job_id)
    assert wait is not None, "the step is not pending"
    harness.clock.forward(max(0, wait))
    return archived(harness, job_id)


def times_of_tries(harness: Harness, job_id: str) -> list[float]:
    """Try until the archive has ended. Return the time of each try from now on, seconds."""
    times, begun = [], harness.clock.now
    while state(harness, job_id).status is FollowUpStatus.PENDING:
        again(harness, job_id)
        times.append((harness.clock.now - begun) / 1000)
    return times


def ended(harness: Harness, job_id: str) -> str:
    """Try until the archive has ended, and return the job's id."""
    times_of_tries(harness, job_id)
    return job_id


def seconds_until_due(harness: Harness, job_id: str) -> float | None:
    """Return the seconds until the archive step is due, or None when it has ended."""
    flow = keys.follow_up(identifiers.shard_of(job_id), Step.ARCHIVE, harness.job(job_id).tenant)
    score: Any = harness.redis.zscore(flow, job_id)
    return None if score is None else (float(score) - harness.clock.now) / 1000


def state(harness: Harness, job_id: str) -> FollowUp:
    """Return the state of a job's archive."""
    follow_up = harness.job(job_id).archive
    assert follow_up is not None
    return follow_up


def errors(harness: Harness, job_id: str) -> list[str | None]:
    """Return the error of each image."""
    return [image.error for image in harness.job(job_id).images]


def path_of(job_id: str, name: str) -> str:
    """Return the path of a file in the folder of a job."""
    return f"{folder(job_id)}/{name}"


def slow(harness: Harness, seconds: float, page: LinkAnswer) -> LinkAnswer:
    """Return an answer that takes these seconds by the harness's clock."""

    def show(_: ReceivedRequest) -> Answer | None:
        harness.clock.forward(seconds)
        assert isinstance(page, Answer | bytes)
        return Answer(200, page) if isinstance(page, bytes) else page

    return show


def manifest(harness: Harness, job_id: str) -> Any:
    """Return the content of a job's manifest."""
    [path] = [path for path in Path(_root(harness)).rglob("job.json") if job_id in str(path)]
    return orjson.loads(path.read_bytes())


def files(harness: Harness) -> dict[str, bytes]:
    """Return every file in the archive and in the download folder, temporary files included."""
    roots = {"": _root(harness), "downloads/": harness.runtime.settings.data_dir / "downloads"}
    return {
        f"{name}{path.relative_to(root)}": path.read_bytes()
        for name, root in roots.items()
        for path in root.rglob("*")
        if path.is_file()
    }


def _root(harness: Harness) -> Path:
    return Path(harness.runtime.settings.archive_url.removeprefix("file://"))
