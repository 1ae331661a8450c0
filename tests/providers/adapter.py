"""One adapter under test: how its provider spells things, and short ways to ask it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import orjson

from orchestrator.jobs import JobRequest
from orchestrator.providers import PROVIDERS, Provider
from orchestrator.providers.base import (
    Accepted,
    Ambiguous,
    Missing,
    Refused,
    TaskReport,
    Trouble,
)
from orchestrator.wire import Reply
from tests.fakes import NOON

PAYLOADS = Path(__file__).parent / "payloads"
CALLBACK_URL = "https://hooks.example.com/callbacks/p/job_1.1/AbCdEf"
KEY = "job_01.1"


class AdapterTests:
    """Subclasses say how the provider spells things."""

    name: ClassVar[str]
    model: ClassVar[str]
    #: A request with every unified option, and the body that it makes.
    unified: ClassVar[dict[str, Any]]
    body: ClassVar[dict[str, Any]]
    #: Path of the callback URL in a submit's body.
    callback_path: ClassVar[tuple[str, ...]]
    #: Request bodies from the provider's document.
    documented: ClassVar[tuple[str, ...]]
    #: Option -> a value that is not allowed, and some of what the refusal must say is.
    refused: ClassVar[dict[str, list[tuple[Any, str]]]]
    #: What in a task names it, and its state.
    id_field: ClassVar[str]
    success: ClassVar[str]
    failure: ClassVar[str]

    @property
    def provider(self) -> Provider:
        return PROVIDERS[self.name]

    def payload(self, name: str) -> bytes:
        return (PAYLOADS / self.name / f"{name}.json").read_bytes()

    def document(self, name: str) -> Any:
        return orjson.loads(self.payload(name))

    def request(self, **options: Any) -> JobRequest:
        return JobRequest(self.name, self.model, options={"prompt": "A cat", **options})

    def native(self, body: Any, model: str | None = None) -> JobRequest:
        return JobRequest(self.name, model or self.model, native=body)

    def submitted(self, status: int, body: bytes, **headers: str) -> Accepted | Refused | Ambiguous:
        return self.provider.read_submit(Reply(status, headers, body))

    def queried(self, status: int, body: bytes, **headers: str) -> TaskReport | Missing | Trouble:
        return self.provider.read_query(Reply(status, headers, body), NOON)

    def task(self, **fields: Any) -> dict[str, Any]:
        return {self.id_field: "task-1", "status": self.success, **fields}

    def with_links(self, *links: Any) -> dict[str, Any]:
        """A task that succeeded with these links."""
        raise NotImplementedError

    def links_of(self, report: TaskReport) -> list[str]:
        assert report.outcome is not None
        return [image.source_url for image in report.outcome.images]
