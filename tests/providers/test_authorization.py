"""Adapters that send the API key in their own way, and callbacks that are only a hint."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast
from urllib.parse import quote

import pytest

from orchestrator import log
from orchestrator.jobs.model import SettledBy, Status, Step
from orchestrator.ledger import keys
from orchestrator.providers import PROVIDERS, Provider
from orchestrator.providers.api import Call, Secret
from orchestrator.providers.hiapi import HiAPI
from orchestrator.steps.poll import poll
from orchestrator.steps.submit import submit
from tests.support.fakes import API_KEY, Harness, answer
from tests.webhooks.kit import LINK, SUCCESS, TASK, Receiver

ACCEPTED = answer(200, {"code": 200, "data": {"taskId": TASK}})
REFUSED = answer(401, {"code": 401, "message": "invalid api key", "data": None})


class KeyInHeader(HiAPI):
    def authorize(self, call: Call, api_key: Secret) -> Call:
        return replace(call, headers={**call.headers, "X-API-Key": api_key.reveal()})


class KeyInQuery(HiAPI):
    def authorize(self, call: Call, api_key: Secret) -> Call:
        mark = "&" if "?" in call.path else "?"
        return replace(call, path=f"{call.path}{mark}key={quote(api_key.reveal(), safe='')}")


class Hinting(HiAPI):
    capabilities = replace(HiAPI.capabilities, callback_is_hint=True)


Use = Callable[[Provider], Harness]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, start: Callable[..., Harness]) -> Use:
    """Return a process whose HiAPI has this adapter."""

    def begin(adapter: Provider) -> Harness:
        monkeypatch.setitem(cast("dict[str, Any]", PROVIDERS), adapter.name, adapter)
        return start()

    return begin


@pytest.mark.parametrize(
    ("adapter", "header", "query"),
    [(KeyInHeader(), API_KEY, ""), (KeyInQuery(), None, f"key={API_KEY}")],
)
def test_every_call_has_the_key_where_the_adapter_puts_it(
    use: Use, adapter: Provider, header: str | None, query: str
) -> None:
    harness = use(adapter)
    task = {"code": 200, "data": SUCCESS["hiapi"]}
    harness.provider.answers(ACCEPTED, answer(200, task))
    job_id = harness.enqueue()

    submit(harness.runtime, job_id)
    harness.clock.forward(harness.seconds_until_due(job_id) or 0)
    poll(harness.runtime, job_id)

    assert harness.job(job_id).status is Status.SUCCEEDED
    assert [asked.method for asked in harness.provider.requests] == ["POST", "GET"]
    for asked in harness.provider.requests:
        assert asked.headers.get("x-api-key") == header
        assert asked.path.partition("?")[2] == query
        assert "authorization" not in asked.headers


@pytest.mark.parametrize("adapter", [HiAPI(), KeyInHeader(), KeyInQuery()])
@pytest.mark.parametrize("answers", [REFUSED, None], ids=["refused", "no answer"])
def test_no_error_event_or_log_line_shows_the_key(
    use: Use, capfd: pytest.CaptureFixture[str], adapter: Provider, answers: Any
) -> None:
    harness = use(adapter)
    harness.provider.answers(answers)
    job_id = harness.enqueue()
    log.configure(logging.DEBUG)

    submit(harness.runtime, job_id)

    assert harness.provider.requests
    output = "".join(capfd.readouterr())
    job, events = harness.job(job_id), harness.ledger.events(job_id)
    assert API_KEY not in repr((job, events, harness.runtime)) + output
    assert API_KEY not in repr(harness.redis.hgetall(keys.job(job_id)))


@pytest.mark.parametrize("adapter", [HiAPI(), KeyInHeader(), KeyInQuery()])
def test_the_repr_of_an_authorised_call_hides_the_key(adapter: Provider) -> None:
    call = adapter.authorize(adapter.query_call(TASK), Secret(API_KEY))

    assert API_KEY in repr((call.path, call.headers))
    assert API_KEY not in repr(call)
    assert "/v1/tasks/" in repr(call)


# Callbacks as hints --------------------------------------------------------------------------


def test_a_callback_that_is_a_hint_makes_the_poll_due_and_the_poll_settles(use: Use) -> None:
    harness = use(Hinting())
    receiver = Receiver.on(harness)
    job_id = receiver.running()
    lie = {**SUCCESS["hiapi"], "output": [{"url": "https://evil.example/x.png", "type": "image"}]}

    answered = receiver.deliver(job_id, lie)

    assert answered.status_code == 200
    assert receiver.job(job_id).status is Status.RUNNING
    assert harness.seconds_until_due(job_id) == 0
    assert (Step.POLL, job_id) in harness.nudges.sent
    harness.provider.answers(answer(200, {"code": 200, "data": SUCCESS["hiapi"]}))
    poll(harness.runtime, job_id)
    job = receiver.job(job_id)
    assert (job.status, job.settled_by) == (Status.SUCCEEDED, SettledBy.POLL)
    assert [image.source_url for image in job.images] == [LINK]
