"""The verdict on the archive: every image that could be kept is, and nothing is half there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from tests.chaos.evidence import Breach, Evidence, unix
from tests.chaos.plan import REDIS, Order

#: A link that lives this long after its job was settled is copied, if nothing dies meanwhile; and
#: as much longer, if the link fails at first. Seconds.
CALM, RETRY = 8.0, 10.0
#: A killed worker's put was begun at most so long before. Seconds.
PUT = 30.0
#: What may lie in the archive.
LAYOUT = re.compile(
    r"\d{4}-\d\d-\d\d/(job[_-]\w+)/(job\.json|(\d+|inline-[0-9a-f]+)(\.thumb)?\.[a-z0-9]+)"
)

Job = Mapping[str, Any]


def pictures(job: Job) -> list[Job]:
    """The images of a job that succeeded, and then those of a late success."""
    own = job.get("images", []) if job.get("status") == "succeeded" else []
    return [*own, *job.get("late_images", [])]


def archived(seen: Evidence) -> Iterator[Breach]:
    """Every breach of what is promised of images."""
    manifests = {PurePath(path).parent.name: m for path, m in seen.archive.manifests.items()}
    for order, job in seen.settled():
        if pictures(job):
            yield from _kept(seen, order, job)
            yield from _ended(seen, job, manifests.get(job["id"]))
            yield from _fetched_once(seen, order, job)
    yield from _whole(seen)


def missing(seen: Evidence) -> int:
    """How many images have no copy."""
    return sum(image["sha256"] is None for _, job in seen.settled() for image in pictures(job))


def _kept(seen: Evidence, order: Order, job: Job) -> Iterator[Breach]:
    for index, image in enumerate(pictures(job)):
        if image["sha256"] is None:
            if not may_be_lost(seen, order, job, image):
                why = f"{job['archive']['status']}, {image['error']}"
                yield Breach("kept", job["id"], f"image {index} was not archived: {why}")
            continue
        original = seen.originals.get(image["source_url"] or "", {})
        differs = [name for name, value in original.items() if image[name] != value]
        if differs:
            yield Breach("kept", job["id"], f"image {index} has another {', '.join(differs)}")


def _ended(seen: Evidence, job: Job, manifest: Job | None) -> Iterator[Breach]:
    """Whether an archive ended as its images say, once, and with its manifest."""
    status, copies = job["archive"]["status"], [image["sha256"] for image in pictures(job)]
    if (status == "done") != (None not in copies):
        yield Breach("kept", job["id"], f"its archive is {status}")
    ends = len(seen.named(job["id"], "archive_done")) + len(seen.named(job["id"], "archive_dead"))
    # A late success starts the archive of a job again, if it had one.
    most = (status != "pending") + bool(job["images"] and job.get("late_images"))
    if not (status != "pending") <= ends <= most:
        yield Breach("kept", job["id"], f"its archive is {status}, and ended {ends} times")
    if status != "pending" and (wrong := _differs(job, manifest)):
        yield Breach("kept", job["id"], wrong)


def _differs(job: Job, manifest: Job | None) -> str:
    """What a manifest does not say as its job does."""
    if manifest is None:
        return "it has no manifest"
    if (manifest.get("id"), manifest.get("status")) != (job["id"], job["status"]):
        return f"its manifest is of {manifest.get('id')}, {manifest.get('status')}"
    same = ("source_url", "sha256", "bytes", "width", "height", "content_type", "error")
    told = [{name: image[name] for name in same} for image in pictures(manifest)]
    listed = [{name: image[name] for name in same} for image in pictures(job)]
    return "" if told == listed else "its manifest lists other images"


def may_be_lost(seen: Evidence, order: Order, job: Job, image: Job) -> bool:
    """Whether an image may have no copy: its link died before there was time for one."""
    for task in seen.tasks_of(order):
        if task["id"] in (image["source_url"] or "") and "expire_links" in task["faults"]:
            # A late success ends after its job.
            settled = max(unix(job["settled_at"]), unix(task["finished_at"]))
            calm = settled + CALM + RETRY * ("image" in task["faults"])
            died = unix(task["finished_at"]) + float(task["faults"]["expire_links"])
            # A worker that was just killed is still starting.
            disturbed = seen.died(settled - CALM, calm, "worker", "beat", REDIS)
            return bool(image["error"]) and (died < calm or disturbed > 0)
    return False


def _fetched_once(seen: Evidence, order: Order, job: Job) -> Iterator[Breach]:
    if job["archive"]["status"] == "pending":
        return
    urls = [image["source_url"] or "" for image in pictures(job)]
    ended = unix(job["archive"]["last_attempt_at"])
    deaths = seen.died(unix(job["settled_at"]) - CALM, ended, "worker", REDIS)
    for task in seen.tasks_of(order):
        asked = max(task.get("image_asks") or [0])
        known = any(task["id"] in url for url in urls)
        if known and asked > job["archive"]["attempts"] + deaths:
            why = f"a link was asked for {asked} times in {job['archive']['attempts']} tries"
            yield Breach("fetched_once", job["id"], f"{why} and {deaths} deaths")


def _whole(seen: Evidence) -> Iterator[Breach]:
    listed = set(_listed(seen))
    for path in seen.archive.files:
        fits = LAYOUT.fullmatch(path)
        job = seen.jobs.get(fits[1]) if fits else None
        if fits is None or job is None or not pictures(job):
            yield Breach("whole", path, "nobody knows what it is")
        elif fits[3] and fits[3].startswith("inline"):
            # The name is the content's. A killed worker may have stored it and not recorded it.
            if path not in listed and not seen.deaths:
                yield Breach("whole", path, "no manifest lists it")
        elif fits[3] and int(fits[3]) >= len(pictures(job)):
            yield Breach("whole", path, "there is no such image")
    for path, manifest in seen.archive.manifests.items():
        if manifest is None:
            yield Breach("whole", path, "it cannot be read")
        else:
            yield from _files(seen, path, manifest)
    for written in seen.archive.halves:
        if not seen.died(written, written + PUT, "worker"):
            yield Breach("whole", "archive", "a file is half written, and no worker was killed")
    for path in seen.archive.downloads:
        yield Breach("whole", path, "a download was left")


def _listed(seen: Evidence) -> Iterator[str]:
    """The path of each image of each manifest, and that of a thumbnail somebody asked for."""
    for manifest in seen.archive.manifests.values():
        for image in pictures(manifest or {}):
            yield from filter(None, (image["path"], image["thumbnail"]))


def _files(seen: Evidence, path: str, manifest: Mapping[str, Any]) -> Iterator[Breach]:
    """Whether every file that a manifest names is there, as it says."""
    for index, image in enumerate(pictures(manifest)):
        if image["path"] is None:
            continue
        if seen.archive.files.get(image["path"]) != image["sha256"]:
            yield Breach("whole", path, f"image {index} is another file, or gone")
        if (image["thumbnail"] is None) is image.get("checked"):
            yield Breach("whole", path, f"image {index} has a wrong thumbnail")
