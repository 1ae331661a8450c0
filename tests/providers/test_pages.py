"""The pages of docs/providers: one per provider, with every section, setting and limit."""

from __future__ import annotations

import re

import pytest

from orchestrator.providers import BUILT_IN, listing
from orchestrator.providers.catalog import limits
from orchestrator.providers.errors import by_status
from tests.providers.pages import DOCS, errors_by_code, errors_by_status, page

HEADINGS = [
    "Settings",
    "Models and options",
    "Callbacks",
    "Idempotency",
    "Errors",
    "Limits and quirks",
]

pytestmark = pytest.mark.parametrize("name", BUILT_IN)


def test_a_page_has_every_section(name: str) -> None:
    assert [line[3:] for line in page(name).splitlines() if line.startswith("## ")] == HEADINGS


def test_a_page_names_every_model_option_and_family(name: str) -> None:
    provider = BUILT_IN[name]
    expected = {*provider.models, *provider.families}
    for model in provider.models.values():
        expected |= {*model.options, *(".".join(path) for path in model.options.values())}

    assert [word for word in expected if f"`{word}`" not in page(name)] == []


def test_a_page_names_every_setting_of_its_provider_and_no_other(name: str) -> None:
    can = BUILT_IN[name].capabilities
    settings = {
        "API_KEY": True,
        "BASE_URL": True,
        "POLL_SECONDS": True,
        "MAX_POLL_SECONDS": True,
        "THREADS": True,
        "PRICES": True,
        "CONFIRM_CALLBACKS": can.callbacks,
        "WEBHOOK_SECRET": can.signed_callbacks,
        "WEBHOOK_SECRETS_OLD": can.signed_callbacks,
        "JWKS_URL": bool(can.jwks_url),
    }

    for ending, exists in settings.items():
        assert (f"`{name.upper()}_{ending}`" in page(name)) is exists, ending


def test_a_page_has_the_default_times_and_the_address(name: str) -> None:
    provider, text = BUILT_IN[name], page(name)

    [times] = re.findall(rf"`{name.upper()}_MAX_POLL_SECONDS` \| .*default (\d+ and \d+) ", text)
    assert times == f"{provider.poll_seconds:g} and {provider.max_poll_seconds:g}"
    assert provider.base_url is None or f"default `{provider.base_url}`" in text


def test_a_page_has_every_list_of_values_and_every_maximum(name: str) -> None:
    for model in BUILT_IN[name].models.values():
        for option in set(model.options) - set(model.values):
            known = limits(model, option)
            assert ", ".join(known.get("one_of", [])) in page(name)
            for bound in ("max", "max_length"):
                assert str(known.get(bound, "")) in page(name)


def test_a_page_has_the_error_code_of_each_status(name: str) -> None:
    by_page = errors_by_status(name)

    assert by_page or errors_by_code(name)
    assert by_page == {status: by_status(status) for status in by_page}


def test_the_overview_is_made_from_the_adapters(name: str) -> None:
    assert (DOCS / "README.md").read_text("utf-8") == listing.markdown(BUILT_IN.values())
    assert f"({name}.md)" in listing.markdown(BUILT_IN.values())
