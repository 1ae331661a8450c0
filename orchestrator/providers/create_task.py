"""APIs of the form `createTask` and `recordInfo`, which several providers share.

A submission and a query answer `{code, msg, data}`. The code counts before the HTTP status. The
result of a task is JSON inside a JSON string.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from orchestrator.jobs.model import Cost, JobError, Status
from orchestrator.net.http_types import Call, Reply
from orchestrator.providers.base import Provider
from orchestrator.providers.errors import Codes, document_error
from orchestrator.providers.responses import (
    Accepted,
    Ambiguous,
    Rejected,
    TaskReport,
    task_id,
    task_object,
)
from orchestrator.providers.states import States

#: The envelope's code of a success.
OK = 200


class CreateTaskProvider(Provider):
    """The base class of adapters for such APIs. A subclass states the rest, such as its models."""

    #: The provider's codes -> our code, and whether the error may pass.
    codes: ClassVar[Codes] = {}
    states: ClassVar[States] = {
        **dict.fromkeys(("waiting", "queuing", "generating")),
        "success": Status.SUCCEEDED,
        "fail": Status.FAILED,
    }
    results = ("resultJson.resultUrls", "resultJson")

    def submit_call(self, body: dict[str, Any], callback_url: str | None, key: str) -> Call:
        """Create a task."""
        return Call("POST", "/api/v1/jobs/createTask", {}, body)

    def query_call(self, task_id: str) -> Call:
        """Query one task. The task id is a query parameter."""
        return Call("GET", f"/api/v1/jobs/recordInfo?taskId={quote(task_id, safe='')}")

    def read_submit(self, reply: Reply) -> Accepted | Rejected | Ambiguous:
        """Return Ambiguous when HTTP status and envelope contradict each other."""
        document = reply.object() or {}
        if reply.status // 100 != 2 and _code(document) == OK:
            reason = f"HTTP {reply.status} with an envelope code {OK}"
            return Ambiguous(reason, reply.retry_after())
        return super().read_submit(reply)

    def read_accepted(self, document: dict[str, Any]) -> Accepted:
        """Read `{code: 200, msg, data: {taskId}}`."""
        data = document.get("data")
        return Accepted(task_id((data if isinstance(data, dict) else document).get("taskId")))

    def read_error(self, status: int, document: dict[str, Any]) -> JobError | None:
        """Read `{code, msg}`. The code counts before the HTTP status."""
        return None if _code(document) == OK else document_error(status, document, self.codes)

    def unwrap(self, document: dict[str, Any]) -> Any:
        """Return `data`, unless the envelope reports an error."""
        return document.get("data") if (_code(document) or OK) < 400 else None

    def read_task(self, document: Any, now: int) -> TaskReport:
        """Read `{taskId, state, resultJson, failCode, failMsg}`."""
        task = task_object(document)
        return self.report(
            task,
            task.get("taskId"),
            task.get("state"),
            now,
            codes=self.codes,
            cost=self.read_cost(task),
        )

    def read_cost(self, task: Mapping[str, Any]) -> Cost | None:
        """Return the reported cost of a task, or None."""
        return None


def _code(document: Mapping[str, Any]) -> int | None:
    code = document.get("code")
    return code if isinstance(code, int) and not isinstance(code, bool) else None
