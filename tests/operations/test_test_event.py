"""Test notifications: signed and guarded as any other, with the answer as a result."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.operations.test_event import send_test_event
from orchestrator.security import standard_webhooks
from orchestrator.security.secret import Secret
from tests.support import notify_kit
from tests.support.fakes import Answer, FakeProvider, Harness, use_runtime
from tests.support.notify_kit import SECRET, host, url


@pytest.fixture
def harness(start: Callable[..., Harness]) -> Harness:
    return start(**notify_kit.VARIABLES)


def test_a_receiver_can_verify_it_as_any_notification(
    harness: Harness, receiver: FakeProvider
) -> None:
    sent = send_test_event(harness.runtime, url(receiver), "shop", actor="tests")

    [request] = receiver.requests
    seconds = int(request.headers["webhook-timestamp"])
    signed = standard_webhooks.headers((Secret(SECRET),), sent.id, seconds, request.body)
    assert request.headers["webhook-signature"] == signed["webhook-signature"]
    body = json.loads(request.body)
    assert (body["type"], body["data"]) == ("test", {"tenant": "shop"})
    assert (sent.accepted, sent.status, sent.reason) == (True, 204, None)
    assert sent.host == host(receiver)
    assert harness.ledger.audit.entries(1)[0].target == host(receiver)  # without path and token


def test_a_refusal_is_the_result_and_the_exit_status(
    harness: Harness, receiver: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_runtime(monkeypatch, harness.runtime)
    receiver.handler = lambda _: Answer(500)

    result = CliRunner().invoke(main, ["notify", "--test", url(receiver), "--json"])

    shown = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (shown["status"], shown["reason"]) == (500, "it answered 500")
    assert harness.ledger.circuit_breaker.failing() == {}


def test_a_private_address_is_not_called(
    start: Callable[..., Harness], receiver: FakeProvider
) -> None:
    guarded = start(ORCHESTRATOR_NOTIFY_SECRET=SECRET)

    with pytest.raises(InvalidRequest, match="url must be an https:// URL of a public host"):
        send_test_event(guarded.runtime, url(receiver), "shop", actor="tests")
    with pytest.raises(InvalidRequest, match="tenant"):
        send_test_event(guarded.runtime, "https://hooks.example.com", "a b", actor="tests")
    assert receiver.requests == []


@pytest.mark.parametrize("words", [["--test", "x", "--dead"], ["--dead", "--tenant", "shop"]])
def test_options_that_do_not_fit_are_refused(words: list[str]) -> None:
    assert CliRunner().invoke(main, ["notify", *words]).exit_code == 2
