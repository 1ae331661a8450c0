"""The command that makes a link to a tenant's dashboard refuses a link that lives too long."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from orchestrator.cli.dashboard_link import dashboard_link


@pytest.mark.parametrize(
    ("span", "problem"),
    [("8d", "'8d' is too long; allowed: at most 7d"), ("169h", "'169h' is too long"), ("1w", "1w")],
)
def test_a_time_span_is_refused_as_it_was_written(span: str, problem: str) -> None:
    ended = CliRunner().invoke(dashboard_link, ["--tenant", "shop", "--expires", span])
    assert ended.exit_code == 2
    assert problem in ended.output
