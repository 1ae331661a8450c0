"""The cost of a job by its provider's price table."""

from __future__ import annotations

from orchestrator import log
from orchestrator.jobs.model import Cost, Job, Outcome, Status
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
    if settings.prices is None or (outcome and outcome.status is not Status.SUCCEEDED):
        return None
    returned = len(outcome.images) if outcome else None
    try:
        return provider.price(job.request.at(provider.name), settings.prices, returned)
    except Exception:  # noqa: BLE001  # an adapter's fault must not delay an outcome
        log.get().exception("price_failed", job=job.id, provider=provider.name)
        return None
