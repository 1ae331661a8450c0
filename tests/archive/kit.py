"""A world with an archive: links that give what a test says, and jobs whose images are there."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from PIL import Image as Pillow

from orchestrator.archive.folder import Folder
from orchestrator.archive.manifest import folder
from orchestrator.archive.step import archive
from orchestrator.archive.storage import Storage, StorageError
from orchestrator.jobs import FollowUp, Image, Outcome, Step
from orchestrator.ledger import keys
from tests import lives
from tests.fakes import Answer, Asked, World

#: What a link answers: an image's bytes, any answer, none (None), or what a function decides.
Page = bytes | Answer | None | Callable[[Asked], Answer | None]

DEAD_LINK = Answer(404, b"gone")
#: When links die, unless a test says otherwise: ms after the job's success.
LIFE = 24 * 3_600_000


def world(start: Callable[..., World], folder: Path, **variables: str) -> World:
    """A world whose archive and data are in `folder`, and which may ask 127.0.0.1."""
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
    """The links of a world's provider. What they give can be changed at any time."""

    world: World
    pages: dict[str, Page] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world.provider.handler = self._show

    def hang(self, *pages: Page) -> list[str]:
        """New links that give these pages."""
        paths = [f"/image-{len(self.pages) + number}" for number in range(len(pages))]
        self.pages.update(zip(paths, pages, strict=True))
        return [f"{self.world.provider.url}{path}" for path in paths]

    def job(self, *pages: Page, expires: Sequence[int | None] | None = None, **how: Any) -> str:
        """A job that has just succeeded, with images at links that give these pages; its id.

        `expires` is when each link dies, ms from now.
        """
        now, lives_for = self.world.clock.now, expires or [LIFE] * len(pages)
        links = zip(self.hang(*pages), lives_for, strict=True)
        images = [Image(url, None if life is None else now + life) for url, life in links]
        return lives.ended(self.world, Outcome.succeeded(tuple(images)), **how)

    def fetched(self) -> list[str]:
        """The paths that were asked for since the last call."""
        paths = [asked.path for asked in self.world.provider.asked]
        self.world.provider.asked.clear()
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


def watched(world: World, folder: Path) -> tuple[World, Watched]:
    """The same world with a storage that is watched."""
    storage = Watched(folder / "archive")
    return replace(world, runtime=replace(world.runtime, storage=storage)), storage


def archived(world: World, job_id: str) -> str:
    """Take the step with a job once; its id."""
    archive(world.runtime, job_id)
    return job_id


def again(world: World, job_id: str) -> str:
    """Take it at the moment that the ledger says."""
    wait = next_look(world, job_id)
    assert wait is not None, "nothing is to be done"
    world.clock.forward(max(0, wait))
    return archived(world, job_id)


def next_look(world: World, job_id: str) -> float | None:
    """Seconds until the archive step is due; None: it is over."""
    score: Any = world.redis.zscore(keys.follow_up(keys.shard_of(job_id), Step.ARCHIVE), job_id)
    return None if score is None else (float(score) - world.clock.now) / 1000


def state(world: World, job_id: str) -> FollowUp:
    """How far a job's archive is."""
    found = world.job(job_id).archive
    assert found is not None
    return found


def errors(world: World, job_id: str) -> list[str | None]:
    """Why each image has no copy."""
    return [image.error for image in world.job(job_id).images]


def place(job_id: str, name: str) -> str:
    """The path of a file of a job."""
    return f"{folder(job_id)}/{name}"


def slow(world: World, seconds: float, page: Page) -> Page:
    """A page that takes so long, by the world's clock."""

    def show(_: Asked) -> Answer | None:
        world.clock.forward(seconds)
        assert isinstance(page, Answer | bytes)
        return Answer(200, page) if isinstance(page, bytes) else page

    return show


def manifest(world: World, job_id: str) -> Any:
    """What a job's manifest says."""
    [path] = [path for path in Path(_root(world)).rglob("job.json") if job_id in str(path)]
    return orjson.loads(path.read_bytes())


def files(world: World) -> dict[str, bytes]:
    """Everything in the archive's folder, halves and strays too, and every download left behind."""
    roots = {"": _root(world), "downloads/": world.runtime.settings.data_dir / "downloads"}
    return {
        f"{name}{path.relative_to(root)}": path.read_bytes()
        for name, root in roots.items()
        for path in root.rglob("*")
        if path.is_file()
    }


def _root(world: World) -> Path:
    return Path(world.runtime.settings.archive_url.removeprefix("file://"))
