"""A provider's name is the join key: each has the same files under it, and nothing else has."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.providers import PROVIDERS

ROOT = Path(__file__).resolve().parents[2]
PLACES = (
    "orchestrator/providers/{}.py",
    "sandbox/{}.py",
    "tests/providers/test_{}.py",
    "tests/providers/payloads/{}",
    "docs/providers/{}.md",
)
HEADINGS = (
    "Settings",
    "Models and options",
    "Callbacks",
    "Idempotency",
    "Errors",
    "Limits and quirks",
)


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("place", PLACES)
def test_a_provider_has_its_file_in_every_place(name: str, place: str) -> None:
    assert (ROOT / place.format(name)).exists()


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_is_listed_under_its_own_name(name: str) -> None:
    assert PROVIDERS[name].name == name
    assert PROVIDERS[name].base_url.startswith("https://")


def test_every_page_is_about_a_provider() -> None:
    assert {page.stem for page in (ROOT / "docs/providers").glob("*.md")} == set(PROVIDERS)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_page_has_every_section_and_names_every_model_and_option(name: str) -> None:
    provider, page = PROVIDERS[name], (ROOT / f"docs/providers/{name}.md").read_text("utf-8")

    headings = [line[3:] for line in page.splitlines() if line.startswith("## ")]

    assert headings == list(HEADINGS)
    for model, row in provider.models.items():
        assert f"`{model}`" in page
        for option, path in row.options.items():
            assert f"`{option}`" in page
            assert f"`{'.'.join(path)}`" in page


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_page_names_every_setting_of_its_provider(name: str) -> None:
    page = (ROOT / f"docs/providers/{name}.md").read_text("utf-8")
    endings = ["API_KEY", "BASE_URL", "POLL_SECONDS", "MAX_POLL_SECONDS", "CONFIRM_CALLBACKS"]
    if PROVIDERS[name].capabilities.signed_callbacks:
        endings += ["WEBHOOK_SECRET", "WEBHOOK_SECRETS_OLD"]

    for ending in endings:
        assert f"`{name.upper()}_{ending}`" in page
