"""The limit of tasks in flight that a provider does not tell."""

from typing import Any

import pytest
from click.testing import CliRunner

from sandbox import __main__ as command
from tests.sandbox.conftest import Start
from tests.sandbox.kit import EVERY_PROVIDER, SandboxClient, run_together, wait_until
from tests.support.cases import for_each
from tests.support.providers import POLLED_WITH_KEYS


def load(client: SandboxClient, provider: str = "hiapi") -> dict[str, Any]:
    found: dict[str, Any] = client.get("/control/limits").json()[provider]
    return found


@pytest.mark.parametrize("provider", EVERY_PROVIDER)
def test_a_task_above_the_limit_is_refused_in_the_providers_words(
    start: Start, provider: str
) -> None:
    client = start(max_in_flight={provider: 2}, task_seconds=3600)
    for number in range(2):
        client.submitted(provider, f"Cube {number}")

    answer = client.submit(provider)

    limited = 409 if provider == POLLED_WITH_KEYS else 429
    # This provider sends its code with HTTP status 200.
    assert answer.status_code == (200 if limited == 409 else 429)
    words = (str(limited), "rate_limited", "throttled")
    assert any(word in answer.text for word in words)
    assert "Retry-After" not in answer.headers, "it tells no time"
    assert client.charged(provider) == 2
    assert load(client, provider) == {
        "max_in_flight": 2,
        "in_flight": 2,
        "most_in_flight": 2,
        "accepted": 2,
        "refused": 1,
    }


def test_without_a_limit_tasks_are_only_counted(start: Start) -> None:
    client = start()
    for number in range(3):
        client.run("hiapi", f"Cube {number}")

    found = wait_until(lambda: (found := load(client))["in_flight"] == 0 and found)

    assert (found["max_in_flight"], found["most_in_flight"]) == (None, 1)
    assert (found["accepted"], found["refused"]) == (3, 0)
    assert load(client, POLLED_WITH_KEYS)["max_in_flight"] == 100, "its documented limit"


def test_submissions_at_once_never_exceed_the_limit(start: Start) -> None:
    client = start(max_in_flight={"hiapi": 5}, task_seconds=3600)
    statuses: list[int] = []
    run_together(16, lambda _: statuses.append(client.submit("hiapi").status_code))

    assert sorted(statuses) == [200] * 5 + [429] * 11
    assert load(client)["most_in_flight"] == 5
    assert load(client)["refused"] == 11


def test_the_limit_changes_while_the_sandbox_runs(start: Start) -> None:
    client = start(task_seconds=3600)
    client.submitted("hiapi")

    changed = client.put("/control/limits/hiapi", json={"max_in_flight": 1})

    assert (changed.status_code, changed.json()["max_in_flight"]) == (200, 1)
    assert client.submit("hiapi").status_code == 429
    client.put("/control/limits/hiapi", json={"max_in_flight": None})
    client.submitted("hiapi", "Another cube")
    assert load(client)["most_in_flight"] == 2


def test_a_resend_is_not_refused_and_not_counted(start: Start) -> None:
    client = start(max_in_flight={"hiapi": 1}, task_seconds=3600)
    headers = {"Idempotency-Key": "a"}
    task = client.submitted("hiapi", headers=headers)

    assert client.submitted("hiapi", headers=headers) == task
    assert (load(client)["accepted"], load(client)["refused"]) == (1, 0)


def test_forgotten_tasks_are_not_counted(start: Start) -> None:
    client = start(max_in_flight={"hiapi": 1}, task_seconds=3600)
    client.submitted("hiapi")
    client.submit("hiapi")

    client.delete("/control/tasks")

    counts = {"in_flight": 0, "most_in_flight": 0, "accepted": 0, "refused": 0}
    assert load(client) == {"max_in_flight": 1, **counts}


@pytest.mark.parametrize(
    ("provider", "body", "field"),
    [
        ("nobody", {"max_in_flight": 1}, "provider"),
        ("hiapi", [], "limit"),
        ("hiapi", {}, "max_in_flight"),
        ("hiapi", {"max": 1}, "max"),
        ("hiapi", {"max_in_flight": 0}, "max_in_flight"),
        ("hiapi", {"max_in_flight": True}, "max_in_flight"),
        ("hiapi", {"max_in_flight": 1.0}, "max_in_flight"),
        ("hiapi", {"max_in_flight": 100_001}, "max_in_flight"),
    ],
)
def test_a_wrong_limit_is_refused(
    client: SandboxClient, provider: str, body: Any, field: str
) -> None:
    answer = client.put(f"/control/limits/{provider}", json=body)

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
    assert load(client)["max_in_flight"] is None


@for_each("value", ["hiapi", "hiapi=0", "hiapi=x", "nobody=1", "hiapi=1 000", "=1"])
def test_the_option_refuses_a_wrong_limit_in_one_line(value: str) -> None:
    result = CliRunner().invoke(command.main, ["--max-in-flight", value])

    assert result.exit_code == 2
    assert "must be PROVIDER=N" in result.output
    assert "hiapi, evolink" in " ".join(result.output.split())


def test_the_option_and_the_environment_set_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    class Started(Exception):
        """The sandbox would start now."""

    def begin(settings: Any) -> None:
        seen.append(settings.max_in_flight)
        raise Started

    monkeypatch.setattr(command, "Sandbox", begin)
    monkeypatch.setattr(command, "_configure_logs", lambda _: None)
    monkeypatch.setattr("signal.pthread_sigmask", lambda *_: None)

    limits = ["--max-in-flight", "hiapi=10", "--max-in-flight", "evolink=3"]
    CliRunner().invoke(command.main, limits)
    CliRunner().invoke(command.main, [], env={"SANDBOX_MAX_IN_FLIGHT": "hiapi=10 evolink=3"})

    assert seen == [{"hiapi": 10, "evolink": 3}] * 2
