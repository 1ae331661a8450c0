"""docs/deployment.md against the files that it speaks of."""

from __future__ import annotations

import re

from orchestrator.api import MAX_BODY_BYTES
from orchestrator.cli.processes import PROCESSES
from orchestrator.cli.stack import ROOT
from orchestrator.messages import ARCHIVE_QUEUE
from orchestrator.providers import BUILT_IN
from orchestrator.settings.settings import MIB, Settings
from tests.deployment.kit import example, seconds, services, text, unescaped

PAGE = text("docs/deployment.md")


def test_every_variable_it_names_can_be_set() -> None:
    ours = "|".join(["ORCHESTRATOR", *map(str.upper, BUILT_IN)])
    named = set(re.findall(rf"\b(?:{ours})_[A-Z_]+\b", PAGE))
    known = set(example(with_defaults=True))
    assert {name.removesuffix("_FILE") for name in named} - known == set()


def test_every_file_it_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_it_speaks_of_every_process() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)` \|", PAGE)
    assert [rows.count(name) for name in PROCESSES] == [2] * len(PROCESSES)


def test_the_redis_settings_are_those_of_the_compose_file() -> None:
    rows = re.findall(r"(?m)^\| `([a-z-]+ \w+)` \|", PAGE)
    started = " ".join(unescaped(services()["redis"]["command"]))
    assert len(rows) == 3
    assert [row for row in rows if f"--{row}" not in started] == []


def test_the_time_to_stop_is_that_of_the_compose_file() -> None:
    given = {seconds(services()[name]["stop_grace_period"]) for name in PROCESSES}
    said = re.findall(r"Allow (\d+) s before SIGKILL|TimeoutStopSec=(\d+)", PAGE)
    assert {int(one or other) for one, other in said} == given


def test_the_proxy_lets_the_largest_request_through() -> None:
    largest = Settings.from_env().max_upload_bytes + MAX_BODY_BYTES
    [given] = re.findall(r"client_max_body_size (\d+)m;", PAGE)
    assert int(given) * MIB >= largest
    assert f"{(largest - MAX_BODY_BYTES) // MIB} MiB" in PAGE


def test_the_systemd_units_run_the_commands_of_the_processes() -> None:
    unit, archiver = re.findall(r"(?m)^ExecStart=(.+)$", PAGE)
    assert unit == "/opt/orchestrator/.venv/bin/orchestrator %i"
    assert archiver == f"/opt/orchestrator/.venv/bin/orchestrator worker --queues {ARCHIVE_QUEUE}"
