"""The models of the client have what the API sends and takes."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

from marshmallow import Schema

from orchestrator.api.batches import BatchRequestSchema
from orchestrator.api.jobs import JobsSchema
from orchestrator.api.openapi import ProblemSchema, ViolationSchema
from orchestrator.api.quotes import QuotedCostSchema, QuoteSchema
from orchestrator.jobs import answer_schemas, schemas
from orchestrator.operations.filters import FILTERS
from orchestrator_client import models, parsing, requests
from tests.clients.kit import DONE
from tests.support.cases import for_each

#: Model and schema. A name may differ where Python reserves the word.
ANSWERS = [
    (models.Attempt, answer_schemas.AttemptSchema),
    (models.Batch, answer_schemas.BatchSchema),
    (models.Cost, answer_schemas.CostSchema),
    (models.FollowUp, answer_schemas.NotificationSchema),
    (models.Image, answer_schemas.ImageSchema),
    (models.Job, answer_schemas.CurrentJobSchema),
    (models.JobError, answer_schemas.JobErrorSchema),
    (models.JobPage, JobsSchema),
    (models.Move, answer_schemas.MoveSchema),
    (models.Problem, ProblemSchema),
    (models.Quote, QuoteSchema),
    (models.QuotedCost, QuotedCostSchema),
    (models.Violation, ViolationSchema),
]


def names(schema: Schema) -> set[str]:
    return {field.data_key or name for name, field in schema.fields.items()}


@for_each(("model", "schema"), ANSWERS)
def test_a_model_has_every_field_of_an_answer(model: type, schema: type[Schema]) -> None:
    known = {{"from_provider": "from"}.get(each.name, each.name) for each in fields(model)}
    assert known - {"raw"} == names(schema())


def test_requests_and_filters_have_every_field_that_the_api_takes() -> None:
    assert set(requests.JobRequest.__annotations__) == names(schemas.JobRequestSchema({}))
    assert {"jobs", *requests.Receiver.__annotations__} == names(BatchRequestSchema())
    accepted = {name.partition(".")[0] for name in FILTERS}
    assert set(requests.JobFilter.__annotations__) == accepted
    assert set(requests.Fallback.__annotations__) == names(schemas.FallbackSchema())


def test_the_parts_of_a_job_are_typed() -> None:
    time = "2026-11-30T00:53:26.120Z"
    move = {"at": time, "from": "hiapi", "provider": "evolink", "model": "m", "reason": "timeout"}
    image = {"url": "u", "width": 64, "expires_at": time}
    error = {"code": "timeout", "message": "m", "provider_code": None, "retryable": True}
    later = {"status": "pending", "attempts": 2, "next_attempt_at": time, "error": None}
    job = parsing.job(
        {**DONE, "fallbacks": [move], "images": [image], "error": error, "archive": later}
    )
    at = datetime(2026, 11, 30, 0, 53, 26, 120_000, UTC)

    assert job.settled_at == job.fallbacks[0].at == job.images[0].expires_at == at
    assert (job.fallbacks[0].from_provider, job.images[0].width) == ("hiapi", 64)
    assert job.error is not None
    assert job.error.retryable
    assert job.archive is not None
    assert job.archive.next_attempt_at == at
    assert job.raw["a_new_field"] == 1
