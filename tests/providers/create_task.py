"""What the adapters of APIs of the form `createTask` and `recordInfo` have in common."""

from __future__ import annotations

from typing import Any

from orchestrator.jsonio import dump
from orchestrator.providers.responses import Accepted
from tests.providers.contract import ProviderContract


class CreateTaskContract(ProviderContract):
    """The contract of every adapter, with the documents of such an API."""

    submit_path = "/api/v1/jobs/createTask"
    query_path = "/api/v1/jobs/recordInfo?taskId={}"
    id_field = "taskId"
    state_field = "state"
    success = "success"
    failure = "fail"

    def smallest(self, model: str) -> dict[str, Any]:
        return {"model": model, "input": {"prompt": "A cat"}}

    def with_links(self, *links: Any) -> dict[str, Any]:
        return self.task(resultJson=dump({"resultUrls": links}).decode())

    def failed(self, code: Any, message: Any) -> dict[str, Any]:
        return self.task(state=self.failure, failCode=code, failMsg=message)

    def failed_oddly(self, reason: Any) -> dict[str, Any]:
        return self.failed(reason, reason)

    def enveloped(self, task: Any) -> dict[str, Any]:
        return {"code": 200, "msg": "success", "data": task}

    def test_the_task_id_is_under_data(self) -> None:
        task_id = self.document("accepted")["data"]["taskId"]

        assert self.submitted(200, self.payload("accepted")) == Accepted(task_id)
