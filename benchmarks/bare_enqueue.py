"""A bare flask-smorest route for the comparison: it checks a request by our schema, and no more."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask_smorest import Api, Blueprint
from marshmallow import Schema, fields

from orchestrator.job_check import REQUEST_SCHEMA

app = Flask(__name__)
app.config |= {"API_TITLE": "bare", "API_VERSION": "1", "OPENAPI_VERSION": "3.1.0"}
jobs = Blueprint("jobs", __name__)


class _JobSchema(Schema):
    id = fields.String()
    status = fields.String()


@jobs.post("/v1/jobs")
@jobs.arguments(REQUEST_SCHEMA)
@jobs.response(202, _JobSchema)
def create(_: Any) -> dict[str, str]:
    """Check the request, and store nothing."""
    return {"id": "01JB0000000000000000000000", "status": "queued"}


Api(app).register_blueprint(jobs)
