"""Every fault as a client meets it.

Faults have one mechanism, so one provider proves it. A fault is tested at every provider only
where each provider has its own code.
"""

import json
import threading
from datetime import datetime

import pytest
import requests
from hiapi import WebhookVerificationError
from hiapi.webhooks import verify_webhook

from sandbox.catalogue import CATALOGUE, REASONS
from sandbox.provider import CALLBACK_FAULTS
from sandbox.registry import PROVIDERS
from sandbox.server import Sandbox
from sandbox.settings import SandboxSettings
from tests.sandbox.kit import (
    EMULATED,
    EVERY_PROVIDER,
    HIAPI_SECRET,
    KEY,
    CallbackReceiver,
    MovableClock,
    ReceivedCallback,
    SandboxClient,
    links,
    status,
    task_id,
    wait_until,
)

#: The providers that call back, and the others.
CALLING = {name for name, emulated in EMULATED.items() if emulated.retry_seconds}
POLLED = [name for name in EVERY_PROVIDER if name not in CALLING]


def _is_success(callback: ReceivedCallback) -> bool:
    return json.loads(callback.body)["status"] in ("success", "completed")


# Faults of the submission


@pytest.mark.parametrize("code", ["429", "500", "503"])
def test_a_refused_submission_is_not_charged(client: SandboxClient, code: str) -> None:
    prompt = f"x [sandbox: {code}*2]"
    answers = [client.submit("evolink", prompt).status_code for _ in range(3)]

    assert answers == [int(code), int(code), 200]
    assert client.charged("evolink") == 1


@pytest.mark.parametrize("provider", EVERY_PROVIDER)
@pytest.mark.parametrize(("fault", "seconds"), [("429", "1"), ("429=1500ms", "2")])
def test_429_has_a_retry_after(
    client: SandboxClient, provider: str, fault: str, seconds: str
) -> None:
    answer = client.submit(provider, f"x [sandbox: {fault}]")

    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == seconds


def test_502_html_creates_the_task_and_answers_with_a_page(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    answer = client.submit("hiapi", "x [sandbox: 502_html]", callback=receiver.url())

    assert answer.status_code == 502
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "502 Bad Gateway" in answer.text
    assert client.charged("hiapi") == 1
    receiver.wait_for(1)


def test_lost_response_creates_the_task_and_closes_the_connection(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    with pytest.raises(requests.ConnectionError):
        client.submit("evolink", "x [sandbox: lost_response]", callback=receiver.url())

    assert client.charged("evolink") == 1
    receiver.wait_for(1)


def test_hang_answers_late(client: SandboxClient) -> None:
    answer = client.submit("hiapi", "x [sandbox: hang=200ms]")

    assert answer.elapsed.total_seconds() >= 0.2
    assert answer.status_code == 200
    assert client.query("hiapi", task_id(answer))


def test_hang_charges_at_once_and_ends_with_the_sandbox() -> None:
    answers: list[object] = []

    def submit(client: SandboxClient) -> None:
        # The connection is closed, or the answer is sent early. Both are correct.
        try:
            answers.append(client.submit("hiapi", "x [sandbox: hang=3600]"))
        except requests.ConnectionError as error:
            answers.append(error)

    with Sandbox(SandboxSettings(port=0, api_key=KEY)) as sandbox:
        client = SandboxClient(sandbox.url)
        thread = threading.Thread(target=submit, args=(client,))
        thread.start()
        wait_until(lambda: client.charged("hiapi"))
        assert answers == []
    thread.join()
    client.session.close()

    assert len(answers) == 1


# Faults of the callback


def test_one_callback_is_sent_without_faults(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    task = client.submitted("evolink", callback=receiver.url())
    (callback,) = client.callbacks(task, 1)

    assert (callback["kind"], callback["status"], callback["error"]) == ("true", 200, None)
    assert callback["url"] == receiver.url()


def test_drop_sends_no_callback(client: SandboxClient, receiver: CallbackReceiver) -> None:
    dropped = client.submitted("evolink", "x [sandbox: drop]", callback=receiver.url("/a"))
    client.finished("evolink", dropped)
    # The callback of a later task arrives, and the dropped one has not arrived before it.
    client.submitted("evolink", callback=receiver.url("/b"))

    assert [callback.path for callback in receiver.wait_for(1)] == ["/b"]
    assert client.task(dropped)["callbacks"] == []


def test_duplicate_sends_the_callbacks_at_the_same_time(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    # Each request waits for all five, so callbacks that are sent in turn would never end.
    receiver.gate = threading.Barrier(5)
    task = client.submitted("evolink", "x [sandbox: duplicate=5]", callback=receiver.url())
    callbacks = client.callbacks(task, 5)

    assert len({callback.body for callback in receiver.received}) == 1
    assert sorted(one["kind"] for one in callbacks) == ["duplicate"] * 4 + ["true"]


def test_early_calls_back_before_the_answer(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    answer = client.submit("hiapi", "x [sandbox: early, slow=60]", callback=receiver.url())

    (callback,) = receiver.received
    assert _is_success(callback)
    (recorded,) = client.task(task_id(answer))["callbacks"]
    assert recorded["status"] == 200


def test_early_waits_for_the_first_attempt_only(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    receiver.answers = [500]
    answer = client.submit("evolink", "x [sandbox: early]", callback=receiver.url())

    assert answer.status_code == 200
    client.callbacks(task_id(answer), 2)


@pytest.mark.parametrize("fault", ["early", "early, drop"])
def test_early_without_a_callback_ends_at_once(client: SandboxClient, fault: str) -> None:
    callback = None if fault == "early" else "http://127.0.0.1:1/cb"
    task = client.submitted("hiapi", f"x [sandbox: {fault}]", callback=callback)

    assert client.task(task)["status"] == "succeeded"
    assert client.task(task)["callbacks"] == []


def _seconds(task: dict[str, str], start: str, end: str) -> float:
    started, ended = (datetime.fromisoformat(task[name]) for name in (start, end))
    return (ended - started).total_seconds()


def test_late_waits_after_the_end(client: SandboxClient, receiver: CallbackReceiver) -> None:
    task = client.submitted("evolink", "x [sandbox: late=100ms]", callback=receiver.url())
    (callback,) = client.callbacks(task, 1)

    assert _seconds({**client.task(task), **callback}, "finished_at", "at") >= 0.099


@pytest.mark.parametrize(("fault", "first"), [("conflict", True), ("conflict, fail", False)])
def test_conflict_sends_the_opposite_outcome_afterwards(
    client: SandboxClient, receiver: CallbackReceiver, fault: str, first: bool
) -> None:
    task = client.submitted("evolink", f"x [sandbox: {fault}]", callback=receiver.url())
    true, opposite = receiver.wait_for(2)

    assert (_is_success(true), _is_success(opposite)) == (first, not first)
    assert [one["kind"] for one in client.callbacks(task, 2)] == ["true", "conflict"]
    assert status(client.query("evolink", task)) == json.loads(true.body)["status"]
    # The image exists, whichever of the two callbacks a client believes.
    link = next(link for one in (true, opposite) for link in links(json.loads(one.body)))
    assert client.fetch(link).status_code == 200


def test_conflict_waits_until_the_true_callback_is_accepted(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    receiver.answers = [500, 503]
    task = client.submitted("hiapi", "x [sandbox: conflict]", callback=receiver.url())
    callbacks = client.callbacks(task, 4)

    assert [one["kind"] for one in callbacks] == ["true", "retry", "retry", "conflict"]


def test_conflict_is_sent_once_after_all_duplicates(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    receiver.answers = [200, 500, 500]
    prompt = "x [sandbox: duplicate=3, conflict]"
    callbacks = client.callbacks(client.submitted("evolink", prompt, callback=receiver.url()), 6)
    kinds = [one["kind"] for one in callbacks]

    assert sorted(kinds[:3]) == ["duplicate", "duplicate", "true"]
    assert kinds[3:] == ["retry", "retry", "conflict"]


def test_forged_is_sent_first_with_a_wrong_token(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    receiver.answers = [404]
    task = client.submitted("evolink", "x [sandbox: forged]", callback=receiver.url("/cb/AbC?x=1"))
    forged, true = receiver.wait_for(2)

    assert (forged.path, true.path) == ("/cb/BbC?x=1", "/cb/AbC?x=1")
    assert (_is_success(forged), _is_success(true)) == (False, True)
    assert [one["kind"] for one in client.callbacks(task, 2)] == ["forged", "true"]


def _is_verified(callback: ReceivedCallback) -> bool:
    try:
        verify_webhook(
            callback.body,
            signature=callback.headers["X-HiAPI-Signature"],
            timestamp=callback.headers["X-HiAPI-Timestamp"],
            secret=HIAPI_SECRET,
        )
    except WebhookVerificationError:
        return False
    return True


def test_forged_is_also_sent_with_a_wrong_signature(
    client: SandboxClient, receiver: CallbackReceiver
) -> None:
    receiver.answers = [404, 401]
    client.submitted("hiapi", "x [sandbox: forged]", callback=receiver.url("/cb/token"))
    callbacks = receiver.wait_for(3)

    assert [one.path for one in callbacks] == ["/cb/Aoken", "/cb/token", "/cb/token"]
    assert [_is_verified(one) for one in callbacks] == [True, False, True]


# Faults of the task


def test_slow_runs_this_long(client: SandboxClient) -> None:
    task = client.submitted("evolink", "x [sandbox: slow=100ms]")
    client.finished("evolink", task)

    assert _seconds(client.task(task), "created_at", "finished_at") >= 0.099


def test_fail_has_the_code_of_the_provider(client: SandboxClient) -> None:
    for provider in EVERY_PROVIDER:
        for reason in [*REASONS, "MY_OWN"]:
            emulated = EMULATED[provider]
            code = emulated.failures.get(reason, reason)
            if reason == "content_policy":
                code = emulated.failure.code or ""

            view = client.run(provider, f"x [sandbox: fail={reason}]")

            assert code in json.dumps(view)
            if reason in REASONS and reason != "content_policy":
                assert REASONS[reason] in json.dumps(view)


@pytest.mark.parametrize("provider", EVERY_PROVIDER)
def test_fail_refunds_the_task(client: SandboxClient, provider: str) -> None:
    task = client.submitted(provider, "x [sandbox: fail]")
    view = client.finished(provider, task)

    assert status(view) in ("fail", "failed")
    assert client.task(task)["status"] == "failed"
    assert client.task(task)["charged"]["refunded"]


@pytest.mark.parametrize("provider", EVERY_PROVIDER)
def test_forget_hides_the_task_from_queries(client: SandboxClient, provider: str) -> None:
    task = client.submitted(provider, "x [sandbox: forget]")

    assert client.get(f"/{provider}{EMULATED[provider].query_path}{task}").status_code == 404
    assert client.task(task)["charged"]


def test_placeholder_image_is_a_page_with_status_200(client: SandboxClient) -> None:
    (link,) = links(client.run("evolink", "x [sandbox: placeholder_image]"))
    answer = client.fetch(link)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    ("provider", "prompt", "seconds"),
    [
        *((name, "x", EMULATED[name].link_ttl_seconds) for name in EVERY_PROVIDER),
        ("hiapi", "x [sandbox: expire_links=60m]", 3600),
    ],
)
def test_links_expire(
    client: SandboxClient, clock: MovableClock, provider: str, prompt: str, seconds: float
) -> None:
    (link,) = links(client.run(provider, prompt))
    answers = []
    for clock.ahead in (0.9 * seconds, 1.1 * seconds):
        answers.append(client.fetch(link, "HEAD").status_code)

    assert answers == [200, 404]


# Faults that a provider does not have


def test_providers_without_callbacks_have_no_callback_faults() -> None:
    assert set(CATALOGUE) > CALLBACK_FAULTS
    for emulated in PROVIDERS:
        unsupported = emulated.unsupported_faults
        assert (unsupported >= CALLBACK_FAULTS) is (emulated.name not in CALLING)
        assert unsupported <= CALLBACK_FAULTS | {"cancelled", "early", "expire_at"}
    assert {"hiapi", "evolink"} <= CALLING


def test_a_provider_refuses_a_fault_it_does_not_have(client: SandboxClient) -> None:
    answer = client.submit(POLLED[0], "x [sandbox: duplicate=2]")

    assert answer.status_code == 400
    assert f"sandbox fault duplicate must be a fault that {POLLED[0]} supports" in answer.text
    assert client.tasks() == []


def test_a_rule_for_every_provider_leaves_unsupported_faults_out(client: SandboxClient) -> None:
    client.post("/control/faults", json={"faults": {"duplicate": 3, "slow": 60}})

    assert client.task(client.submitted(POLLED[-1]))["faults"] == {"slow": 60.0}


@pytest.mark.parametrize("provider", POLLED)
def test_a_provider_without_callbacks_never_calls_back(
    client: SandboxClient, provider: str
) -> None:
    task = client.submitted(provider)
    client.finished(provider, task)

    assert client.task(task)["callback_url"] is None
    assert client.task(task)["callbacks"] == []
    assert client.post(f"/control/tasks/{task}/callback").status_code == 409


def test_an_unknown_fault_is_refused_with_the_known_ones(client: SandboxClient) -> None:
    answer = client.submit("hiapi", "x [sandbox: explode]")

    assert answer.status_code == 400
    message = answer.json()["message"]
    assert message.startswith("sandbox fault explode is not a known fault; known faults: ")
    assert "duplicate[=N]" in message
    assert client.tasks() == []


def test_the_prompt_keeps_its_faults(client: SandboxClient) -> None:
    task = client.submitted("hiapi", "x [sandbox: drop] y")

    assert client.task(task)["prompt"] == "x [sandbox: drop] y"
