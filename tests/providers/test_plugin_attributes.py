"""What a plug-in must set, and the defaults of everything else."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from orchestrator.jobs.request import JobRequest
from orchestrator.providers import listing
from orchestrator.providers.api import Capabilities
from orchestrator.providers.registry import GROUP, discovered

#: The smallest adapter. It sets neither `capabilities` nor `families`.
SMALLEST = """
from orchestrator.providers.api import *

class Body(StrictSchema):
    model = text(required=True)
    prompt = text(required=True)

class Mill(Provider):
    name, title, base_url = "mill", "Mill", "https://mill.example"
    models = {"mill-1": Model(Body(), {"prompt": ("prompt",)})}

    def submit_call(self, body, callback_url, key):
        return Call("POST", "/jobs", {}, body)

    def query_call(self, task_id):
        return Call("GET", f"/jobs/{task_id}")

    def read_accepted(self, document):
        return Accepted(task_id(document.get("id")))

    def read_error(self, status, document):
        return None

    def read_task(self, document, now):
        raise Unreadable("no task")
"""
Load = Callable[[str], EntryPoint]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return an entry point to the class `Mill` of a module with this source."""
    monkeypatch.syspath_prepend(tmp_path)
    count = 0

    def make(source: str) -> EntryPoint:
        nonlocal count
        count += 1
        module = f"attributes_{tmp_path.name}_{count}".replace("-", "_")
        (tmp_path / f"{module}.py").write_text(source, "utf-8")
        return EntryPoint(module, f"{module}:Mill", GROUP)

    return make


def test_a_plug_in_needs_no_capabilities(load: Load) -> None:
    providers, broken = discovered([load(SMALLEST)])

    assert broken == {}
    mill = providers["mill"]
    assert mill.capabilities == Capabilities()
    mill.check(JobRequest("mill", "mill-1", options={"prompt": "x"}))
    assert listing.view(mill, on=True)["families"] == []
    assert "| callbacks | no |" in listing.markdown([mill])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"Mill", ', "None, ", "title must be a str; got NoneType"),
        ('"https://mill.example"', "7", "base_url must be a str or None; got int"),
        ("models = {", "models, unused = [], {", "models must be a Mapping; got list"),
        ('Model(Body(), {"prompt": ("prompt",)})', "7", "models['mill-1'] must be a Model"),
        ("    def submit", "    capabilities = None\n\n    def submit", "capabilities must be a"),
        ("    def submit", '    results = "output"\n\n    def submit', "results must be a tuple"),
        ("    def submit", "    states = ()\n\n    def submit", "states must be a Mapping"),
    ],
)
def test_an_attribute_of_another_type_is_refused_by_name(
    load: Load, old: str, new: str, reason: str
) -> None:
    assert old in SMALLEST
    point = load(SMALLEST.replace(old, new, 1))

    providers, broken = discovered([point, load(SMALLEST)])

    assert list(providers) == ["mill"]
    assert reason in broken[point.name]
    assert len(broken[point.name].splitlines()) == 1
