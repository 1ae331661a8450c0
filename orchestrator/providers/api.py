"""Everything that a provider adapter needs. A plug-in imports only this module.

`docs/adding-a-provider.md` explains each name. The names stay stable within one minor version.
"""

from __future__ import annotations

from orchestrator.jobs.model import Cost, ErrorCode, Image, JobError, Outcome, Status
from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.schema_fields import always, link, links, nested, number, switch, text, whole
from orchestrator.jobs.validation import InvalidRequest, OneOfNames, StrictSchema, Violation
from orchestrator.jsonio import NotJson, dump, parse, parse_lenient
from orchestrator.net.addresses import callback_refusal
from orchestrator.net.http_types import Call, File, Reply
from orchestrator.providers.base import Capabilities, Provider
from orchestrator.providers.catalog import AnyBody, AnyInput, Family, Model, as_written, to_body
from orchestrator.providers.create_task import CreateTaskProvider
from orchestrator.providers.errors import (
    by_status,
    document_error,
    failure,
    provider_code,
    thin_success,
    typed_error,
    words,
)
from orchestrator.providers.responses import (
    Accepted,
    Ambiguous,
    QueryFailed,
    Rejected,
    TaskNotFound,
    TaskReport,
    Unreadable,
    succeeded,
    task_id,
    task_object,
)
from orchestrator.providers.results import images, result_images
from orchestrator.providers.states import States
from orchestrator.security.public_keys import UnknownKey, verify_ed25519
from orchestrator.security.secret import Secret
from orchestrator.security.signatures import (
    BadSignature,
    check_time,
    verify_id_and_time,
    verify_timestamped_hex,
)
from orchestrator.security.standard_webhooks import (
    secret_refusal as standard_webhook_secret_refusal,
)
from orchestrator.security.standard_webhooks import (
    verify_standard_webhook,
)

__all__ = [
    "Accepted",
    "Ambiguous",
    "AnyBody",
    "AnyInput",
    "BadSignature",
    "Call",
    "Capabilities",
    "Cost",
    "CreateTaskProvider",
    "ErrorCode",
    "Family",
    "File",
    "Image",
    "InvalidRequest",
    "JobError",
    "JobRequest",
    "Model",
    "NotJson",
    "OneOfNames",
    "Outcome",
    "Provider",
    "QueryFailed",
    "Rejected",
    "Reply",
    "Secret",
    "States",
    "Status",
    "StrictSchema",
    "TaskNotFound",
    "TaskReport",
    "UnknownKey",
    "Unreadable",
    "Violation",
    "always",
    "as_written",
    "by_status",
    "callback_refusal",
    "check_time",
    "document_error",
    "dump",
    "failure",
    "images",
    "link",
    "links",
    "nested",
    "number",
    "parse",
    "parse_lenient",
    "provider_code",
    "result_images",
    "standard_webhook_secret_refusal",
    "succeeded",
    "switch",
    "task_id",
    "task_object",
    "text",
    "thin_success",
    "to_body",
    "typed_error",
    "verify_ed25519",
    "verify_id_and_time",
    "verify_standard_webhook",
    "verify_timestamped_hex",
    "whole",
    "words",
]
