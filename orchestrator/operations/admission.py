"""Pauses and resumes providers, and shows what admission knows of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.jobs.validation import InvalidRequest, OneOfNames, Violation
from orchestrator.jsonio import rfc3339
from orchestrator.ledger.admission import NO_LIMITS, CircuitState, ProviderLimits, ProviderState
from orchestrator.runtime import Runtime

#: The longest reason of a pause. Characters.
MAX_REASON_CHARACTERS = 500
#: The code of the reason of a provider that an operator paused.
PAUSED = "paused"
#: The states in which a provider gets no submissions.
_STOPPED = (CircuitState.OPEN, CircuitState.PAUSED)
#: The fields of a view that tell about other tenants' jobs or about the operators.
_FOR_ADMINISTRATORS = frozenset({"in_flight", "found_limit", "paused_by"})


def pause_provider(runtime: Runtime, name: str, *, actor: str, reason: str = "") -> dict[str, Any]:
    """Stop the submissions to a provider until `resume_provider`, and return its view.

    Polls and callbacks go on. A second pause replaces the reason.

    Args:
        runtime: of this process.
        name: the provider.
        actor: who asks, for the audit trail.
        reason: why, for people.

    Raises:
        InvalidRequest: there is no such provider, or the reason is too long. Nothing has changed.
        LedgerUnavailable: Redis is away.
    """
    _check_provider(runtime, name)
    if len(reason) > MAX_REASON_CHARACTERS or not _is_text(reason):
        allowed = f"a text of at most {MAX_REASON_CHARACTERS} characters"
        raise InvalidRequest(Violation("reason", reason, allowed))
    now = runtime.clock()
    runtime.ledger.admission.pause(name, by=actor, now=now, reason=reason)
    runtime.audit(actor, "provider_pause", name, **({"reason": reason} if reason else {}))
    return admission_views(runtime, [name])[name]


def resume_provider(runtime: Runtime, name: str, *, actor: str) -> dict[str, Any]:
    """End a pause, close the circuit breaker of a provider, and return its view.

    Raises:
        InvalidRequest: there is no such provider.
        LedgerUnavailable: Redis is away.
    """
    _check_provider(runtime, name)
    runtime.ledger.admission.resume(name, now=runtime.clock())
    runtime.audit(actor, "provider_resume", name)
    return admission_views(runtime, [name])[name]


def admission_views(runtime: Runtime, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the limits and the state of providers as JSON-ready data.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    limits = runtime.settings.limits
    states = runtime.ledger.admission.states(names, now=runtime.clock())
    return {name: _view(state, limits.get(name, NO_LIMITS)) for name, state in states.items()}


def unknown_view(runtime: Runtime, name: str) -> dict[str, Any]:
    """Return the view of a provider while Redis is away: its limits. Its state is not known."""
    unknown = _view(ProviderState(name), runtime.settings.limits.get(name, NO_LIMITS))
    return {field: value if field == "limits" else None for field, value in unknown.items()}


def public_view(view: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a view that every key may see. Messages may quote another tenant's job."""
    shown = {field: v for field, v in view.items() if field not in _FOR_ADMINISTRATORS}
    if view["reason"]:
        shown["reason"] = {"code": view["reason"]["code"]}
    return shown


def stopped_providers(states: Iterable[ProviderState]) -> dict[str, CircuitState]:
    """Return the providers that are paused or have an open circuit breaker, with its state."""
    return {s.name: s.circuit for s in states if s.circuit in _STOPPED}


def _check_provider(runtime: Runtime, name: str) -> None:
    if name not in runtime.providers:
        raise InvalidRequest(Violation("provider", name, OneOfNames(runtime.providers)))


def _is_text(reason: str) -> bool:
    """Return whether Redis can store it. Half of a surrogate pair has no UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in reason)


def _view(state: ProviderState, limits: ProviderLimits) -> dict[str, Any]:
    return {
        "limits": {
            "max_in_flight": limits.max_in_flight,
            "requests_per_second": limits.requests_per_second,
            "burst": limits.burst,
        },
        "in_flight": state.in_flight,
        "found_limit": state.found_limit,
        "circuit": state.circuit.value,
        "until": rfc3339(state.until),
        "reason": _reason(state),
        "paused_by": state.paused_by,
    }


def _reason(state: ProviderState) -> dict[str, str] | None:
    if state.circuit is CircuitState.PAUSED:
        return {"code": PAUSED, "message": state.pause_reason}
    if state.reason is None:
        return None
    return {"code": state.reason.code.value, "message": state.reason.message}
