"""docs/operations against the files that its pages speak of."""

from __future__ import annotations

import math
import re

import pytest

from orchestrator.api import MAX_BODY_BYTES
from orchestrator.api.incoming import MAX_WAIT_SECONDS, base64_size
from orchestrator.cli.processes import PROCESSES
from orchestrator.cli.stack import ROOT
from orchestrator.providers import BUILT_IN
from orchestrator.settings.settings import MIB, Settings
from tests.deployment.kit import example, seconds, services, text, unescaped
from tests.deployment.monitoring import alerts
from tests.docs.pages import DocPage, numbers
from webhooks.receiver import MAX_LONG_BYTES

PAGE = text("docs/operations/deploy.md")
PAGES = [text(f"docs/operations/{path.name}") for path in (ROOT / "docs/operations").glob("*.md")]


def test_every_variable_it_names_can_be_set() -> None:
    ours = "|".join(["ORCHESTRATOR", *map(str.upper, BUILT_IN)])
    named = {name for page in PAGES for name in re.findall(rf"\b(?:{ours})_[A-Z_]+\b", page)}
    known = set(example(with_defaults=True))
    assert {name.removesuffix("_FILE") for name in named} - known == set()


def test_it_speaks_of_every_process() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)` \|", PAGE)
    assert [name for name in PROCESSES if rows.count(name) < 2] == []


def test_the_redis_settings_are_those_of_the_compose_file() -> None:
    rows = re.findall(r"(?m)^\| `([a-z-]+ \w+)` \|", PAGE)
    started = " ".join(unescaped(services()["redis"]["command"]))
    assert len(rows) == 3
    assert [row for row in rows if f"--{row}" not in started] == []


def test_the_time_to_stop_is_that_of_the_compose_file() -> None:
    given = {seconds(services()[name]["stop_grace_period"]) for name in PROCESSES}
    said = re.findall(r"Allow (\d+) s before SIGKILL", PAGE)
    units = text("deploy/systemd/orchestrator-.service.d/common.conf")
    said += re.findall(r"TimeoutStopSec=(\d+)", units)
    assert len(said) == 2
    assert set(map(int, said)) == given


def test_the_proxy_lets_the_largest_request_through() -> None:
    upload = Settings.from_env().max_upload_bytes
    largest = base64_size(upload) + MAX_BODY_BYTES
    [given, callbacks] = re.findall(r"client_max_body_size (\d+)m;", PAGE)
    assert int(given) * MIB >= largest
    assert int(callbacks) * MIB >= MAX_LONG_BYTES
    assert f"{upload // MIB} MiB" in PAGE


def test_each_proxy_waits_for_the_longest_answer() -> None:
    ingress = text("deploy/kubernetes/overlays/example/ingress.yaml")
    caddy = text("deploy/caddy/Caddyfile")
    waits = [
        *re.findall(r"proxy_read_timeout (\d+)s;", PAGE),
        *re.findall(r'proxy-read-timeout: "(\d+)"', ingress),
        *re.findall(r"response_header_timeout (\d+)s", caddy),
        *re.findall(r"write (\d+)s", caddy),
    ]
    longest = max(Settings.from_env().answer_wait_seconds, MAX_WAIT_SECONDS)
    assert len(waits) == 4
    assert [wait for wait in waits if int(wait) <= longest] == []


def test_every_alert_has_a_section() -> None:
    sections = DocPage("docs/operations/alerts.md").text.split("\n## ")[1:]
    assert [section.split("\n")[0] for section in sections] == list(alerts())
    for section, rule in zip(sections, alerts().values(), strict=True):
        link = rule["annotations"]["runbook_url"].removeprefix("docs/")
        assert f"(../{link})" in section
        assert f"`{rule['labels']['severity']}`" in section
        assert "**Means.**" in section
        assert "**Do.**" in section


def test_the_capacities_follow_from_the_costs() -> None:
    page = DocPage("docs/scaling.md")
    costs = [[numbers(cell)[0] / 1000 for cell in row[1:3]] for row in page.rows("part")]
    for row in page.rows("jobs/s"):
        rate, *values = [numbers(cell)[0] for cell in row]
        if len(values) == 7:
            cost = [several if rate > 500 else one for one, several in costs]
            used = [rate * each / 0.6 for each in cost]
            assert values[1:3] == [math.ceil(round(cores, 6)) for cores in used[1:3]]
            shown = [values[0], *values[3:5], values[6]]
            needed = [used[0], *used[3:5], used[5] * 3]
            assert shown == pytest.approx(needed, rel=0.1, abs=0.1)
            assert values[5] >= math.ceil(round(used[4], 6))
        else:
            stored = [rate * seconds * 1.8e-6 for seconds in (604_800, 86_400, 3600)]
            assert values == pytest.approx([*stored, rate * 0.445, rate * 0.216], rel=0.1, abs=0.05)
