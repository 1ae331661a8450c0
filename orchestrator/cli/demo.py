"""`orchestrator demo`: jobs at four providers, and everything that can happen to them."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

import click
import requests
from rich.live import Live
from rich.table import Table

from orchestrator.cli.dev import stop_on_sigterm
from orchestrator.cli.output import as_json, console, print_json, status
from orchestrator.cli.stack import Stack

#: How long the demo waits for its jobs before it calls them lost. Seconds.
PATIENCE = 45.0
#: The table shows images on terminals at least this wide. Characters.
LINKS_FROM = 150
#: Where the images are put, since the sandbox that made them is gone afterwards.
IMAGES = Path("data") / "demo"
#: What the sandbox' inbox answers in good order.
DELIVERED = 204
#: The last part of a callback URL that somebody outside could make up.
FORGED_TOKEN = "A" * 43


@dataclass(frozen=True, slots=True)
class Scene:
    """One job, what happens to it, and how it has to end."""

    provider: str
    title: str
    prompt: str
    fault: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str = "nano-banana-2"
    status: str = "succeeded"
    settled_by: str = "callback"
    #: An event its timeline must show, and how often.
    event: tuple[str, int] | None = None
    images: int = 1
    #: The sandbox' inbox that is told.
    inbox: str = "caller"

    def request(self, sandbox_url: str) -> dict[str, Any]:
        """The body of `POST /v1/jobs`."""
        return {
            "provider": self.provider,
            "model": self.model,
            "prompt": f"{self.prompt} [sandbox: {self.fault}]" if self.fault else self.prompt,
            "notify_url": f"{sandbox_url}/inbox/{self.inbox}",
            **self.options,
        }


#: The inbox that answers 503 the first time.
SHAKY = "shaky"
WIDE = {"aspect_ratio": "16:9"}
TALL = {"aspect_ratio": "9:16", "resolution": "2K"}

SCENES = (
    Scene("hiapi", "all goes well", "A lighthouse at dusk", options=WIDE),
    Scene("evolink", "all goes well", "A fox in the snow", options=TALL),
    Scene("uniall", "all goes well, polled", "A harbour", options=TALL, settled_by="poll"),
    Scene("aigptimage", "all goes well, polled", "An owl", options=WIDE, settled_by="poll"),
    Scene(
        "uniall",
        "three images at once",
        "Three boats",
        model="gpt-image-2",
        options={**WIDE, "n": 3},
        settled_by="poll",
        images=3,
    ),
    Scene("uniall", "done in the answer", "A quick sketch", "early", settled_by="submit"),
    Scene("hiapi", "callback lost", "A teapot on a red table", "drop", settled_by="poll"),
    Scene("evolink", "callback lost", "A sleeping cat", "drop", settled_by="poll"),
    Scene("hiapi", "callback five times", "Five birds", "duplicate=5", event=("duplicate", 4)),
    Scene("evolink", "callback five times", "Five bees", "duplicate=5", event=("duplicate", 4)),
    Scene("hiapi", "callback before answer", "A very early train", "early"),
    Scene("evolink", "callback before answer", "A very early bird", "early"),
    Scene("hiapi", "fails at the provider", "An impossible cube", "fail", status="failed"),
    Scene(
        "hiapi",
        "answer lost, sent again",
        "A message in a bottle",
        "lost_response",
        event=("unconfirmed", 1),
    ),
    Scene(
        "aigptimage",
        "answer lost, sent again",
        "A letter sent twice",
        "lost_response",
        settled_by="poll",
        event=("unconfirmed", 1),
    ),
    Scene(
        "evolink",
        "answer lost, called back",
        "A bottle in the sea",
        "lost_response",
        event=("unconfirmed", 1),
    ),
    Scene(
        "uniall",
        "too many requests, twice",
        "A queue",
        "429*2",
        settled_by="poll",
        event=("deferred", 2),
    ),
    Scene(
        "hiapi",
        "an error page for an image",
        "A shy bird",
        "image=json*1",
        event=("archive_failed", 1),
    ),
    Scene(
        "evolink",
        "its caller is down at first",
        "A postman",
        inbox=SHAKY,
        event=("notify_failed", 1),
    ),
    Scene("evolink", "a stranger forges one", "A sealed letter"),
)
#: The job whose callback is forged from outside, while the provider works on it.
FORGED = len(SCENES) - 1


@dataclass
class Take:
    """A scene as it is played: its job, as last seen."""

    scene: Scene
    job: dict[str, Any]
    events: Counter[str] = field(default_factory=Counter)
    #: Where its images were put.
    files: list[str] = field(default_factory=list)
    #: What its caller answered to each message with a good signature.
    told: list[int] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether the job has its outcome, its images are kept, and its caller knows."""
        follows = (self.job["archive"], self.job["notification"])
        pending = any(f is not None and f["status"] in ("waiting", "pending") for f in follows)
        return self.job["settled_at"] is not None and not pending

    def faults(self) -> Iterator[str]:
        """What did not go as it should."""
        scene, job = self.scene, self.job
        if job["status"] != scene.status:
            yield f"{job['id']} is {job['status']}, not {scene.status}"
        if job["settled_by"] != scene.settled_by:
            yield f"{job['id']} was settled by {job['settled_by']}, not {scene.settled_by}"
        if scene.status == "succeeded" and len(self.files) != scene.images:
            yield f"{job['id']} has {len(self.files)} images, not {scene.images}"
        if self.told.count(DELIVERED) != 1:
            yield f"the caller of {job['id']} was told {self.told.count(DELIVERED)} times"
        if self.events["settled"] != 1:
            yield f"{job['id']} was settled {self.events['settled']} times"
        if scene.event and self.events[scene.event[0]] != scene.event[1]:
            name, times = scene.event
            yield f"{job['id']} shows {name} {self.events[name]} times, not {times}"


@click.command()
@as_json
def demo(json_: bool) -> None:
    """Watch jobs survive lost answers, and lost, doubled, early and forged callbacks.

    Starts an embedded Redis (unless ORCHESTRATOR_REDIS_URL names one), the sandbox that plays
    UniAll, HiAPI, EvoLink and AI GPT Image, and the Procfile's web, worker and beat; enqueues jobs
    over HTTP; stops everything. Needs no account, and nothing leaves this machine.

    Exit status 0 only if every job ended as it should, was paid for once, had its images archived,
    and its caller told once.
    """
    stop_on_sigterm()
    began = monotonic()
    if not json_:
        click.echo("Starting Redis, the sandbox, web, worker and beat on this machine ...")
    with _stack() as stack:
        show = _Show(stack)
        show.play(quiet=json_)
        report = show.report(monotonic() - began)
    if json_:
        print_json(report)
    else:
        _print(show.takes, report)
    if not report["ok"]:
        sys.exit(1)


def _stack() -> Stack:
    return Stack(
        redis_url=os.environ.get("ORCHESTRATOR_REDIS_URL") or None,
        task_seconds=1.5,
        settings={"ORCHESTRATOR_CALLBACK_GRACE_SECONDS": "2"},
    )


class _Show:
    """The jobs on a running stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._http = requests.Session()
        self._http.headers["Authorization"] = f"Bearer {stack.api_key}"
        self._charged_before = self._charged()
        self.takes: list[Take] = []
        self.forged_answer = 0

    def play(self, *, quiet: bool) -> None:
        """Enqueue every scene, forge a callback, and look on until all are done."""
        shaky = f"{self._stack.sandbox_url}/control/inbox/{SHAKY}"
        requests.put(shaky, json={"answer": 503, "times": 1}, timeout=10).raise_for_status()
        for scene in SCENES:
            answer = self._http.post(
                f"{self._stack.web_url}/v1/jobs",
                json=scene.request(self._stack.sandbox_url),
                timeout=10,
            )
            answer.raise_for_status()
            self.takes.append(Take(scene, answer.json()))
        self.forged_answer = self._forge(self.takes[FORGED].job["id"])
        out, tick, ends = console(), threading.Event(), monotonic() + PATIENCE
        with Live(console=out, refresh_per_second=10, transient=True) as live:
            while monotonic() < ends and not all(take.done for take in self.takes):
                tick.wait(0.1)
                news = [take for take in self.takes if not take.done and self._look(take)]
                if not quiet and not out.is_terminal:
                    _announce(news)
                if not quiet:
                    live.update(_table(self.takes, width=out.width))

    def report(self, seconds: float) -> dict[str, Any]:
        """What came of it, and what did not go as it should."""
        told = self._told()
        for number, take in enumerate(self.takes, 1):
            take.events = self._events(take.job["id"])
            take.files = self._keep(number, take)
            take.told = told[take.job["id"]]
        charged = self._charged() - self._charged_before
        wrong = [fault for take in self.takes for fault in take.faults()]
        if charged != len(self.takes):
            wrong.append(f"{charged} tasks were charged for {len(self.takes)} jobs")
        if self.forged_answer != requests.codes.not_found:
            wrong.append(f"the forged callback was answered {self.forged_answer}, not 404")
        return {
            "ok": not wrong,
            "wrong": wrong,
            "jobs": [
                {"scene": t.scene.title, **t.job}
                | {"events": t.events, "files": t.files, "told": t.told}
                for t in self.takes
            ],
            "tasks_charged": charged,
            "forged_callback_answer": self.forged_answer,
            "seconds": round(seconds, 1),
        }

    def _look(self, take: Take) -> bool:
        """See how a job stands; whether it is done."""
        take.job = self._get(f"{self._stack.web_url}/v1/jobs/{take.job['id']}")
        return take.done

    def _forge(self, job_id: str) -> int:
        """A callback that looks right, from somebody who does not know our secret."""
        lie = {
            "id": "task-forged",
            "status": "completed",
            "results": ["https://evil.example/x.png"],
        }
        url = f"{self._stack.web_url}/callbacks/evolink/{job_id}.1/{FORGED_TOKEN}"
        return requests.post(url, json=lie, timeout=10).status_code

    def _keep(self, number: int, take: Take) -> list[str]:
        """Fetch a job's images from our archive."""
        kept = []
        for count, image in enumerate(take.job["images"], 1):
            answer = self._http.get(image["url"], timeout=10)
            if answer.ok and sha256(answer.content).hexdigest() == image["sha256"]:
                IMAGES.mkdir(parents=True, exist_ok=True)
                form = image["content_type"].partition("/")[2]
                file = IMAGES / f"{number:02d}-{take.scene.provider}-{count}.{form}"
                file.write_bytes(answer.content)
                kept.append(str(file))
        return kept

    def _told(self) -> defaultdict[str, list[int]]:
        """What callers answered, by job, to messages that we signed."""
        told: defaultdict[str, list[int]] = defaultdict(list)
        for message in self._get(f"{self._stack.sandbox_url}/control/inbox"):
            if message["verified"]:
                told[message["job_id"]].append(message["status"])
        return told

    def _events(self, job_id: str) -> Counter[str]:
        listed = self._get(f"{self._stack.web_url}/v1/jobs/{job_id}/events")["events"]
        return Counter(event["event"] for event in listed)

    def _charged(self) -> int:
        return len(self._get(f"{self._stack.sandbox_url}/control/tasks"))

    def _get(self, url: str) -> Any:
        answer = self._http.get(url, timeout=10)
        answer.raise_for_status()
        return answer.json()


def _announce(takes: list[Take]) -> None:
    for take in takes:
        click.echo(f"  {take.job['status']:<10} {take.scene.provider:<10} {take.scene.title}")


def _table(takes: list[Take], *, width: int) -> Table:
    wide = width >= LINKS_FROM
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for name in ("job", "provider", "what happens", "status", "settled by", "s"):
        table.add_column(name, no_wrap=True)
    if wide:
        table.add_column("image")
    for take in takes:
        job = take.job
        row = [
            job["id"] if wide else f"..{job['id'][-8:]}",
            take.scene.provider,
            take.scene.title,
            status(job["status"]),
            job["settled_by"] or "",
            _seconds(job),
        ]
        table.add_row(*row, *([_image(job)] if wide else []))
    return table


def _image(job: dict[str, Any]) -> str:
    if job["images"]:
        image = job["images"][0]
        size = f"{image['width']}x{image['height']} {image['content_type']}, {image['bytes']} bytes"
        return size if image["archived_at"] else str(image["error"] or "")
    return str(job["error"]["code"]) if job["error"] else ""


def _seconds(job: dict[str, Any]) -> str:
    if job["settled_at"] is None:
        return ""
    took = datetime.fromisoformat(job["settled_at"]) - datetime.fromisoformat(job["created_at"])
    return f"{took.total_seconds():.1f}"


def _print(takes: list[Take], report: dict[str, Any]) -> None:
    out = console()
    out.print(_table(takes, width=out.width))
    out.print(
        f"\n{len(takes)} jobs, {sum(t.done for t in takes)} outcomes,"
        f" {report['tasks_charged']} tasks charged,"
        f" {sum(t.told.count(DELIVERED) for t in takes)} callers told;"
        f" the forged callback was answered {report['forged_callback_answer']}."
        f" {report['seconds']} s in all, and every process is stopped again.\n"
        f"{sum(len(t.files) for t in takes)} images were archived, and copied to {IMAGES}."
    )
    for fault in report["wrong"]:
        out.print(f"[bold red]wrong[/] {fault}")
    if report["ok"]:
        out.print(
            "\nNext:\n"
            "  orchestrator dev       keep all this running, and write a client against it\n"
            "  orchestrator --help    the other commands\n"
            "  README.md              enqueue from curl, Python and Celery; use the real providers"
        )
