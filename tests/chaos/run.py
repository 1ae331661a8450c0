"""One run: start everything, play the plan, wait for every outcome, gather the evidence."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from orchestrator.cli.embedded_redis import EmbeddedRedis
from orchestrator.cli.stack import Stack
from orchestrator.providers import BUILT_IN
from orchestrator.steps.submit import LEASE_MARGIN_MS
from tests.chaos import figures, gather
from tests.chaos.clients import ChaosClients
from tests.chaos.evidence import Breach, Evidence
from tests.chaos.judge import judge
from tests.chaos.killer import FOLLOW_UP, Killer
from tests.chaos.plan import ARCHIVE, DOWNLOAD, NOTIFICATION, Plan, write_faults
from tests.support.fork_server import ForkedStack

#: Time limits of a provider call, and the lease that follows from them. Seconds.
CONNECT, READ = 1, 2
LEASE = CONNECT + READ + LEASE_MARGIN_MS / 1000
TASK_SECONDS = 0.8
#: How long a result is looked for after a success without one. Seconds.
LOOK = 10
SECRET = "chaos-signs-its-callbacks"
SETTINGS = {
    "ORCHESTRATOR_CALLBACK_GRACE_SECONDS": "1",
    "ORCHESTRATOR_CONNECT_TIMEOUT_SECONDS": str(CONNECT),
    "ORCHESTRATOR_READ_TIMEOUT_SECONDS": str(READ),
    "ORCHESTRATOR_DOWNLOAD_TIMEOUT_SECONDS": str(DOWNLOAD),
    "ORCHESTRATOR_THIN_SUCCESS_SECONDS": str(LOOK),
    "HIAPI_WEBHOOK_SECRET": SECRET,
    **figures.SETTINGS,
    **{f"{name.upper()}_POLL_SECONDS": "0.5" for name in BUILT_IN},
    **{f"{name.upper()}_MAX_POLL_SECONDS": "3" for name in BUILT_IN},
}

#: A job can die with its worker at its deadline, and once more; then it has its outcome, unless a
#: result is looked for. Seconds.
GRACE = 2 * LEASE + LOOK + 10
#: Callbacks count as ended when the sandbox has sent none for so long, or after that. Seconds.
QUIET, NEVER_QUIET = 2.5, 30.0
#: An archive can die with its worker, and be tried again twice; a notification too. Seconds.
FOLLOWED = FOLLOW_UP[ARCHIVE][1] / 1000 + 30
#: The sandbox' inboxes keep 5000 notifications: they are read so often. Seconds.
MAIL = 60.0
#: At most so many attempts at risk are listed.
AT_RISK = 10_000

#: Called several times a second with what is going on.
Show = Callable[[ChaosClients, Killer, str], None]


@dataclass(frozen=True)
class RunResult:
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
class ChaosRun:
    """A plan in a folder; `show` is told how it goes.

    `hurried`: when the last blow was dealt, leases on archives that were left are ended rather than
    waited for.
    """

    plan: Plan
    folder: Path
    show: Show = lambda *_: None
    hurried: bool = False
    _tick: threading.Event = field(default_factory=threading.Event)

    def play(self) -> RunResult:
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
            clients = ChaosClients(stack, self.plan.orders)
            killer = Killer(stack, redis, self.plan.blows)
            for order in self.plan.orders:
                if order.trouble:
                    gather.spoil(stack, order.inbox, order.trouble)
            mailbox = gather.Mailbox(stack)
            started = monotonic()
            closing.callback(clients.stop)
            clients.start()
            closing.callback(killer.stop)
            killer.start()
            self._wait(clients, killer, mailbox)
            worked = monotonic() - started
            self._end(stack, clients, killer)
            evidence, risk = self._evidence(stack, clients, killer, mailbox)
        return RunResult(
            plan=self.plan,
            evidence=evidence,
            breaches=judge(evidence),
            kills=dict(killer.kills),
            answers=dict(clients.record.answers),
            risk=risk,
            worked=worked,
            took=monotonic() - began,
        )

    def _stack(self, redis: EmbeddedRedis) -> Stack:
        script = write_faults(self.folder)
        options = ["--script", str(script), "--seed", str(self.plan.seed)]
        options += ["--hiapi-webhook-secret", SECRET, "--log-level", "warning"]
        return ForkedStack(
            ("web", "worker", "beat", "recorder"),
            redis_url=redis.url,
            task_seconds=TASK_SECONDS,
            sandbox_options=options,
            settings={
                **SETTINGS,
                "ORCHESTRATOR_JOB_DEADLINE_SECONDS": f"{self.plan.deadline:g}",
            },
            folder=self.folder,
        )

    def _wait(self, clients: ChaosClients, killer: Killer, mailbox: gather.Mailbox) -> None:
        """Until the last blow was dealt and every job is done, or must be."""
        looked = monotonic()
        while not killer.finished:
            self.show(clients, killer, "killing")
            self._tick.wait(0.2)
            if monotonic() > looked + MAIL:
                looked = monotonic()
                mailbox.look()
        ends = monotonic() + self.plan.deadline + GRACE
        while not clients.finished and monotonic() < ends:
            self.show(clients, killer, "waiting for outcomes")
            self._tick.wait(0.1)

    def _end(self, stack: Stack, clients: ChaosClients, killer: Killer) -> None:
        """Until nothing is under way any more, or must not be."""
        with ThreadPoolExecutor(1) as pool:
            quiet = pool.submit(self._quiet, stack)
            ends = monotonic() + FOLLOWED
            while monotonic() < ends:
                self.show(clients, killer, "waiting for archives, callers and late callbacks")
                if self.hurried:
                    killer.bury()
                if not gather.something_follows(stack, clients):
                    break
                self._tick.wait(0.5)
            quiet.result()
        self.show(clients, killer, "judging")
        clients.stop()
        killer.stop()

    def _evidence(
        self, stack: Stack, clients: ChaosClients, killer: Killer, mailbox: gather.Mailbox
    ) -> tuple[Evidence, dict[str, Any]]:
        jobs = {job["id"]: job for job in gather.jobs(clients)}
        for job in jobs.values():
            clients.record.see(job, monotonic())
        limit = ("--limit", str(AT_RISK))
        risk = gather.command(stack, "list", "--unconfirmed", *limit) or {"attempts": []}
        charged = gather.control(stack, "ledger").values()
        evidence = Evidence(
            orders=self.plan.orders,
            accepted=clients.record.accepted,
            jobs=jobs,
            events=dict(gather.events(clients, list(jobs))),
            tasks=gather.control(stack, "tasks"),
            charged=sum(entry["tasks"] for entry in charged),
            at_risk={f"{entry['job_id']}.{entry['attempt']}" for entry in risk["attempts"]},
            lease=LEASE,
            changed=clients.record.changed,
            odd=clients.record.odd,
            ended=[*killer.ended, *([f"the killer: {killer.broke!r}"] if killer.broke else [])],
            restarts=killer.restarts,
            verification=gather.command(
                stack, "verify", "--sandbox", stack.sandbox_url, "--images"
            ),
            notify_lease=FOLLOW_UP[NOTIFICATION][1] / 1000,
            deaths=killer.deaths,
            dropped=list(gather.dropped(stack)),
            inbox=mailbox.look(),
            usage=gather.usage(clients, len(jobs)),
            archive=gather.archive(stack, self.folder),
            originals=gather.originals(stack, jobs),
        )
        return evidence, risk

    def _quiet(self, stack: Stack) -> None:
        """Until the sandbox sends no more callbacks."""
        ends, told, since = monotonic() + NEVER_QUIET, -1, monotonic()
        while monotonic() < min(since + QUIET, ends):
            tasks = gather.control(stack, "tasks")
            now = sum(len(task["callbacks"]) + (task["status"] != "running") for task in tasks)
            if now != told:
                told, since = now, monotonic()
            self._tick.wait(0.5)
