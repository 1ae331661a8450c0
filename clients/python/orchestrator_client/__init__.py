"""A client of the image orchestrator: enqueue once; get one outcome, and the images.

from orchestrator_client import Client

with Client("https://images.example.com", "orch_...") as client:
    job = client.enqueue(provider="hiapi", model="Nano-Banana-2", prompt="A lighthouse at dusk")
    job = client.wait(job.id, timeout=300)
    client.download(job, "lighthouse.png")
"""

from orchestrator_client import webhooks
from orchestrator_client.async_client import AsyncClient
from orchestrator_client.client import Client
from orchestrator_client.errors import (
    ApiError,
    AuthenticationFailed,
    Conflict,
    ConnectionFailed,
    DownloadFailed,
    Gone,
    IdempotencyMismatch,
    InvalidRequest,
    LimitReached,
    NotFound,
    OrchestratorError,
    PermissionDenied,
    ServerError,
    UnexpectedAnswer,
    WaitTimeout,
)
from orchestrator_client.models import (
    Attempt,
    Batch,
    BatchEntry,
    BatchResult,
    Cost,
    FollowUp,
    Image,
    Job,
    JobError,
    JobPage,
    Move,
    Problem,
    Quote,
    QuotedCost,
    Violation,
)
from orchestrator_client.requests import BatchJobRequest, Fallback, JobFilter, JobRequest, Receiver

__all__ = [
    "ApiError",
    "AsyncClient",
    "Attempt",
    "AuthenticationFailed",
    "Batch",
    "BatchEntry",
    "BatchJobRequest",
    "BatchResult",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "Cost",
    "DownloadFailed",
    "Fallback",
    "FollowUp",
    "Gone",
    "IdempotencyMismatch",
    "Image",
    "InvalidRequest",
    "Job",
    "JobError",
    "JobFilter",
    "JobPage",
    "JobRequest",
    "LimitReached",
    "Move",
    "NotFound",
    "OrchestratorError",
    "PermissionDenied",
    "Problem",
    "Quote",
    "QuotedCost",
    "Receiver",
    "ServerError",
    "UnexpectedAnswer",
    "Violation",
    "WaitTimeout",
    "webhooks",
]
