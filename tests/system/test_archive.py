"""Images on their way into the archive, by real processes: whatever the link, the disk or the
worker does.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from redis import Redis

from orchestrator.cli.processes import process_command
from orchestrator.clock import now_ms
from orchestrator.jobs.model import Step
from orchestrator.ledger import keys
from orchestrator.ledger.identifiers import folder
from orchestrator.messages import ARCHIVE_QUEUE, QUEUE
from sandbox.file_kinds import FILE_KINDS
from sandbox.link_faults import LINK_KINDS
from tests.ledger.kit import make_due
from tests.support.providers import EXAMPLE_MODELS
from tests.system.conftest import WAIT_SECONDS, Client, eventually
from tests.system.rack import family

#: What is said of each kind of bad link; None: it leads to the image all the same.
SAID = {
    "404": r"it answered 404",
    "403": r"it answered 403",
    "410": r"it answered 410",
    "503": r"it answered 503",
    "json": r"an error page: JSON: .+",
    "html": r"an error page: HTML: <!doctype html>.*",
    "xml": r"an error page: XML: .+",
    "nothing": r"an empty file",
    "cut": r"the body broke off: .+",
    "short": r"truncated: the end of the \w+ file is missing",
    "small_length": r"truncated: the end of the \w+ file is missing",
    "slow": r"it did not end in time",
    "endless": r"the body has more than 4194304 bytes",
    "gzip_bomb": r"the body has more than 4194304 bytes",
    "redirect": None,
    "redirect_odd": None,
    "redirect_loop": r"more than 5 redirects",
    "redirect_private": r"a metadata \w+ is not allowed",
}
#: Why each odd image is kept unchecked.
KEPT = {
    "pixel": "too small: 1 x 1 pixels, a side is shorter than 64",
    "pixel_bomb": "too large: 50000 x 50000 pixels, allowed are 100000000",
}
#: The most that a worker may ever have had in memory. MB.
MEMORY = 400


@pytest.fixture
def root(own: Client) -> Path:
    """Where its archive is."""
    return Path(own.stack.env["ORCHESTRATOR_DATA_DIR"]) / "archive"


def archived(client: Client, job_id: str) -> dict[str, Any]:
    """The job once its archive is done."""

    def look() -> dict[str, Any] | None:
        job = client.job(job_id)
        return job if job["archive"] and job["archive"]["status"] == "done" else None

    archived_job: dict[str, Any] = eventually(look, WAIT_SECONDS)
    return archived_job


def given_out(client: Client, path: str, **options: Any) -> requests.Response:
    """What the API answers; `path` is the one in a job, or one behind it."""
    url = f"{client.stack.web_url}/v1/jobs/{path.rpartition('/v1/jobs/')[2]}"
    return requests.get(url, headers=client.headers, timeout=10, **options)


def files(root: Path, job_id: str) -> set[str]:
    """What lies in a job's folder."""
    return {path.name for path in (root / folder(job_id)).iterdir()}


def halves(root: Path) -> list[Path]:
    """What is left of files that were being written, or downloaded."""
    left = [*(root / ".half").glob("*"), *(root.parent / "downloads").glob("*")]
    return [path for path in left if path.is_file()]


def equal_to_the_providers(client: Client, job: dict[str, Any]) -> None:
    for image in job["images"]:
        theirs = requests.get(image["source_url"], timeout=60).content
        ours = given_out(client, image["url"])
        assert ours.content == theirs
        assert image["sha256"] == hashlib.sha256(theirs).hexdigest()
        assert image["bytes"] == len(theirs)
        assert ours.headers["Content-Type"] == image["content_type"]


@pytest.mark.parametrize("provider", EXAMPLE_MODELS)
def test_every_providers_images_end_in_the_archive(own: Client, root: Path, provider: str) -> None:
    job = archived(own, own.enqueue(provider, str(uuid4())))

    equal_to_the_providers(own, job)
    [image] = job["images"]
    assert image["url"] == f"{own.stack.web_url}/v1/jobs/{job['id']}/images/0"
    assert image["error"] is None
    extension = image["content_type"].removeprefix("image/").replace("jpeg", "jpg")
    assert files(root, job["id"]) == {f"0.{extension}", "job.json"}
    told = json.loads((root / folder(job["id"]) / "job.json").read_bytes())
    assert (told["id"], told["images"][0]["sha256"]) == (job["id"], image["sha256"])
    small = given_out(own, f"{image['url']}/thumbnail")
    assert (small.headers["Content-Type"], small.content[8:12]) == ("image/webp", b"WEBP")
    assert files(root, job["id"]) == {f"0.{extension}", "0.thumb.webp", "job.json"}
    assert halves(root) == []


def test_every_bad_link_is_told_of_and_a_good_answer_still_counts(own: Client, root: Path) -> None:
    assert {*SAID, *KEPT} == set(LINK_KINDS)
    values = {
        kind: f"{kind}/10s*1" if LINK_KINDS[kind].takes_seconds else f"{kind}*1" for kind in SAID
    }
    values |= {"503": "503*1", "redirect_loop": "redirect_loop*6"}
    text = str(uuid4())
    jobs = {
        kind: own.enqueue("hiapi", f"{text} [sandbox: image={value}]")
        for kind, value in values.items()
    }

    for kind, job_id in jobs.items():
        job = archived(own, job_id)
        failed = [e["detail"] for e in own.events(job_id) if e["event"] == "archive_failed"]
        if (said := SAID[kind]) is None:
            assert failed == []
        else:
            assert failed, kind
            assert re.fullmatch(said, failed[0]["reason"]), (kind, failed)
        assert job["images"][0]["error"] is None
        equal_to_the_providers(own, job)
        assert "job.json" in files(root, job_id)
    assert halves(root) == []
    assert own.stack.dead() is None
    peaks = [peak(pid) for pid in family(own.stack.running["worker"].pid)]
    assert max(peaks) < MEMORY


#: The files whose structure is checked. All others are kept unchecked.
CHECKED = {"octet_stream", "wrong_type", "mpo", "gif", "avif", "png_text", "8k"}


def test_every_file_is_kept_whether_we_know_it_or_not(own: Client, root: Path) -> None:
    text = str(uuid4())
    faults = {f"file={kind}": kind in CHECKED for kind in FILE_KINDS}
    faults |= {f"image={kind}": False for kind in KEPT}
    jobs = {fault: own.enqueue("hiapi", f"{text} [sandbox: {fault}]") for fault in faults}

    for fault, job_id in jobs.items():
        job = archived(own, job_id)
        equal_to_the_providers(own, job)
        [image] = job["images"]
        assert image["checked"] is faults[fault], fault
        assert (image["check_error"] is None) is faults[fault]
        told = given_out(own, image["url"])
        attached = told.headers.get("Content-Disposition", "").startswith("attachment; ")
        assert attached is not faults[fault], fault
        assert told.headers["X-Content-Type-Options"] == "nosniff"
        small = given_out(own, f"{image['url']}/thumbnail")
        assert small.status_code == (200 if faults[fault] else 404), fault
    for kind, reason in KEPT.items():
        assert own.job(jobs[f"image={kind}"])["images"][0]["check_error"] == reason
    assert own.stack.dead() is None


def peak(pid: int) -> float:
    """The most memory that a process ever had. MB."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def test_an_image_that_is_lost_leaves_its_job_succeeded_and_says_why(
    own: Client, root: Path
) -> None:
    job_id = own.enqueue("hiapi", f"{uuid4()} [sandbox: image=json]")
    assert own.outcome(job_id)["status"] == "succeeded"
    eventually(lambda: own.job(job_id)["archive"]["attempts"])
    # No retry can mend this link.
    with Redis.from_url(own.stack.redis_url or "", decode_responses=True) as redis:
        stored = json.loads(redis.hget(keys.job(job_id), "images") or "[]")
        redis.hset(keys.job(job_id), "images", json.dumps([{**stored[0], "source_url": "ftp://x"}]))
        make_due(redis, job_id, Step.ARCHIVE, now_ms())

    job = eventually(lambda: (job := own.job(job_id))["archive"]["status"] == "dead" and job)

    assert job["status"] == "succeeded"
    [image] = job["images"]
    assert image["error"] == "the link is not an http(s) URL"
    assert image["archived_at"] is None
    told = given_out(own, image["url"])
    assert told.status_code == 410
    assert image["error"] in told.json()["detail"]
    assert files(root, job_id) == {"job.json"}


def test_a_worker_killed_while_it_downloads_leaves_nothing_half_and_the_image_is_archived(
    own: Client, root: Path
) -> None:
    # The first answer for each would take longer than is allowed.
    text = f"{uuid4()} [sandbox: image=slow/60s*1]"
    jobs = [own.enqueue("evolink", text) for _ in range(3)]
    eventually(lambda: sum(task["image_asks"] != [0] for task in own.tasks(text)) == 3)
    own.stack.kill("worker")
    assert halves(root) == [], "downloads have no name"
    own.stack.start("worker")
    with Redis.from_url(
        own.stack.redis_url or "", decode_responses=True
    ) as redis:  # the leases run out
        for job_id in jobs:
            make_due(redis, job_id, Step.ARCHIVE, now_ms())

    ended = [archived(own, job_id) for job_id in jobs]
    assert [task["image_asks"] for task in own.tasks(text)] == [[2]] * len(jobs)
    for job in ended:
        equal_to_the_providers(own, job)
        assert len(files(root, job["id"]) - {"job.json"}) == 1
    assert halves(root) == []


def test_archives_can_have_a_worker_of_their_own(own: Client) -> None:
    """The other worker leaves archives to it. It finds a lost nudge by its own sweep."""

    def start(name: str, queue: str) -> None:
        own.stack.start(name, process_command("worker", {"WORKER_QUEUES": queue}))

    own.stack.kill("worker")
    start("worker", QUEUE)
    try:
        job_id = own.enqueue("hiapi", str(uuid4()))
        assert own.outcome(job_id)["status"] == "succeeded"
        with Redis.from_url(own.stack.redis_url or "", decode_responses=True) as redis:
            eventually(lambda: redis.llen(ARCHIVE_QUEUE))
            redis.delete(ARCHIVE_QUEUE)
        nudged = own.enqueue("hiapi", str(uuid4()))
        assert own.outcome(nudged)["status"] == "succeeded"
        assert own.job(job_id)["archive"]["status"] == "pending"
        start("archiver", ARCHIVE_QUEUE)
        for each in (job_id, nudged):
            assert archived(own, each)["images"][0]["archived_at"]
    finally:
        for name in {"worker", "archiver"} & set(own.stack.running):
            own.stack.kill(name)
        own.stack.start("worker")


def test_while_the_storage_is_away_everything_else_goes_on(own: Client, root: Path) -> None:
    aside = root.with_name("aside")
    archived(own, own.enqueue("hiapi", str(uuid4())))
    root.rename(aside)
    root.write_text("a file in the folder's place")
    try:
        first = own.enqueue("hiapi", str(uuid4()))
        own.outcome(first)
        failed = eventually(lambda: (job := own.job(first))["archive"]["error"] and job)
        jobs = [
            own.enqueue(provider, str(uuid4())) for provider in EXAMPLE_MODELS for _ in range(3)
        ]
        assert {own.outcome(job_id)["status"] for job_id in jobs} == {"succeeded"}
        told = given_out(own, failed["images"][0]["url"], allow_redirects=False)
        theirs = requests.get(failed["images"][0]["source_url"], timeout=60)
    finally:
        root.unlink()
        aside.rename(root)

    assert (failed["status"], failed["archive"]["status"]) == ("succeeded", "pending")
    assert failed["images"][0]["error"].startswith("our storage: file://")
    assert (told.status_code, told.content) == (200, theirs.content)
    for job_id in [first, *jobs]:
        equal_to_the_providers(own, archived(own, job_id))
