"""`orchestrator enqueue --fallback`."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from tests.support.fakes import Harness, use_runtime

pytestmark = pytest.mark.usefixtures("harness")


def enqueue(*words: str) -> Result:
    request = ["--provider", "hiapi", "--model", "Nano-Banana-2", "--prompt", "A red cube"]
    return CliRunner().invoke(main, ["enqueue", *request, *words])


def test_each_option_is_one_fallback() -> None:
    words = ["--fallback", "evolink:nano-banana-2", "--fallback", "uniall:gpt-image-2"]

    done = enqueue(*words, "--json")

    assert json.loads(done.stdout)["request"]["fallback"] == [
        {"provider": "evolink", "model": "nano-banana-2"},
        {"provider": "uniall", "model": "gpt-image-2"},
    ]


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("evolink", "'evolink' is not PROVIDER:MODEL, such as hiapi:Nano-Banana-2"),
        ("evolnk:x", "did you mean evolink?"),
        ("hiapi:Nano-Banana-2", "fallback.0.provider must be a provider that the request names"),
        ("evolink:x", "fallback.0.model must be"),
    ],
)
def test_a_bad_fallback_is_one_clear_line(word: str, problem: str) -> None:
    done = enqueue("--fallback", word)

    assert done.exit_code != 0
    assert problem in done.output


def test_a_fallback_that_is_switched_off_is_refused(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = harness.runtime.settings
    enabled = {name: each for name, each in settings.providers.items() if name != "evolink"}
    without = replace(harness.runtime, settings=replace(settings, providers=enabled))
    use_runtime(monkeypatch, without)

    done = enqueue("--fallback", "evolink:nano-banana-2")

    assert "fallback.0.provider must be an enabled provider" in done.output
    assert "EVOLINK_API_KEY" in done.output
