"""A provider's name is the join key: each has the same files under it, and nothing else has."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from orchestrator.providers import BUILT_IN, PROVIDERS, Provider, listing
from orchestrator.providers.registry import GROUP, discovered

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs/providers"
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

# Files ---------------------------------------------------------------------------------------


def test_these_four_are_built_in() -> None:
    assert list(BUILT_IN) == ["uniall", "hiapi", "evolink", "aigptimage"]
    assert PROVIDERS.items() >= BUILT_IN.items()


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("place", PLACES)
def test_a_provider_has_its_file_in_every_place(name: str, place: str) -> None:
    assert (ROOT / place.format(name)).exists()


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_provider_is_listed_under_its_own_name(name: str) -> None:
    assert BUILT_IN[name].name == name


def test_only_uniall_has_no_address_of_its_own_since_its_documents_name_none() -> None:
    urls = {name: provider.base_url for name, provider in BUILT_IN.items()}

    assert urls.pop("uniall") is None
    assert all(url and url.startswith("https://") for url in urls.values())


# Pages ---------------------------------------------------------------------------------------


def test_every_page_is_about_a_provider() -> None:
    assert {page.stem for page in DOCS.glob("*.md")} == {*BUILT_IN, "README"}


def test_the_overview_is_what_the_adapters_make_it() -> None:
    made = listing.markdown(BUILT_IN.values())

    assert (DOCS / "README.md").read_text("utf-8") == made


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_page_has_every_section_and_names_every_model_and_option(name: str) -> None:
    provider, page = BUILT_IN[name], (DOCS / f"{name}.md").read_text("utf-8")

    headings = [line[3:] for line in page.splitlines() if line.startswith("## ")]

    assert headings == list(HEADINGS)
    for model, row in provider.models.items():
        assert f"`{model}`" in page
        for option, path in row.options.items():
            assert f"`{option}`" in page
            assert f"`{'.'.join(path)}`" in page


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_page_names_every_family_of_its_provider(name: str) -> None:
    page = (DOCS / f"{name}.md").read_text("utf-8")

    assert [family for family in BUILT_IN[name].families if f"`{family}`" not in page] == []


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_page_names_every_setting_of_its_provider_and_no_other(name: str) -> None:
    page, can = (DOCS / f"{name}.md").read_text("utf-8"), BUILT_IN[name].capabilities
    settings = {
        "API_KEY": True,
        "BASE_URL": True,
        "POLL_SECONDS": True,
        "MAX_POLL_SECONDS": True,
        "PRICES": True,
        "CONFIRM_CALLBACKS": can.callbacks,
        "WEBHOOK_SECRET": can.signed_callbacks,
        "WEBHOOK_SECRETS_OLD": can.signed_callbacks,
    }

    for ending, there in settings.items():
        assert (f"`{name.upper()}_{ending}`" in page) is there, ending


# Plug-ins ------------------------------------------------------------------------------------

GOOD = """
from orchestrator.providers.hiapi import HiAPI

class Mill(HiAPI):
    name = {name!r}
    title = "Mill"
"""
Plug = Callable[[str, str], EntryPoint]


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plug:
    """Makes an entry point to the name `Mill` in a module with this source."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(module: str, source: str) -> EntryPoint:
        (tmp_path / f"{module}.py").write_text(source, "utf-8")
        return EntryPoint(module, f"{module}:Mill", GROUP)

    return make


def test_another_packages_provider_is_found(plug: Plug) -> None:
    found, broken = discovered([plug("plug_good", GOOD.format(name="mill"))])

    assert isinstance(found["mill"], Provider)
    assert (list(found), found["mill"].title, broken) == (["mill"], "Mill", {})


@pytest.mark.parametrize(
    ("module", "source", "why"),
    [
        ("plug_import", "import no_such_module", "ModuleNotFoundError: No module named"),
        ("plug_raises", "raise RuntimeError('boom')", "RuntimeError: boom"),
        ("plug_syntax", "class", "SyntaxError: "),
        ("plug_empty", "", "AttributeError: "),
        ("plug_object", "Mill = object()", "TypeError: plug_object:Mill is not a subclass of "),
        ("plug_class", "class Mill: pass", "TypeError: plug_class:Mill is not a subclass of "),
        ("plug_upper", GOOD.format(name="Mill"), "ValueError: its name 'Mill' must match"),
        ("plug_dash", GOOD.format(name="a-b"), "ValueError: its name 'a-b' must match"),
        ("plug_digit", GOOD.format(name="1a"), "ValueError: its name '1a' must match"),
        ("plug_line", GOOD.format(name="a\n"), "ValueError: its name 'a\\n' must match"),
        ("plug_long", GOOD.format(name="a" * 31), "ValueError: its name "),
        ("plug_number", GOOD.format(name=7), "TypeError: "),
        (
            "plug_taken",
            GOOD.format(name="evolink"),
            "ValueError: there is already a provider 'evolink'",
        ),
        (
            "plug_abstract",
            "from orchestrator.providers import Provider\nclass Mill(Provider):\n"
            "    name, title, base_url, models = 'mill', 'Mill', None, {}",
            "TypeError: Can't instantiate abstract class",
        ),
    ],
)
def test_one_that_cannot_be_used_is_told_with_the_reason_and_harms_no_other(
    plug: Plug, module: str, source: str, why: str
) -> None:
    good = plug("plug_fine", GOOD.format(name="mill"))

    found, broken = discovered([plug(module, source), good])

    assert (list(found), list(broken)) == (["mill"], [module])
    assert broken[module].startswith(why)


def test_of_two_with_the_same_name_the_first_is_taken(plug: Plug) -> None:
    source = GOOD.format(name="mill")

    found, broken = discovered([plug("plug_one", source), plug("plug_two", source)])

    assert type(found["mill"]).__module__ == "plug_one"
    assert broken == {"plug_two": "ValueError: there is already a provider 'mill'"}


def test_the_longest_name_is_taken(plug: Plug) -> None:
    assert discovered([plug("plug_name", GOOD.format(name="a" * 30))])[1] == {}
