"""One adapter under test: the spelling of its provider, and helpers that call it."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import orjson
import pytest

from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.uploads import Upload
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.net.http_types import Call, Reply
from orchestrator.providers import BUILT_IN, Provider
from orchestrator.providers.catalog import field_at
from orchestrator.providers.responses import (
    Accepted,
    Ambiguous,
    QueryFailed,
    Rejected,
    TaskNotFound,
    TaskReport,
)
from tests.support.cases import for_each
from tests.support.fakes import NOON

PAYLOADS = Path(__file__).parent / "payloads"
CALLBACK_URL = "https://hooks.example.com/callbacks/p/job_1.1/AbCdEf"
KEY = "job_01.1"
UPLOAD = Upload("cat.png", "image/png", 3, "0" * 64)
#: A value for each unified option except the prompt. Some provider accepts it.
OPTIONS: Mapping[str, Any] = {
    "images": ["https://e.example/a.png"],
    "aspect_ratio": "1:1",
    "resolution": "1K",
    "output_format": "png",
    "n": 2,
}

#: Values that a limit refuses, each with a part of what the error says is allowed.
Cases = list[tuple[Any, str]]


def each(*values: Any, allowed: str) -> Cases:
    """Values that the same limit refuses."""
    return [(value, allowed) for value in values]


def multipart_example() -> dict[str, str]:
    """Return the form fields of the documented curl example with a file."""
    text = next(PAYLOADS.glob("*/request_multipart.sh")).read_text("utf-8")
    words = shlex.split(text.replace("\\\n", " "))
    fields = [words[at + 1] for at, word in enumerate(words) if word == "-F"]
    return {name: value for name, _, value in (field.partition("=") for field in fields)}


class Limit(NamedTuple):
    """One limit of one model, and a value that breaks it."""

    model: str
    #: A unified option, or the path of a field in the provider's own body.
    field: str
    value: Any
    allowed: str


def by_model(limits: Iterable[Limit]) -> list[list[Limit]]:
    """Return the limits of each model as one row."""
    rows: dict[str, list[Limit]] = {}
    for limit in limits:
        rows.setdefault(limit.model, []).append(limit)
    return list(rows.values())


class AdapterTests:
    """Subclasses state the provider's spelling.

    A test runs for each row of the arguments that `rows` knows: every model, limit, ...
    """

    name: ClassVar[str]
    #: The model of requests that name none.
    model: ClassVar[str]
    #: A request with every unified option of that model, and the body that it makes.
    unified: ClassVar[dict[str, Any]]
    body: ClassVar[dict[str, Any]]
    #: Family -> resolution (None: absent) -> the provider's model.
    families: ClassVar[Mapping[str, Mapping[str | None, str]]]
    #: Path of the callback URL in a submit's body; empty where there are no callbacks.
    callback_path: ClassVar[tuple[str, ...]] = ()
    #: The header of the idempotency key. None: the provider accepts no key.
    key_header: ClassVar[str | None] = None
    #: How each unified option is supported: full, limited or refused.
    support: ClassVar[list[str]]
    submit_path: ClassVar[str]
    query_path: ClassVar[str]
    #: Request bodies from the provider's document.
    documented: ClassVar[tuple[str, ...]]
    #: Model -> unified option -> refused values.
    refused: ClassVar[Mapping[str, Mapping[str, Cases]]]
    #: Model -> path in the native body -> more refused values than in `refused`.
    refused_natively: ClassVar[Mapping[str, Mapping[str, Cases]]] = {}
    #: The fields of a task with its id and its state.
    id_field: ClassVar[str]
    state_field: ClassVar[str] = "status"
    #: The state of an envelope that looks like a task. It is no state of the provider.
    envelope_state: ClassVar[str] = "OK"
    success: ClassVar[str]
    failure: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not hasattr(cls, "name"):
            return
        all_rows = cls.rows()
        for test_name in [name for name in dir(cls) if name.startswith("test_")]:
            test = getattr(cls, test_name)
            for name in inspect.signature(test).parameters:
                if name in all_rows:
                    test = for_each(name, all_rows[name])(test)
            setattr(cls, test_name, test)

    @classmethod
    def rows(cls) -> dict[str, list[Any]]:
        models = BUILT_IN[cls.name].models
        distinct = cls.distinct_models()
        return {
            "each_model": distinct,
            "each_name": list(dict.fromkeys([*distinct, *BUILT_IN[cls.name].families])),
            "documented_request": list(cls.documented),
            "each_answer": sorted(path.stem for path in (PAYLOADS / cls.name).glob("[ate]*.json")),
            "limits": by_model(
                Limit(model, option, value, allowed)
                for model, options in cls.refused.items()
                if model in distinct
                for option, cases in options.items()
                for value, allowed in cases
            ),
            "native_limits": by_model(cls._native_limits()),
            "extra_limits": by_model(
                limit
                for limit in cls._native_limits()
                if field_at(models[limit.model].schema, tuple(limit.field.split(".")))
            ),
            "gaps": by_model(
                Limit(name, option, value, BUILT_IN[cls.name].title)
                for name in distinct
                for option, value in OPTIONS.items()
                if option not in models[name].options
            ),
            "family_tier": [
                (family, resolution, model)
                for family, tiers in cls.families.items()
                for resolution, model in tiers.items()
            ],
        }

    @classmethod
    def distinct_models(cls) -> list[str]:
        """Return one name of each Model. Names that share a Model have the same limits."""
        by_model: dict[int, str] = {}
        for name, model in BUILT_IN[cls.name].models.items():
            by_model.setdefault(id(model), name)
        return list(by_model.values())

    @classmethod
    def _native_limits(cls) -> Iterator[Limit]:
        """Yield the unified limits by their place in the body, and the limits of other fields."""
        distinct = cls.distinct_models()
        for name, unified in cls.refused.items():
            if name not in distinct:
                continue
            model = BUILT_IN[cls.name].models[name]
            for option, cases in unified.items():
                if option in model.options and option not in model.values:
                    path = ".".join(model.options[option])
                    yield from (Limit(name, path, value, allowed) for value, allowed in cases)
        for name, native in cls.refused_natively.items():
            if name not in distinct:
                continue
            for path, cases in native.items():
                yield from (Limit(name, path, value, allowed) for value, allowed in cases)

    @property
    def provider(self) -> Provider:
        return BUILT_IN[self.name]

    def payload(self, name: str) -> bytes:
        return (PAYLOADS / self.name / f"{name}.json").read_bytes()

    def document(self, name: str) -> Any:
        return orjson.loads(self.payload(name))

    # Requests ------------------------------------------------------------------------------

    def request(self, model: str | None = None, **options: Any) -> JobRequest:
        return JobRequest(self.name, model or self.model, options={"prompt": "A cat", **options})

    def native(self, body: Any, model: str | None = None, **more: Any) -> JobRequest:
        return JobRequest(self.name, model or body["model"], native=body, **more)

    def inward(self, body: Any) -> Any:
        """Return the body of a documented request as callers write it, with its `model`."""
        return body

    def outward(self, call: Call) -> Any:
        """Return the body of a submit as callers write it, with its `model`."""
        return call.body

    def with_extras(self, extras: Mapping[str, Any], model: str | None = None) -> JobRequest:
        """A smallest request with these `provider_options`."""
        options = {"prompt": "A cat"}
        return JobRequest(self.name, model or self.model, options=options, provider_options=extras)

    def written(self, request: JobRequest) -> Any:
        """The body that a request comes to, once it was checked."""
        self.provider.check(request)
        return self.outward(self.provider.submit_call(self.provider.body(request), None, KEY))

    def refusals(self, request: JobRequest) -> tuple[Violation, ...]:
        """Return the violations of a request, which must have some."""
        with pytest.raises(InvalidRequest) as refusal:
            self.provider.check(request)
        for violation in refusal.value.violations:
            assert violation.field in str(refusal.value)
        return refusal.value.violations

    # Answers -------------------------------------------------------------------------------

    def submitted(
        self, status: int, body: bytes, **headers: str
    ) -> Accepted | Rejected | Ambiguous:
        return self.provider.read_submit(Reply(status, headers, body))

    def queried(
        self, status: int, body: bytes, **headers: str
    ) -> TaskReport | TaskNotFound | QueryFailed:
        return self.provider.read_query(Reply(status, headers, body), NOON)

    def task(self, **fields: Any) -> dict[str, Any]:
        return {self.id_field: "task-1", self.state_field: self.success, **fields}

    def failed(self, code: Any, message: Any) -> dict[str, Any]:
        """A task that failed for this reason."""
        return self.failed_oddly({"code": code, "message": message})

    def failed_oddly(self, reason: Any) -> dict[str, Any]:
        """Return a failed task with any value in place of the reason."""
        return self.task(**{self.state_field: self.failure, "error": reason})

    def with_links(self, *links: Any) -> dict[str, Any]:
        """A task that succeeded with these links."""
        raise NotImplementedError

    def enveloped(self, task: Any) -> dict[str, Any]:
        """A query's answer with this task in it."""
        raise NotImplementedError

    def links_of(self, report: TaskReport) -> list[str]:
        assert report.outcome is not None
        return [image.source_url for image in report.outcome.images]
