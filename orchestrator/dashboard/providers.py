"""The providers: their limits and states, how their jobs end, and pause and resume."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from orchestrator.dashboard import views
from orchestrator.dashboard.recent import Recent
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.ledger.admission import CircuitState
from orchestrator.operations.admission import (
    MAX_REASON_CHARACTERS,
    admission_views,
    pause_provider,
    public_view,
    resume_provider,
)
from orchestrator.operations.durations import duration_views
from orchestrator.operations.provider_figures import ProviderFigures, provider_figures
from orchestrator.providers.listing import view
from orchestrator.runtime import Runtime

#: The words for a state, and the tone of its badge.
STATES = {
    CircuitState.CLOSED: ("gets jobs", "good"),
    CircuitState.HALF_OPEN: ("is probed with one job", "warn"),
    CircuitState.OPEN: ("gets no jobs", "bad"),
    CircuitState.PAUSED: ("paused", "warn"),
}
_Figures = dict[str, ProviderFigures] | None


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the routes."""
    page = _ProvidersPage(runtime)

    @pages.get("/providers")
    def providers() -> Response:
        """All enabled providers."""
        return views.unchanged(runtime) or page.show()

    @pages.post("/providers/<name>/pause")
    def pause_provider_form(name: str) -> Response:
        """Stop the submissions to a provider."""
        _check(runtime, name)
        reason = request.form.get("reason", "").strip()
        try:
            pause_provider(runtime, name, actor=views.caller().name, reason=reason)
        except InvalidRequest as error:
            wrong = {"name": name, "reason": reason, "text": str(error)}
            return page.show(422, wrong=wrong)
        notice = f"{_title(runtime, name)} is paused. Its jobs wait, and polls and callbacks go on."
        return views.done(runtime, notice, "providers")

    @pages.post("/providers/<name>/resume")
    def resume_provider_form(name: str) -> Response:
        """End a pause, and close the circuit breaker."""
        _check(runtime, name)
        resume_provider(runtime, name, actor=views.caller().name)
        return views.done(runtime, f"{_title(runtime, name)} gets jobs again.", "providers")


class _ProvidersPage:
    """Makes the page."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._figures = Recent[str | None, _Figures]()
        self._prices: list[dict[str, Any]] | None = None

    def _states(self) -> dict[str, dict[str, Any]]:
        """Return the states of the enabled providers that the caller may see."""
        states = admission_views(self._runtime, self._runtime.settings.providers)
        if views.caller().admin:
            return states
        return {name: public_view(state) for name, state in states.items()}

    def show(self, status: int = 200, **context: Any) -> Response:
        """Return the page."""
        tenant, states = views.chosen_tenant(), self._states()
        figures = self._figures.get(
            tenant, lambda: provider_figures(self._runtime, list(states), tenant=tenant)
        )
        return views.render(
            "providers",
            status,
            states=states,
            figures=figures,
            queued=self._runtime.ledger.overview.queued() if views.caller().admin else {},
            durations=duration_views(self._runtime, states) if views.caller().admin else {},
            providers=[each for each in self._listed() if each["name"] in states],
            words=STATES,
            longest_reason=MAX_REASON_CHARACTERS,
            tenant=tenant,
            **{"wrong": None, **context},
        )

    def _listed(self) -> list[dict[str, Any]]:
        """Return models and prices. They are the same as long as the process lives."""
        if self._prices is None:
            enabled = self._runtime.settings.providers
            self._prices = [
                view(self._runtime.providers[name], on=True, prices=settings.prices)
                for name, settings in enabled.items()
                if name in self._runtime.providers
            ]
        return self._prices


def _check(runtime: Runtime, name: str) -> None:
    """Refuse whoever is no administrator, and a provider that is not enabled.

    Raises:
        Forbidden: the key lacks the scope.
        NotFound: there is no such provider.
    """
    views.require_admin("Only an administrator may pause and resume providers.")
    if name not in runtime.settings.providers:
        raise NotFound("There is no such provider here. It has no API key, or another name.")


def _title(runtime: Runtime, name: str) -> str:
    return runtime.providers[name].title
