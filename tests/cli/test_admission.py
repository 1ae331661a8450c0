"""`orchestrator pause`, `resume` and `providers`: submissions stop, go on, and are shown."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.jobs.model import ErrorCode, JobError, Step
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger.admission import CircuitState
from orchestrator.operations.check_redis import circuits
from orchestrator.providers import PROVIDERS
from orchestrator.settings.settings import Settings
from tests.cli.test_access import json_of, run
from tests.ledger.kit import SUCCESS
from tests.support.fakes import Harness, unavailable_ledger, use_runtime

DENIED = JobError(ErrorCode.AUTHENTICATION, "no such key \x1b[2J")


@pytest.fixture
def cli(start: Callable[..., Harness]) -> Harness:
    """The commands on a harness with limits of one provider."""
    return start(HIAPI_MAX_IN_FLIGHT="7", HIAPI_REQUESTS_PER_SECOND="0.5")


def circuit(cli: Harness) -> CircuitState:
    return cli.ledger.admission.states(["hiapi"], now=cli.clock.now)["hiapi"].circuit


def denied(cli: Harness) -> None:
    """EvoLink refuses our key for a minute."""
    now = cli.clock.now
    cli.ledger.admission.hold("evolink", Step.SUBMIT, DENIED, now=now, ends_at=now + 60_000)


def test_a_provider_is_paused_and_resumed(cli: Harness) -> None:
    paused = json_of("pause", "hiapi", "--reason", "they asked us")

    assert circuit(cli) is CircuitState.PAUSED
    assert (paused["name"], paused["circuit"]) == ("hiapi", "paused")
    assert paused["reason"] == {"code": "paused", "message": "they asked us"}
    assert paused["paused_by"].startswith("cli:")
    resumed = json_of("resume", "hiapi")
    assert (resumed["circuit"], resumed["reason"], resumed["paused_by"]) == ("closed", None, None)
    assert circuit(cli) is CircuitState.CLOSED
    entries = json_of("audit")["entries"]
    assert [(entry["action"], entry["target"]) for entry in entries] == [
        ("provider_resume", "hiapi"),
        ("provider_pause", "hiapi"),
    ]
    assert (entries[1]["actor"], entries[1]["reason"]) == (paused["paused_by"], "they asked us")


def test_each_command_says_what_happened_and_what_comes_next(cli: Harness) -> None:
    paused, resumed = run("pause", "hiapi"), run("resume", "hiapi")

    assert paused.output == "hiapi is paused. Continue with: orchestrator resume hiapi\n"
    assert resumed.output == "hiapi gets submissions again.\n"


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_an_unknown_provider_is_refused_with_the_known_ones(cli: Harness, command: str) -> None:
    result = run(command, "hiap")

    assert result.exit_code == 2
    assert result.output == (
        f'Error: provider must be one of {", ".join(PROVIDERS)}; got "hiap"; did you mean hiapi?\n'
    )
    assert cli.ledger.audit.entries(10) == []


def test_a_reason_that_is_no_text_is_refused(cli: Harness) -> None:
    result = run("pause", "hiapi", "--reason", "\udcff")

    assert (result.exit_code, "reason must be a text" in result.output) == (2, True)
    assert circuit(cli) is CircuitState.CLOSED


def test_while_redis_is_away_nothing_is_paused(
    cli: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_runtime(monkeypatch, cli.on(unavailable_ledger()).runtime)

    result = run("pause", "hiapi")

    assert (result.exit_code, "Redis does not answer" in result.output) == (1, True)
    assert circuit(cli) is CircuitState.CLOSED


def test_the_help_says_what_a_pause_does(cli: Harness) -> None:
    for command in ("pause", "resume"):
        text = run(command, "--help").output
        assert f"orchestrator {command} hiapi" in text


def test_providers_shows_limits_and_states(cli: Harness) -> None:
    denied(cli)
    run("pause", "hiapi", "--reason", "\x1b[31m[bold]maintenance")

    table = run("providers").output
    views = {view["name"]: view for view in json_of("providers")["providers"]}

    assert views["hiapi"]["limits"] == {
        "max_in_flight": 7,
        "requests_per_second": 0.5,
        "burst": 1,
    }
    assert (views["hiapi"]["circuit"], views["evolink"]["circuit"]) == ("paused", "open")
    assert (views["uniall"]["circuit"], views["uniall"]["in_flight"]) == ("closed", 0)
    assert views["evolink"]["reason"]["code"] == "authentication"
    assert "paused: \\x1b[31m[bold]maintenance" in table
    assert "authentication: no such key \\x1b[2J" in table
    assert "\x1b" not in table
    assert json_of("providers", "hiapi")["circuit"] == "paused"
    assert "maintenance" in run("providers", "hiapi").output


def test_providers_shows_what_it_can_while_redis_is_away(
    cli: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_runtime(monkeypatch, cli.on(unavailable_ledger()).runtime)

    result = run("providers")

    assert result.exit_code == 0
    assert "unknown" in result.stdout
    assert "The state of providers is not known: Redis does not answer" in result.stderr


def test_providers_shows_how_long_the_tasks_of_each_model_took(cli: Harness) -> None:
    now, request = cli.clock(), JobRequest("hiapi", "\x1b[31m[bold]odd")
    job_id = cli.ledger.create(request, now=now, deadline_at=now + 60_000).job_id
    cli.ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=1)
    cli.ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=now + 12_340)

    table = run("providers", "hiapi").output
    [every, model] = json_of("providers", "hiapi")["durations"]

    assert (every["model"], model["results"], model["p50_seconds"]) == (None, 1, 12.3)
    assert "all models" in table
    assert "12.3 s" in table
    assert "[bold]odd" in table
    assert "\x1b" not in table


def test_stats_shows_the_providers(cli: Harness) -> None:
    run("pause", "hiapi")

    assert json_of("stats")["providers"]["hiapi"] == {
        "circuit": "paused",
        "in_flight": 0,
        "found_limit": None,
    }
    assert "provider hiapi: circuit paused, 0 in flight\n" in run("stats").output


def test_the_doctor_warns_of_each_provider_without_submissions(
    cli: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.ledger.installation, "time", lambda: cli.clock.now)
    denied(cli)
    cli.ledger.admission.pause("hiapi", by="cli:ops", now=cli.clock.now, reason="maintenance")
    settings: Settings = cli.runtime.settings

    paused, opened = circuits(cli.ledger, settings)

    assert (paused.mark, paused.found) == ("warning", "hiapi is paused by cli:ops: maintenance")
    assert paused.fix == "orchestrator resume hiapi"
    assert opened.mark == "warning"
    assert opened.found.startswith("the circuit breaker of evolink is open until 2026-")
    assert "authentication, no such key" in opened.found
    assert "orchestrator resume evolink" in opened.fix
