"""The cost of a job by its provider's price table."""

from __future__ import annotations

from orchestrator import log
from orchestrator.jobs.model import Cost, Job, Outcome, Status
from orchestrator.jobs.request import JobRequest
from orchestrator.providers.base import Provider
from orchestrator.runtime import Runtime
from orchestrator.settings.provider_settings import ProviderSettings


def expected_cost(runtime: Runtime, job: Job, provider: str | None) -> Cost | None:
    """Return what one more attempt of a job costs at a provider, or None if that is unknown."""
    enabled = runtime.enabled_provider(provider) if provider else None
    return computed_cost(*enabled, job) if enabled else None


def computed_cost(
    provider: Provider, settings: ProviderSettings, job: Job, outcome: Outcome | None = None
) -> Cost | None:
    """Return what a job costs by the price table, or None without a price.

    Args:
        provider: of the attempt that is charged.
        settings: the provider's settings, with the price table.
        job: the job.
        outcome: the job's outcome, once it has one. A job that did not succeed has no price.
    """
    if outcome and outcome.status is not Status.SUCCEEDED:
        return None
    returned = len(outcome.images) if outcome else None
    return price(provider, settings, job.request.at(provider.name), returned, job_id=job.id)


def price(
    provider: Provider,
    settings: ProviderSettings,
    request: JobRequest,
    images: int | None = None,
    *,
    job_id: str | None = None,
) -> Cost | None:
    """Return what a request costs by the price table of its provider, or None without a price.

    Args:
        provider: of the request.
        settings: the provider's settings, with the price table.
        request: as this provider gets it.
        images: the number of images that were returned; None: as many as the request asks for.
        job_id: the job of the request, for the log.
    """
    if settings.prices is None:
        return None
    try:
        return provider.price(request, settings.prices, images)
    except Exception:  # noqa: BLE001  # an adapter's fault must not delay an outcome
        log.get().exception("price_failed", job=job_id, provider=provider.name)
        return None
