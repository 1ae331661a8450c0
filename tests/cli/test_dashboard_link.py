"""The command that makes a link to a tenant's dashboard, and when it makes none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import structlog
from click.testing import CliRunner

from orchestrator.cli import main
from tests.support.fakes import Harness, unavailable_ledger, use_runtime


@pytest.mark.parametrize(
    ("span", "problem"),
    [("8d", "'8d' is too long; allowed: at most 7d"), ("169h", "'169h' is too long"), ("1w", "1w")],
)
def test_a_time_span_is_refused_as_it_was_written(span: str, problem: str) -> None:
    ended = CliRunner().invoke(main, ["dashboard-link", "--tenant", "shop", "--expires", span])
    assert ended.exit_code == 2
    assert problem in ended.output


def test_no_link_is_made_that_the_audit_trail_does_not_have(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_runtime(monkeypatch, replace(harness.runtime, ledger=unavailable_ledger()))

    with structlog.testing.capture_logs() as logs:
        ended = CliRunner().invoke(main, ["dashboard-link", "--tenant", "shop"])

    assert (ended.exit_code, ended.stdout, logs) == (1, "", [])
    assert ended.stderr.startswith("Error: Redis does not answer")
    assert ended.stderr.count("\n") == 1
