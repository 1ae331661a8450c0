"""Labels have few values, whatever a request, a provider or a caller says."""

from __future__ import annotations

from orchestrator.metrics import DEFINITIONS
from orchestrator.metrics.labels import (
    call_result,
    callback_status,
    model_label,
    provider_label,
    unit_label,
)
from orchestrator.net.http_types import Reply
from orchestrator.providers import PROVIDERS
from orchestrator.providers.client import NoAnswer, NotSent
from tests.support.cases import for_each


def test_every_listed_model_has_a_label_and_families_have_one_name() -> None:
    for name, provider in PROVIDERS.items():
        labels = {model_label(name, model) for model in (*provider.models, *provider.families)}
        assert labels <= {*provider.models, *provider.families}
    assert model_label("hiapi", "Nano-Banana-2") == model_label("hiapi", "nano-banana-2")
    assert model_label("evolink", "nano-banana-2-lite") == "nano-banana-2-lite"


@for_each("strange", ["", "x" * 500, "a\tb", "evil{}\n", "kontext-2029"])
def test_what_is_not_known_is_other(strange: str) -> None:
    assert model_label("hiapi", strange) == "other"
    assert model_label(strange, "nano-banana-2") == "other"
    assert provider_label(strange) == "other"


@for_each(
    ("unit", "label"),
    [
        ("USD", "USD"),
        ("credits", "credits"),
        (None, "other"),
        ("a\tb", "other"),
        ("x" * 30, "other"),
    ],
)
def test_units(unit: str | None, label: str) -> None:
    assert unit_label(unit) == label


def test_results_of_calls_and_of_callbacks() -> None:
    statuses = {200: "ok", 202: "ok", 302: "client_error", 404: "client_error"}
    statuses |= {429: "rate_limited", 500: "server_error", 503: "server_error"}
    assert {status: call_result(Reply(status, {}, b"")) for status in statuses} == statuses
    assert call_result(NotSent("x")) == "not_sent"
    assert call_result(NoAnswer("x")) == "no_answer"
    assert (callback_status(409), callback_status(418)) == ("409", "other")


def test_names_follow_the_conventions() -> None:
    for name, definition in DEFINITIONS.items():
        assert name.startswith("orchestrator_")
        assert definition.meaning
        assert not definition.bounds or name.endswith("_seconds")
        assert list(definition.bounds) == sorted(set(definition.bounds))
        assert not {"job", "instance", "le", "tenant"} & set(definition.labels) or (
            name.startswith("orchestrator_tenant_")
        )
