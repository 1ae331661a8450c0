"""A running product for the browser: two tenants, an administrator, and jobs of every kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests

from orchestrator.cli.stack import Stack
from orchestrator.clock import now_ms
from orchestrator.jobs.model import FollowUpStatus, Step
from orchestrator.ledger import Ledger
from orchestrator.providers import BUILT_IN
from tests.ledger.kit import eventually
from tests.support.fork_server import ForkedStack
from tests.system.conftest import ONE_WEB_PROCESS

#: The two tenants.
SHOP, STUDIO = "shop", "studio"
#: The name of the administrator's key.
ADMIN = "operator"
#: Name -> key. They are constant, so that pictures are the same in each run.
KEYS = {name: f"key-of-{name}-for-tests" for name in (SHOP, STUDIO, ADMIN)}
#: The provider that is paused. Its jobs are queued.
PAUSED = min(BUILT_IN)
#: The inbox that is out of order.
CLOSED_INBOX = "closed"
#: A wait that is this long has failed. It is long, because other work may use all cores. Seconds.
WAIT_SECONDS = 120.0
#: `Retry-After` of the closed inbox. Seconds.
RETRY_AFTER_SECONDS = 36_000
SETTINGS = {
    **ONE_WEB_PROCESS,
    "ORCHESTRATOR_API_KEYS": f"{SHOP}:{KEYS[SHOP]},{STUDIO}:{KEYS[STUDIO]}",
    "ORCHESTRATOR_ADMIN_KEYS": f"{ADMIN}:{KEYS[ADMIN]}",
    "ORCHESTRATOR_CALLBACK_GRACE_SECONDS": "1",
    "ORCHESTRATOR_CONNECT_TIMEOUT_SECONDS": "2",
    "ORCHESTRATOR_READ_TIMEOUT_SECONDS": "7",
}
#: HTML, ANSI, right-to-left and zero-width characters, and a long word.
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)> \x1b[31mred \u202egnp.exe\u202c"
    f" zero\u200bwidth {{{{ 7 * 7 }}}} {'long' * 60}"
)


@dataclass(frozen=True)
class Kind:
    """One job to make.

    Attributes:
        fault: of the sandbox; see docs/sandbox.md.
        closed: the job notifies the inbox that is out of order.
        fields: more fields of the request.
    """

    provider: str
    model: str
    prompt: str
    fault: str = ""
    tenant: str = SHOP
    closed: bool = False
    fields: dict[str, Any] = field(default_factory=dict)

    def request(self, sandbox_url: str) -> dict[str, Any]:
        """Return the body of `POST /v1/jobs`."""
        inbox = CLOSED_INBOX if self.closed else self.tenant
        return {
            "provider": self.provider,
            "model": self.model,
            "prompt": f"{self.prompt} [sandbox: {self.fault}]" if self.fault else self.prompt,
            "notify_url": f"{sandbox_url}/inbox/{inbox}",
            **self.fields,
        }


#: Name -> job. `Site.jobs` has the ids.
KINDS = {
    "succeeded": Kind("hiapi", "nano-banana-2", "A lighthouse at dusk"),
    "several": Kind("uniall", "gpt-image-2", "Three boats", fields={"n": 3}),
    "failed": Kind("evolink", "nano-banana-2", "An impossible cube", "fail"),
    "unconfirmed": Kind("uniall", "nano-banana-2", "A bottle in the sea", "lost_response"),
    "running": Kind("hiapi", "nano-banana-2", "A slow painter", "slow=36000"),
    "at_risk": Kind("hiapi", "nano-banana-2", "A shy bird", "image=503, expire_links=7200"),
    "not_notified": Kind("evolink", "nano-banana-2", "A postman", closed=True),
    "other_tenant": Kind("evolink", "nano-banana-2", "A fox in the snow", tenant=STUDIO),
    "queued": Kind(PAUSED, "nano-banana-2", "An owl"),
    "cancelled": Kind(PAUSED, "nano-banana-2", "A forgotten idea"),
    "hostile": Kind(PAUSED, "nano-banana-2", HOSTILE),
}
#: The jobs that get no outcome.
OPEN = {"running", "queued", "hostile"}


@dataclass(frozen=True)
class Site:
    """The running product.

    Attributes:
        jobs: name in `KINDS` -> id of the job.
    """

    stack: Stack
    jobs: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.stack.web_url

    def call(self, method: str, path: str, key: str = KEYS[ADMIN], **content: Any) -> Any:
        """Call the API with a key. Return the JSON of the answer."""
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{self.url}{path}"
        answer = requests.request(method, url, headers=headers, timeout=WAIT_SECONDS, **content)
        assert answer.ok, (method, path, answer.status_code, answer.text)
        return answer.json()

    def enqueue(self, kind: Kind) -> str:
        """Make a job. Return its id."""
        request = kind.request(self.stack.sandbox_url)
        return str(self.call("POST", "/v1/jobs", KEYS[kind.tenant], json=request)["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/v1/jobs/{job_id}")
        return found

    def eventually(self, job_id: str, part: str, status: str) -> None:
        """Wait until a part of a job, such as `archive`, has a status."""
        wait(lambda: (self.job(job_id)[part] or {}).get("status") == status)

    def seed(self, kinds: Mapping[str, Kind] = KINDS) -> None:
        """Make a job of each kind, and wait until each is as its name says."""
        closed = f"{self.stack.sandbox_url}/control/inbox/{CLOSED_INBOX}"
        fault = {"answer": 503, "retry_after": RETRY_AFTER_SECONDS}
        requests.put(closed, json=fault, timeout=WAIT_SECONDS).raise_for_status()
        self.call("POST", f"/v1/providers/{PAUSED}/pause", json={"reason": "A price has changed"})
        self.jobs.update({name: self.enqueue(kind) for name, kind in kinds.items()})
        self.call("POST", f"/v1/jobs/{self.jobs['cancelled']}/cancel")
        for name, job_id in self.jobs.items():
            if name not in OPEN:
                wait(lambda job_id=job_id: self.job(job_id)["settled_at"] is not None)
        for name in ("succeeded", "several", "other_tenant"):
            self.eventually(self.jobs[name], "archive", "done")
            self.eventually(self.jobs[name], "notification", "done")
        self._give_up_notification(self.jobs["not_notified"])
        self._wait_for_history()

    def _give_up_notification(self, job_id: str) -> None:
        """Let a notification be dead, which takes three days otherwise."""
        wait(lambda: (self.job(job_id)["notification"] or {}).get("attempts") == 1)
        ledger = Ledger.from_url(self.stack.env["ORCHESTRATOR_REDIS_URL"])
        now, later = now_ms(), now_ms() + 2 * RETRY_AFTER_SECONDS * 1000
        lease = ledger.follow_ups.claim(job_id, Step.NOTIFY, now=later, lease_ms=60_000)
        assert lease
        dead, error = FollowUpStatus.DEAD, "status 503"
        ledger.follow_ups.done(lease, Step.NOTIFY, dead, now=now, tries=10, error=error)
        self.eventually(job_id, "notification", "dead")

    def _wait_for_history(self) -> None:
        """Wait until searches find the jobs."""
        for name in ("at_risk", "unconfirmed"):
            found = f"/v1/jobs?{name}=true"
            wait(lambda name=name, found=found: self.jobs[name] in _ids(self.call("GET", found)))


def wait(condition: Any) -> None:
    eventually(condition, within=WAIT_SECONDS, every=0.05)


def _ids(page: dict[str, Any]) -> set[str]:
    return {job["id"] for job in page["jobs"]}


@contextmanager
def running() -> Iterator[Site]:
    """Run every process that the dashboard needs, without jobs. `Site.seed` makes them."""
    processes = ("web", "worker", "beat", "recorder")
    with ForkedStack(processes, task_seconds=0.2, settings=SETTINGS, api_key=KEYS[ADMIN]) as stack:
        yield Site(stack)
