"""One run: start everything, play the plan, wait for every outcome, gather the evidence."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import requests

from orchestrator.cli.stack import EmbeddedRedis, Stack
from orchestrator.submit import LEASE_MARGIN
from tests.chaos.clients import Clients
from tests.chaos.judge import Breach, Evidence, judge
from tests.chaos.killer import Killer
from tests.chaos.plan import Plan, write_faults

#: Time limits of a provider call, and the lease that follows from them. Seconds.
CONNECT, READ = 1, 2
LEASE = CONNECT + READ + LEASE_MARGIN / 1000
TASK_SECONDS = 0.8
SECRET = "chaos-signs-its-callbacks"
SETTINGS = {
    "ORCHESTRATOR_CALLBACK_GRACE_SECONDS": "1",
    "ORCHESTRATOR_CONNECT_TIMEOUT_SECONDS": str(CONNECT),
    "ORCHESTRATOR_READ_TIMEOUT_SECONDS": str(READ),
    "HIAPI_WEBHOOK_SECRET": SECRET,
    **{f"{name}_POLL_SECONDS": "0.5" for name in ("HIAPI", "EVOLINK", "UNIALL", "AIGPTIMAGE")},
    **{f"{name}_MAX_POLL_SECONDS": "3" for name in ("HIAPI", "EVOLINK", "UNIALL", "AIGPTIMAGE")},
}

#: A job can die with its worker at its deadline, and once more; then it has its outcome. Seconds.
GRACE = 2 * LEASE + 10
#: Callbacks count as ended when the sandbox has sent none for so long, or after that. Seconds.
QUIET, NEVER_QUIET = 2.5, 30.0
#: How long a command may take. Seconds.
COMMAND = 300
PAGE = 200
#: At most so many attempts at risk are listed.
AT_RISK = 10_000

#: Called several times a second with what is going on.
Show = Callable[[Clients, Killer, str], None]


@dataclass(frozen=True)
class Result:
    """What came of a run."""

    plan: Plan
    evidence: Evidence
    breaches: list[Breach]
    kills: dict[str, int]
    answers: dict[int, int]
    #: `orchestrator list --unconfirmed --json`
    risk: dict[str, Any]
    #: Seconds: until the last outcome, and in all.
    worked: float
    took: float


@dataclass
class Run:
    """A plan in a folder; `show` is told how it goes."""

    plan: Plan
    folder: Path
    show: Show = lambda *_: None
    _tick: threading.Event = field(default_factory=threading.Event)

    def play(self) -> Result:
        """Everything, from start to verdict.

        Raises:
            StackError: something did not start.
        """
        began = monotonic()
        with ExitStack() as closing:
            redis = closing.enter_context(
                EmbeddedRedis(self.folder / "redis", appendfsync="always")
            )
            stack = closing.enter_context(self._stack(redis))
            clients = Clients(stack, self.plan.orders)
            killer = Killer(stack, redis, self.plan.blows)
            started = monotonic()
            closing.callback(clients.stop)
            clients.start()
            closing.callback(killer.stop)
            killer.start()
            self._wait(clients, killer)
            worked = monotonic() - started
            return self._judge(stack, clients, killer, worked, began)

    def _stack(self, redis: EmbeddedRedis) -> Stack:
        script = write_faults(self.folder)
        options = ["--script", str(script), "--seed", str(self.plan.seed)]
        options += ["--hiapi-webhook-secret", SECRET, "--log-level", "warning"]
        return Stack(
            redis_url=redis.url,
            task_seconds=TASK_SECONDS,
            sandbox_options=options,
            settings={
                **SETTINGS,
                "ORCHESTRATOR_JOB_DEADLINE_SECONDS": f"{self.plan.deadline:g}",
            },
            folder=self.folder,
        )

    def _wait(self, clients: Clients, killer: Killer) -> None:
        """Until the last blow was dealt and every job is done, or must be."""
        while not killer.finished:
            self.show(clients, killer, "killing")
            self._tick.wait(0.2)
        ends = monotonic() + self.plan.deadline + GRACE
        while not clients.finished and monotonic() < ends:
            self.show(clients, killer, "waiting for outcomes")
            self._tick.wait(0.1)

    def _judge(
        self, stack: Stack, clients: Clients, killer: Killer, worked: float, began: float
    ) -> Result:
        self.show(clients, killer, "waiting for late callbacks")
        tasks = self._quiet(stack)
        self.show(clients, killer, "judging")
        clients.stop()
        killer.stop()
        jobs = {job["id"]: job for job in _jobs(clients)}
        for job in jobs.values():
            clients.record.see(job)
        risk = _command(stack, "list", "--unconfirmed", "--limit", str(AT_RISK)) or {"attempts": []}
        evidence = Evidence(
            orders=self.plan.orders,
            accepted=clients.record.accepted,
            jobs=jobs,
            events=dict(_events(clients, list(jobs))),
            tasks=tasks,
            charged=sum(entry["tasks"] for entry in _control(stack, "ledger").values()),
            at_risk={f"{entry['job_id']}.{entry['attempt']}" for entry in risk["attempts"]},
            lease=LEASE,
            changed=clients.record.changed,
            odd=clients.record.odd,
            ended=[*killer.ended, *([f"the killer: {killer.broke!r}"] if killer.broke else [])],
            restarts=killer.restarts,
            verification=_command(stack, "verify", "--sandbox", stack.sandbox_url),
        )
        return Result(
            plan=self.plan,
            evidence=evidence,
            breaches=judge(evidence),
            kills=dict(killer.kills),
            answers=dict(clients.record.answers),
            risk=risk,
            worked=worked,
            took=monotonic() - began,
        )

    def _quiet(self, stack: Stack) -> list[dict[str, Any]]:
        """The sandbox' tasks, once it sends no more callbacks."""
        ends, told, since = monotonic() + NEVER_QUIET, -1, monotonic()
        while True:
            tasks: list[dict[str, Any]] = _control(stack, "tasks")
            now = sum(len(task["callbacks"]) + (task["status"] != "running") for task in tasks)
            if now != told:
                told, since = now, monotonic()
            if monotonic() > min(since + QUIET, ends):
                return tasks
            self._tick.wait(0.5)


def _jobs(clients: Clients) -> Iterator[dict[str, Any]]:
    """Every job that the API lists."""
    cursor = ""
    while True:
        page = clients.get(f"/v1/jobs?limit={PAGE}{cursor}")
        yield from page["jobs"]
        if page["next_cursor"] is None:
            return
        cursor = f"&cursor={page['next_cursor']}"


def _events(clients: Clients, job_ids: list[str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    with ThreadPoolExecutor(4) as pool:
        told = pool.map(lambda job_id: clients.get(f"/v1/jobs/{job_id}/events"), job_ids)
        yield from zip(job_ids, (answer["events"] for answer in told), strict=True)


def _control(stack: Stack, what: str) -> Any:
    answer = requests.get(f"{stack.sandbox_url}/control/{what}", timeout=60)
    answer.raise_for_status()
    return answer.json()


def _command(stack: Stack, *arguments: str) -> dict[str, Any] | None:
    """What `orchestrator ... --json` prints, if it prints JSON."""
    done = subprocess.run(
        ["orchestrator", *arguments, "--json"],
        env=stack.env,
        capture_output=True,
        timeout=COMMAND,
        check=False,
    )
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return None
    return {**told, "exit_status": done.returncode, "stderr": done.stderr.decode(errors="replace")}
