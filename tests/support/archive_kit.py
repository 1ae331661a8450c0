"""A harness with an archive: links that give what a test says, and jobs whose images are there."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from PIL import Image as Pillow

from orchestrator.jobs.model import FollowUp, Image, Outcome, Step
from orchestrator.ledger import keys
from orchestrator.operations.manifest import folder
from orchestrator.steps.archive import archive
from orchestrator.storage.folder import Folder
from orchestrator.storage.storage import Storage, StorageError
from tests.support import job_states
from tests.support.fakes import Answer, Asked, Harness

#: What a link answers: an image's bytes, any answer, none (None), or what a function decides.
Page = bytes | Answer | None | Callable[[Asked], Answer | None]

DEAD_LINK = Answer(404, b"gone")
#: When links die, unless a test says otherwise: ms after the job's success.
LIFE = 24 * 3_600_000


def harness(start: Callable[..., Harness], folder: Path, **variables: str) -> Harness:
    """A harness whose archive and data are in `folder`, and which may ask 127.0.0.1."""
    told = {
        "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS": "1",
        "ORCHESTRATOR_ARCHIVE_URL": (folder / "archive").as_uri(),
        "ORCHESTRATOR_DATA_DIR": str(folder / "data"),
        "ORCHESTRATOR_DOWNLOAD_TIMEOUT_SECONDS": "5",
        **variables,
    }
    return start(**told)


def picture(number: int = 0, form: str = "PNG", size: tuple[int, int] = (96, 64)) -> bytes:
    """An image's file; another for each number."""
    image, file = Pillow.new("RGB", size, (number * 40 % 256, number, 90)), io.BytesIO()
    image.save(file, form)
    return file.getvalue()


@dataclass
class Gallery:
    """The links of a harness's provider. What they give can be changed at any time."""

    harness: Harness
    pages: dict[str, Page] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.harness.provider.handler = self._show

    def hang(self, *pages: Page) -> list[str]:
        """New links that give these pages."""
        paths = [f"/image-{len(self.pages) + number}" for number in range(len(pages))]
        self.pages.update(zip(paths, pages, strict=True))
        return [f"{self.harness.provider.url}{path}" for path in paths]

    def job(self, *pages: Page, expires: Sequence[int | None] | None = None, **how: Any) -> str:
        """A job that has just succeeded, with images at links that give these pages; its id.

        `expires` is when each link dies, ms from now.
        """
        now, lives_for = self.harness.clock.now, expires or [LIFE] * len(pages)
        links = zip(self.hang(*pages), lives_for, strict=True)
        images = [Image(url, None if life is None else now + life) for url, life in links]
        return job_states.ended(self.harness, Outcome.succeeded(tuple(images)), **how)

    def fetched(self) -> list[str]:
        """The paths that were asked for since the last call."""
        paths = [asked.path for asked in self.harness.provider.asked]
        self.harness.provider.asked.clear()
        return paths

    def _show(self, asked: Asked) -> Answer | None:
        page = self.pages[asked.path]
        if isinstance(page, bytes):
            return Answer(200, page, {"Content-Type": "image/png"})
        return page(asked) if callable(page) else page


class Watched(Storage):
    """A folder's storage that notes what is put, and refuses the paths that a test names."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Folder(folder))
        self.paths: list[str] = []
        self.refuses: Callable[[str], bool] = lambda _: False

    def put(self, path: str, content: BinaryIO | bytes, content_type: str) -> None:
        self.paths.append(path)
        if self.refuses(path):
            raise StorageError("the storage is away")
        super().put(path, content, content_type)


def watched(harness: Harness, folder: Path) -> tuple[Harness, Watched]:
    """The same harness with a storage that is watched."""
    storage = Watched(folder / "archive")
    return replace(harness, runtime=replace(harness.runtime, storage=storage)), storage


def archived(harness: Harness, job_id: str) -> str:
    """Take the step with a job once; its id."""
    archive(harness.runtime, job_id)
    return job_id


def again(harness: Harness, job_id: str) -> str:
    """Take it at the moment that the ledger says."""
    wait = due_at(harness, job_id)
    assert wait is not None, "nothing is to be done"
    harness.clock.forward(max(0, wait))
    return archived(harness, job_id)


def due_at(harness: Harness, job_id: str) -> float | None:
    """Seconds until the archive step is due; None: it is over."""
    score: Any = harness.redis.zscore(keys.follow_up(keys.shard_of(job_id), Step.ARCHIVE), job_id)
    return None if score is None else (float(score) - harness.clock.now) / 1000


def state(harness: Harness, job_id: str) -> FollowUp:
    """How far a job's archive is."""
    found = harness.job(job_id).archive
    assert found is not None
    return found


def errors(harness: Harness, job_id: str) -> list[str | None]:
    """Why each image has no copy."""
    return [image.error for image in harness.job(job_id).images]


def place(job_id: str, name: str) -> str:
    """The path of a file of a job."""
    return f"{folder(job_id)}/{name}"


def slow(harness: Harness, seconds: float, page: Page) -> Page:
    """A page that takes so long, by the harness's clock."""

    def show(_: Asked) -> Answer | None:
        harness.clock.forward(seconds)
        assert isinstance(page, Answer | bytes)
        return Answer(200, page) if isinstance(page, bytes) else page

    return show


def manifest(harness: Harness, job_id: str) -> Any:
    """What a job's manifest says."""
    [path] = [path for path in Path(_root(harness)).rglob("job.json") if job_id in str(path)]
    return orjson.loads(path.read_bytes())


def files(harness: Harness) -> dict[str, bytes]:
    """Everything in the archive's folder, halves and strays too, and every download left behind."""
    roots = {"": _root(harness), "downloads/": harness.runtime.settings.data_dir / "downloads"}
    return {
        f"{name}{path.relative_to(root)}": path.read_bytes()
        for name, root in roots.items()
        for path in root.rglob("*")
        if path.is_file()
    }


def _root(harness: Harness) -> Path:
    return Path(harness.runtime.settings.archive_url.removeprefix("file://"))
