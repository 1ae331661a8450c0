"""What is left of a run, read from the API, the sandbox, the archive's folder and the command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path, PurePosixPath
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

import requests
from PIL import Image

from orchestrator.cli.stack import Stack
from orchestrator.jobs.model import FOLLOW_UPS, Step
from orchestrator.ledger import Ledger
from orchestrator.steps.evidence import MIN_QUERIES
from orchestrator.storage.commits import TEMPORARY
from tests.chaos.archived import pictures
from tests.chaos.clients import ChaosClients
from tests.chaos.evidence import Archive, unix
from tests.chaos.notifications import may_wait

#: How long a command may take. Seconds.
COMMAND = 300
PAGE = 200
#: How long the history may take to have every job with its outcome. Seconds.
HISTORY = 60.0
#: With more jobs than this nobody looks why each of them waits.
MANY = 40
#: At most so many images are drawn again by the sandbox.
COMPARED = 1500
#: Images whose size and media type are compared. Of other files only the bytes are.
COMPARED_TYPES = frozenset({"image/png", "image/jpeg", "image/webp"})
_FOR_EVER = 10**15


class Mailbox:
    """What came to the sandbox' inboxes, which keep only the newest: look now and then."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._seen: dict[tuple[object, ...], dict[str, Any]] = {}

    def look(self) -> list[dict[str, Any]]:
        """Everything so far."""
        for sent in control(self._stack, "inbox"):
            key = (sent["inbox"], sent["id"], sent["received_at"], sent["signature"])
            self._seen[key] = sent
        return list(self._seen.values())


def dropped(stack: Stack) -> Iterator[tuple[str, float]]:
    """Each message that a process could not send to the broker, and when."""
    for name in stack.processes:
        for line in stack.log(name).splitlines():
            told = _json(line.encode()) if "nudge_dropped" in line else None
            if told:
                yield name, unix(told["timestamp"])


def control(stack: Stack, what: str) -> Any:
    """An answer of the sandbox' control API."""
    answer = requests.get(f"{stack.sandbox_url}/control/{what}", timeout=60)
    answer.raise_for_status()
    return answer.json()


def spoil(stack: Stack, inbox: str, trouble: Mapping[str, Any]) -> None:
    """Have an inbox fail once."""
    url = f"{stack.sandbox_url}/control/inbox/{inbox}"
    requests.put(url, json={**trouble, "times": 1}, timeout=60).raise_for_status()


def jobs(clients: ChaosClients) -> Iterator[dict[str, Any]]:
    """Every job that the API lists."""
    cursor = ""
    while True:
        page = clients.get(f"/v1/jobs?limit={PAGE}{cursor}")
        yield from page["jobs"]
        if page["next_cursor"] is None:
            return
        cursor = f"&cursor={page['next_cursor']}"


def usage(clients: ChaosClients, jobs: int) -> list[dict[str, Any]]:
    """The usage report by provider, once the history has all jobs, or after a while."""
    ends = monotonic() + HISTORY
    while True:
        report = clients.get("/v1/reports/usage?by=provider")
        rows: list[dict[str, Any]] = report["rows"]
        if sum(row["jobs"] - row["open"] for row in rows) >= jobs or monotonic() > ends:
            return rows
        sleep(0.2)


def events(
    clients: ChaosClients, job_ids: Sequence[str]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The timeline of each."""
    with ThreadPoolExecutor(4) as pool:
        told = pool.map(lambda job_id: clients.get(f"/v1/jobs/{job_id}/events"), job_ids)
        yield from zip(job_ids, (answer["events"] for answer in told), strict=True)


def something_follows(stack: Stack, clients: ChaosClients) -> bool:
    """Whether images or callers are still to be seen to, other than those that wait for long."""
    ledger = Ledger.from_url(stack.redis_url or "")
    for step in FOLLOW_UPS:
        waiting = ledger.follow_ups.due(0, step, now=_FOR_EVER, limit=MANY + 1)
        if len(waiting) > MANY:
            return True
        if step is Step.CONFIRM:
            if any(_tries_of_confirmation(ledger, job_id) < MIN_QUERIES for job_id in waiting):
                return True
        elif not all(_rests(step, clients.get(f"/v1/jobs/{job_id}")) for job_id in waiting):
            return True
    return False


def _tries_of_confirmation(ledger: Ledger, job_id: str) -> int:
    job = ledger.get(job_id)
    return job.confirmation.tries if job and job.confirmation else 0


def _rests(step: Step, job: Mapping[str, Any]) -> bool:
    """Whether nothing is to be expected of a follow-up soon: its link is dead, or it failed."""
    if step is Step.NOTIFY:
        return job["notification"]["status"] != "pending" or may_wait(job["notification"])
    return bool(
        job["archive"]["status"] != "pending" or job["archive"]["error"] == "it answered 404"
    )


def archive(stack: Stack, data: Path) -> Archive:
    """Everything that lies in the archive's folder, and among the downloads in `data`."""
    folder = Path(stack.archive)
    found = [path for path in folder.rglob("*") if path.is_file()]
    halves = [path for path in found if path.parent == folder / TEMPORARY]
    kept = {str(path.relative_to(folder)): path for path in found if path not in set(halves)}
    manifests = {name: path for name, path in kept.items() if path.name == "job.json"}
    return Archive(
        files={name: sha256(path.read_bytes()).hexdigest() for name, path in kept.items()},
        manifests={name: _json(path.read_bytes()) for name, path in manifests.items()},
        halves=[path.stat().st_mtime for path in halves],
        downloads=[path.name for path in (data / "downloads").glob("*")],
    )


def originals(stack: Stack, seen: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The images of jobs that have copies, as the sandbox draws them again."""
    images = [image for job in seen.values() for image in pictures(job) if image["sha256"]]
    links = [image["source_url"] for image in images if image["source_url"]]
    some = links[:: -(-len(links) // COMPARED) or 1]
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(some, pool.map(partial(_drawn, stack), some), strict=True))


def _drawn(stack: Stack, link: str) -> dict[str, Any]:
    """The image of a link, in the words of the API. Only images have a size and a media type."""
    task_id, _, number = PurePosixPath(urlsplit(link).path).stem.rpartition("-")
    url = f"{stack.sandbox_url}/control/tasks/{task_id}/images/{number}"
    answer = requests.get(url, timeout=60)
    answer.raise_for_status()
    facts = {"sha256": sha256(answer.content).hexdigest(), "bytes": len(answer.content)}
    if (content_type := answer.headers["Content-Type"]) not in COMPARED_TYPES:
        return facts
    try:
        with Image.open(BytesIO(answer.content)) as image:
            width, height = image.size
    except ValueError:  # Pillow reads no image with so much text.
        return facts
    return {**facts, "width": width, "height": height, "content_type": content_type}


def command(stack: Stack, *arguments: str) -> dict[str, Any] | None:
    """What `orchestrator ... --json` prints, if it prints JSON."""
    done = subprocess.run(
        ["orchestrator", *arguments, "--json"],
        env=stack.env,
        capture_output=True,
        timeout=COMMAND,
        check=False,
    )
    told = _json(done.stdout)
    if told is None:
        return None
    return {**told, "exit_status": done.returncode, "stderr": done.stderr.decode(errors="replace")}


def _json(content: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(content)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None
