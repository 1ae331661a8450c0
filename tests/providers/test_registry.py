"""The name of a provider connects its files, and few other files contain it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from orchestrator.providers import BUILT_IN, PROVIDERS, Provider
from orchestrator.providers.registry import GROUP, discovered
from tests.support.cases import for_each

ROOT = Path(__file__).resolve().parents[2]
#: Files besides a provider's own that may contain the name of every provider.
MAX_FILES_WITH_EVERY_NAME = 5
#: Files of every provider.
PLACES = (
    "orchestrator/providers/{}.py",
    "sandbox/{}.py",
    "tests/providers/test_{}.py",
    "tests/providers/payloads/{}",
    "docs/providers/{}.md",
)

# Files ---------------------------------------------------------------------------------------


def test_a_provider_has_its_file_in_every_place() -> None:
    for name in BUILT_IN:
        for place in PLACES:
            assert (ROOT / place.format(name)).exists()


def test_every_page_and_every_payload_folder_belongs_to_a_provider() -> None:
    assert {page.stem for page in (ROOT / "docs/providers").glob("*.md")} == {*BUILT_IN, "README"}
    folders = (ROOT / "tests/providers/payloads").iterdir()
    assert {folder.name for folder in folders if folder.is_dir()} == set(BUILT_IN)


@for_each("name", BUILT_IN)
def test_a_provider_is_listed_under_its_own_name(name: str) -> None:
    assert BUILT_IN[name].name == name
    assert PROVIDERS[name] is BUILT_IN[name]


@for_each("name", BUILT_IN)
def test_an_address_is_https(name: str) -> None:
    url = BUILT_IN[name].base_url

    assert url is None or url.startswith("https://")


# Names ---------------------------------------------------------------------------------------


def naming(word: str) -> set[str]:
    """Return the tracked files that contain a provider's name, without the provider's own files."""
    command = ["git", "grep", "-il", word]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    own = re.compile(rf"(.*/)?(test_)?{word}\.(py|md)|.*/payloads/.*|docs/images/.*|CHANGELOG\.md")
    registry = "orchestrator/providers/registry.py"
    return {file for file in listed.splitlines() if not own.fullmatch(file)} - {registry}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git checkout")
def test_few_files_name_every_provider() -> None:
    """A new provider needs its own files, its line in the registry, and these."""
    files = set.intersection(*map(naming, BUILT_IN))

    assert len(files) <= MAX_FILES_WITH_EVERY_NAME, sorted(files)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git checkout")
def test_few_files_name_the_provider_that_no_page_uses_as_an_example() -> None:
    fewest = min((naming(name) for name in BUILT_IN), key=len)

    assert len(fewest) <= MAX_FILES_WITH_EVERY_NAME, sorted(fewest)


# Plug-ins ------------------------------------------------------------------------------------

GOOD = """
from orchestrator.providers.hiapi import HiAPI

class MillPlugin(HiAPI):
    name = {name!r}
    title = "Mill"
"""
Plug = Callable[[str, str], EntryPoint]


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plug:
    """Makes an entry point to the name `MillPlugin` in a module with this source."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(module: str, source: str) -> EntryPoint:
        (tmp_path / f"{module}.py").write_text(source, "utf-8")
        return EntryPoint(module, f"{module}:MillPlugin", GROUP)

    return make


def test_another_packages_provider_is_found(plug: Plug) -> None:
    found, broken = discovered([plug("plug_good", GOOD.format(name="mill"))])

    assert isinstance(found["mill"], Provider)
    assert (list(found), found["mill"].title, broken) == (["mill"], "Mill", {})


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("plug_import", "import no_such_module", "ModuleNotFoundError: No module named"),
        (
            "plug_raises",
            "raise RuntimeError('boom')",
            "RuntimeError: boom (plug_raises.py, line 1)",
        ),
        ("plug_syntax", "class", "SyntaxError: "),
        ("plug_empty", "", "AttributeError: "),
        (
            "plug_object",
            "MillPlugin = object()",
            "TypeError: plug_object:MillPlugin is not a subclass of ",
        ),
        (
            "plug_class",
            "class MillPlugin: pass",
            "TypeError: plug_class:MillPlugin is not a subclass of ",
        ),
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
            "from orchestrator.providers import Provider\nclass MillPlugin(Provider):\n"
            "    name, title, base_url, models = 'mill', 'Mill', None, {}",
            "TypeError: Can't instantiate abstract class",
        ),
    ],
)
def test_a_broken_plug_in_has_a_reason_and_does_not_stop_the_others(
    plug: Plug, module: str, source: str, reason: str
) -> None:
    good = plug("plug_fine", GOOD.format(name="mill"))

    found, broken = discovered([plug(module, source), good])

    assert (list(found), list(broken)) == (["mill"], [module])
    assert broken[module].startswith(reason)


def test_of_two_plug_ins_with_one_name_the_first_is_used(plug: Plug) -> None:
    source = GOOD.format(name="mill")

    found, broken = discovered([plug("plug_one", source), plug("plug_two", source)])

    assert type(found["mill"]).__module__ == "plug_one"
    assert broken == {"plug_two": "ValueError: there is already a provider 'mill'"}


def test_the_longest_name_is_accepted(plug: Plug) -> None:
    assert discovered([plug("plug_name", GOOD.format(name="a" * 30))])[1] == {}
