"""`orchestrator demo`: runs jobs at four providers, with the faults that happen in production."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

import click
import requests

from orchestrator.cli.demo_scenarios import FORGED, SCENARIOS, SHAKY_INBOX, Scenario
from orchestrator.cli.dev import stop_on_sigterm, watch_over
from orchestrator.cli.output import (
    Rows,
    as_json,
    console,
    line,
    lines,
    live,
    print_json,
    status,
    styled,
    table,
)
from orchestrator.cli.stack import Stack

#: How long the demo waits for its jobs. Then it reports what is missing. Seconds.
TIMEOUT_SECONDS = 45.0
#: Terminals of this width have room for the image column. Characters.
MIN_WIDTH_WITH_IMAGES = 150
#: The folder that the images are copied to. The sandbox stops with the demo.
IMAGES = Path("data") / "demo"
#: What an inbox of the sandbox answers to a notification that it accepts.
DELIVERED = 204
#: A callback token with the right form and the wrong value.
FORGED_TOKEN = "A" * 43


@dataclass
class ScenarioRun:
    """A scenario and its job.

    Attributes:
        job: the job as it was read last.
        events: how often each event is in the timeline.
        files: the copied images.
        deliveries: the status that the inbox answered to each notification with a good signature.
    """

    scenario: Scenario
    job: dict[str, Any]
    events: Counter[str] = field(default_factory=Counter)
    files: list[str] = field(default_factory=list)
    deliveries: list[int] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether the job has its outcome, and its images and its notification are finished."""
        follow_ups = (self.job["archive"], self.job["notification"])
        pending = any(f is not None and f["status"] in ("waiting", "pending") for f in follow_ups)
        awaited = self.scenario.late and not self.job["late_images"]
        return self.job["settled_at"] is not None and not pending and not awaited

    def faults(self) -> Iterator[str]:
        """Yield each difference from the expected result."""
        scenario, job = self.scenario, self.job
        if job["status"] != scenario.status:
            yield f"{job['id']} is {job['status']}, not {scenario.status}"
        if job["settled_by"] != scenario.settled_by:
            yield f"{job['id']} was settled by {job['settled_by']}, not {scenario.settled_by}"
        if (scenario.status == "succeeded" or scenario.late) and len(self.files) != scenario.images:
            yield f"{job['id']} has {len(self.files)} images, not {scenario.images}"
        delivered, expected = self.deliveries.count(DELIVERED), 2 if scenario.late else 1
        if delivered != expected:
            yield f"{job['id']} has {delivered} delivered notifications, not {expected}"
        if self.events["settled"] != 1:
            yield f"{job['id']} was settled {self.events['settled']} times, not once"
        if scenario.event and self.events[scenario.event[0]] != scenario.event[1]:
            name, times = scenario.event
            yield f"{job['id']} shows {name} {self.events[name]} times, not {times}"


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C, to look at it.")
@as_json
def demo(*, keep: bool, json_: bool) -> None:
    """Run jobs that meet lost answers, late results, and lost, repeated and forged callbacks.

    The demo starts the processes web, worker, beat and recorder, and a sandbox that acts as the
    four providers. It starts an embedded Redis, unless ORCHESTRATOR_REDIS_URL is
    set. It enqueues jobs over HTTP, prints what happens, and stops everything. You need no account,
    and nothing leaves this machine. With --keep, the dashboard shows these jobs until Ctrl-C.

    Exit status 0 only if every job had the expected outcome, was charged once, has its images
    archived, and sent one notification for its outcome and for a late result.
    """
    stop_on_sigterm()
    began = monotonic()
    if not json_:
        line("Starting Redis, the sandbox, web, worker, beat and recorder on this machine ...")
    with _stack() as stack:
        run = _DemoRun(stack)
        run.start()
        run.follow(quiet=json_)
        report = run.report(monotonic() - began)
        if keep:
            report |= {"dashboard": stack.web_url, "key": stack.api_key}
            _show(run.runs, report, json_=json_)
            with suppress(KeyboardInterrupt):
                watch_over(stack)
    if not keep:
        _show(run.runs, report, json_=json_)
    if not report["ok"]:
        sys.exit(1)


def _show(runs: list[ScenarioRun], report: dict[str, Any], *, json_: bool) -> None:
    if json_:
        print_json(report)
    else:
        _print(runs, report)


def _stack() -> Stack:
    return Stack(
        processes=("web", "worker", "beat", "recorder"),
        redis_url=os.environ.get("ORCHESTRATOR_REDIS_URL") or None,
        task_seconds=1.5,
        settings={"ORCHESTRATOR_CALLBACK_GRACE_SECONDS": "2"},
    )


class _DemoRun:
    """The jobs of the demo on a running stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._http = requests.Session()
        self._http.headers["Authorization"] = f"Bearer {stack.api_key}"
        self._charged_before = self._charged()
        self.runs: list[ScenarioRun] = []
        self.forged_answer = 0

    def start(self) -> None:
        """Enqueue the job of every scenario, and forge one callback."""
        shaky = f"{self._stack.sandbox_url}/control/inbox/{SHAKY_INBOX}"
        requests.put(shaky, json={"answer": 503, "times": 1}, timeout=10).raise_for_status()
        for scenario in SCENARIOS:
            answer = self._http.post(
                f"{self._stack.web_url}/v1/jobs",
                json=scenario.request(self._stack.sandbox_url),
                timeout=10,
            )
            answer.raise_for_status()
            self.runs.append(ScenarioRun(scenario, answer.json()))
        self.forged_answer = self._forge(self.runs[FORGED].job["id"])

    def follow(self, *, quiet: bool) -> None:
        """Show the jobs until all are done."""
        out, tick, ends = console(), threading.Event(), monotonic() + TIMEOUT_SECONDS
        with live(out) as display:
            while monotonic() < ends and not all(run.done for run in self.runs):
                tick.wait(0.1)
                finished = [run for run in self.runs if not run.done and self._refresh(run)]
                if not quiet and not out.is_terminal:
                    _print_finished(finished)
                if not quiet:
                    display.update(_table(self.runs, width=out.width))

    def report(self, seconds: float) -> dict[str, Any]:
        """Return the results, and every difference from the expected results."""
        deliveries = self._deliveries()
        for number, run in enumerate(self.runs, 1):
            run.events = self._events(run.job["id"])
            run.files = self._copy_images(number, run)
            run.deliveries = deliveries[run.job["id"]]
        charged = self._charged() - self._charged_before
        wrong = [fault for run in self.runs for fault in run.faults()]
        if charged != len(self.runs):
            wrong.append(f"{charged} tasks were charged for {len(self.runs)} jobs")
        if self.forged_answer != requests.codes.not_found:
            wrong.append(f"the forged callback was answered {self.forged_answer}, not 404")
        return {
            "ok": not wrong,
            "wrong": wrong,
            "jobs": [
                {"scene": run.scenario.title, **run.job}
                | {"events": run.events, "files": run.files, "told": run.deliveries}
                for run in self.runs
            ],
            "tasks_charged": charged,
            "forged_callback_answer": self.forged_answer,
            "seconds": round(seconds, 1),
        }

    def _refresh(self, run: ScenarioRun) -> bool:
        """Read a job again. Return whether it is done."""
        run.job = self._get(f"{self._stack.web_url}/v1/jobs/{run.job['id']}")
        return run.done

    def _forge(self, job_id: str) -> int:
        """Send a callback with the wrong token. Return the HTTP status of the answer."""
        payload = {
            "id": "task-forged",
            "status": "completed",
            "results": ["https://evil.example/x.png"],
        }
        url = f"{self._stack.web_url}/callbacks/evolink/{job_id}.1/{FORGED_TOKEN}"
        return requests.post(url, json=payload, timeout=10).status_code

    def _copy_images(self, number: int, run: ScenarioRun) -> list[str]:
        """Copy a job's images from the archive to a folder. Return the files."""
        files = []
        for count, image in enumerate(run.job["images"] + run.job["late_images"], 1):
            answer = self._http.get(image["url"], timeout=10)
            if answer.ok and sha256(answer.content).hexdigest() == image["sha256"]:
                IMAGES.mkdir(parents=True, exist_ok=True)
                form = image["content_type"].partition("/")[2]
                file = IMAGES / f"{number:02d}-{run.scenario.provider}-{count}.{form}"
                file.write_bytes(answer.content)
                files.append(str(file))
        return files

    def _deliveries(self) -> defaultdict[str, list[int]]:
        """Return what the inboxes answered to the notifications of each job."""
        deliveries: defaultdict[str, list[int]] = defaultdict(list)
        for message in self._get(f"{self._stack.sandbox_url}/control/inbox"):
            if message["verified"]:
                deliveries[message["job_id"]].append(message["status"])
        return deliveries

    def _events(self, job_id: str) -> Counter[str]:
        listed = self._get(f"{self._stack.web_url}/v1/jobs/{job_id}/events")["events"]
        return Counter(event["event"] for event in listed)

    def _charged(self) -> int:
        return len(self._get(f"{self._stack.sandbox_url}/control/tasks"))

    def _get(self, url: str) -> Any:
        answer = self._http.get(url, timeout=10)
        answer.raise_for_status()
        return answer.json()


def _print_finished(runs: list[ScenarioRun]) -> None:
    for run in runs:
        line(f"  {run.job['status']:<10} {run.scenario.provider:<10} {run.scenario.title}")


def _table(runs: list[ScenarioRun], *, width: int) -> Rows:
    wide = width >= MIN_WIDTH_WITH_IMAGES
    names = ("job", "provider", "what happens", "status", "settled by", "s")
    rows = table(*names, padding=(0, 1, 0, 1))
    if wide:
        rows.add_column("image")
    for run in runs:
        job = run.job
        row = [
            job["id"] if wide else f"..{job['id'][-8:]}",
            run.scenario.provider,
            run.scenario.title,
            status(job["status"]),
            job["settled_by"] or "",
            _seconds(job),
        ]
        rows.add_row(*row, *([_image(job)] if wide else []))
    return rows


def _image(job: dict[str, Any]) -> str:
    if images := job["images"] + job["late_images"]:
        image = images[0]
        size = f"{image['width']}x{image['height']} {image['content_type']}, {image['bytes']} bytes"
        return size if image["archived_at"] else str(image["error"] or "")
    return str(job["error"]["code"]) if job["error"] else ""


def _seconds(job: dict[str, Any]) -> str:
    if job["settled_at"] is None:
        return ""
    took = datetime.fromisoformat(job["settled_at"]) - datetime.fromisoformat(job["created_at"])
    return f"{took.total_seconds():.1f}"


def _print(runs: list[ScenarioRun], report: dict[str, Any]) -> None:
    out = console()
    out.print(_table(runs, width=out.width))
    lines(
        f"\n{len(runs)} jobs, {sum(run.done for run in runs)} outcomes,"
        f" {report['tasks_charged']} tasks charged,"
        f" {sum(run.deliveries.count(DELIVERED) for run in runs)} notifications delivered.\n"
        f"The forged callback was answered {report['forged_callback_answer']}.\n"
        f"{sum(len(run.files) for run in runs)} images were archived, and copied to {IMAGES}.\n"
        f"The demo took {report['seconds']} s."
        + ("" if "dashboard" in report else " All its processes have stopped.")
    )
    for fault in report["wrong"]:
        out.print(styled("wrong", "bold red"), fault)
    if "dashboard" in report:
        lines(
            f"\nThe dashboard shows these jobs:\n  {report['dashboard']}/\n"
            f"  the key is {report['key']}\nCtrl-C stops everything."
        )
    elif report["ok"]:
        command = _command()
        lines(
            f"\nNext:\n"
            f"  {command} demo --keep\n"
            "      runs this again, and shows the jobs in the dashboard until Ctrl-C\n"
            f"  {command} dev\n"
            "      runs the same processes until Ctrl-C, for your client; it prints the\n"
            "      address of the dashboard, and a key\n"
            f"  {command} --help\n"
            "      lists the other commands\n"
            "README.md: enqueue from curl, Python and Celery; use the real providers"
        )


def _command() -> str:
    """Return what to type to call this program."""
    name = Path(sys.argv[0]).name
    return name if shutil.which(name) else os.path.relpath(sys.argv[0])
