"""Every fault, as a client meets it."""

import json
import threading
import time
from datetime import datetime

import pytest
import requests
from hiapi import WebhookVerificationError
from hiapi.webhooks import verify_webhook

from sandbox.faults import REASONS
from sandbox.server import Sandbox
from sandbox.settings import Settings
from tests.sandbox.kit import KEY, SECRET, Client, Clock, Receiver, links, task_id, wait_until


def _charged(client: Client, provider: str) -> int:
    return int(client.get("/control/ledger").json().get(provider, {"tasks": 0})["tasks"])


def _status(body: bytes) -> str:
    return str(json.loads(body)["status"])


# Faults of the submission


@pytest.mark.parametrize("status", [402, 429, 500, 503])
def test_refused_submissions_are_not_charged(client: Client, provider: str, status: int) -> None:
    prompt = f"x [sandbox: {status}*2]"
    statuses = [client.submit(provider, prompt).status_code for _ in range(3)]

    assert statuses == [status, status, 200]
    assert _charged(client, provider) == 1


def test_402_names_the_want_of_credits(client: Client, provider: str) -> None:
    answer = client.submit(provider, "x [sandbox: 402]").json()

    if provider == "hiapi":
        assert answer["message"] == "insufficient credits"
    else:
        assert answer["error"]["type"] == "insufficient_quota_error"


@pytest.mark.parametrize(("fault", "seconds"), [("429", "1"), ("429=7", "7"), ("429=1500ms", "2")])
def test_429_says_when_to_come_back(
    client: Client, provider: str, fault: str, seconds: str
) -> None:
    answer = client.submit(provider, f"x [sandbox: {fault}]")

    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == seconds


def test_502_html_is_ambiguous(client: Client, provider: str, receiver: Receiver) -> None:
    answer = client.submit(provider, "x [sandbox: 502_html]", callback=receiver.url())

    assert answer.status_code == 502
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "502 Bad Gateway" in answer.text
    assert _charged(client, provider) == 1
    receiver.wait_for(1)


def test_lost_response_is_a_connection_closed_without_a_word(
    client: Client, provider: str, receiver: Receiver
) -> None:
    with pytest.raises(requests.ConnectionError):
        client.submit(provider, "x [sandbox: lost_response]", callback=receiver.url())

    assert _charged(client, provider) == 1
    receiver.wait_for(1)


def test_hang_answers_late(client: Client, provider: str) -> None:
    before = time.monotonic()
    answer = client.submit(provider, "x [sandbox: hang=300ms]")

    assert time.monotonic() - before >= 0.3
    assert answer.status_code == 200
    assert client.query(provider, task_id(answer))


def test_hang_charges_at_once(client: Client, provider: str) -> None:
    hung = threading.Thread(target=client.submit, args=(provider, "x [sandbox: hang=600ms]"))
    hung.start()
    wait_until(lambda: _charged(client, provider))

    assert hung.is_alive()
    hung.join()


# Faults of the callback


def test_without_faults_one_callback_is_sent(
    client: Client, provider: str, receiver: Receiver
) -> None:
    task = client.submitted(provider, callback=receiver.url())
    (sent,) = client.callbacks(task, 1)

    assert (sent["kind"], sent["status"], sent["error"]) == ("true", 200, None)
    assert sent["url"] == receiver.url()


def test_drop_sends_no_callback(client: Client, provider: str, receiver: Receiver) -> None:
    dropped = client.submitted(provider, "x [sandbox: drop]", callback=receiver.url("/a"))
    client.finished(provider, dropped)
    # A later task's callback comes, and the dropped one still has not.
    client.submitted(provider, callback=receiver.url("/b"))

    assert [received.path for received in receiver.wait_for(1)] == ["/b"]
    assert client.task(dropped)["callbacks"] == []


def test_duplicate_sends_the_callback_many_times_at_once(
    client: Client, provider: str, receiver: Receiver
) -> None:
    # Each request waits until all five are there: one after the other they would never get on.
    receiver.gate = threading.Barrier(5)
    task = client.submitted(provider, "x [sandbox: duplicate=5]", callback=receiver.url())
    sent = client.callbacks(task, 5)

    assert len({received.body for received in receiver.received}) == 1
    assert sorted(call["kind"] for call in sent) == ["duplicate"] * 4 + ["true"]


def test_early_calls_back_before_it_answers(
    client: Client, provider: str, receiver: Receiver
) -> None:
    answer = client.submit(provider, "x [sandbox: early, slow=60]", callback=receiver.url())

    (received,) = receiver.received
    assert _status(received.body) in ("success", "completed")
    (sent,) = client.task(task_id(answer))["callbacks"]
    assert sent["status"] == 200


def test_early_waits_for_one_try_only(client: Client, provider: str, receiver: Receiver) -> None:
    receiver.answers = [500]
    answer = client.submit(provider, "x [sandbox: early]", callback=receiver.url())

    assert answer.status_code == 200
    client.callbacks(task_id(answer), 2)


@pytest.mark.parametrize("fault", ["early", "early, drop"])
def test_early_finishes_the_task_also_without_a_callback(
    client: Client, provider: str, fault: str
) -> None:
    task = client.submitted(provider, f"x [sandbox: {fault}, slow=60]")

    assert client.task(task)["status"] == "succeeded"


def test_late_sends_the_callback_after_completion(
    client: Client, provider: str, receiver: Receiver
) -> None:
    task = client.submitted(provider, "x [sandbox: late=200ms]", callback=receiver.url())
    (sent,) = client.callbacks(task, 1)

    assert _seconds({**client.task(task), **sent}, "finished_at", "at") >= 0.199


@pytest.mark.parametrize(("wish", "first"), [("conflict", True), ("conflict, fail", False)])
def test_conflict_sends_the_opposite_afterwards(
    client: Client, provider: str, receiver: Receiver, wish: str, first: bool
) -> None:
    task = client.submitted(provider, f"x [sandbox: {wish}]", callback=receiver.url())
    true, opposite = receiver.wait_for(2)
    good = {"success", "completed"}

    assert (_status(true.body) in good, _status(opposite.body) in good) == (first, not first)
    assert [sent["kind"] for sent in client.callbacks(task, 2)] == ["true", "conflict"]
    assert _status(json.dumps(client.query(provider, task)).encode()) == _status(true.body)
    # Whichever of the two a client believes, its images are there.
    picture = next(link for body in (true, opposite) for link in links(json.loads(body.body)))
    assert client.session.get(picture, timeout=5).status_code == 200


def test_conflict_waits_until_the_true_one_is_taken(
    client: Client, provider: str, receiver: Receiver
) -> None:
    receiver.answers = [500, 503]
    task = client.submitted(provider, "x [sandbox: conflict]", callback=receiver.url())
    sent = client.callbacks(task, 4)

    assert [call["kind"] for call in sent] == ["true", "retry", "retry", "conflict"]


def test_conflict_comes_once_after_all_duplicates(
    client: Client, provider: str, receiver: Receiver
) -> None:
    receiver.answers = [200, 500, 500]
    wish = "x [sandbox: duplicate=3, conflict]"
    sent = client.callbacks(client.submitted(provider, wish, callback=receiver.url()), 6)
    kinds = [call["kind"] for call in sent]

    assert sorted(kinds[:3]) == ["duplicate", "duplicate", "true"]
    assert kinds[3:] == ["retry", "retry", "conflict"]


def test_forged_comes_first_with_the_wrong_token(client: Client, receiver: Receiver) -> None:
    receiver.answers = [404]
    task = client.submitted("evolink", "x [sandbox: forged]", callback=receiver.url("/cb/AbC?x=1"))
    forged, true = receiver.wait_for(2)

    assert (forged.path, true.path) == ("/cb/BbC?x=1", "/cb/AbC?x=1")
    assert (_status(forged.body), _status(true.body)) == ("failed", "completed")
    assert [sent["kind"] for sent in client.callbacks(task, 2)] == ["forged", "true"]


def test_forged_comes_with_the_wrong_signature_too(client: Client, receiver: Receiver) -> None:
    receiver.answers = [404, 401]
    client.submitted("hiapi", "x [sandbox: forged]", callback=receiver.url("/cb/token"))
    received = receiver.wait_for(3)

    assert [one.path for one in received] == ["/cb/Aoken", "/cb/token", "/cb/token"]
    verified = []
    for one in received:
        try:
            verify_webhook(
                one.body,
                signature=one.headers["X-HiAPI-Signature"],
                timestamp=one.headers["X-HiAPI-Timestamp"],
                secret=SECRET,
            )
            verified.append(True)
        except WebhookVerificationError:
            verified.append(False)
    assert verified == [True, False, True]


# Faults of the task


def test_slow_runs_so_long(client: Client, provider: str) -> None:
    task = client.submitted(provider, "x [sandbox: slow=200ms]")
    client.finished(provider, task)

    assert _seconds(client.task(task), "created_at", "finished_at") >= 0.199


def _seconds(task: dict[str, str], start: str, end: str) -> float:
    began, ended = (datetime.fromisoformat(task[name]) for name in (start, end))
    return (ended - began).total_seconds()


@pytest.mark.parametrize(
    ("reason", "codes"),
    [
        ("content_policy", ("TASK_FAILED", "content_policy_violation")),
        ("generation_failed", ("TASK_FAILED", "generation_failed_no_content")),
        ("timeout", ("TASK_TIMEOUT", "generation_timeout")),
        ("unavailable", ("MODEL_UNAVAILABLE", "service_unavailable")),
        ("MY_OWN", ("MY_OWN", "MY_OWN")),
    ],
)
def test_fail_puts_a_reason_into_the_providers_own_code(
    client: Client, provider: str, reason: str, codes: tuple[str, str]
) -> None:
    task = client.submitted(provider, f"x [sandbox: fail={reason}]")
    error = client.finished(provider, task)["error"]

    assert error["code"] == codes[provider == "evolink"]
    assert error["message"]


@pytest.mark.parametrize(
    ("reason", "code"), [("content_policy", "content_policy_violation"), ("timeout", "timeout")]
)
def test_a_reason_without_a_code_is_its_own(client: Client, reason: str, code: str) -> None:
    rule = {"provider": "aigptimage", "faults": {"fail": reason}}
    client.post("/control/faults", json=rule)
    seen = client.finished("aigptimage", client.submitted("aigptimage"))

    assert (seen["failCode"], seen["failMsg"]) == (code, REASONS[reason])


def test_forget_hides_the_task_from_queries(client: Client, provider: str) -> None:
    name = "tk-hiapi" if provider == "hiapi" else "task-unified"
    task = client.submitted(provider, "x [sandbox: forget]")

    assert task.startswith(name)
    assert client.get(f"/{provider}/v1/tasks/{task}").status_code == 404
    assert client.task(task)["charged"]


def test_success_without_images_has_an_empty_result(client: Client, provider: str) -> None:
    task = client.submitted(provider, "x [sandbox: success_without_images]")
    seen = client.finished(provider, task)

    assert seen["status"] in ("success", "completed")
    assert seen["output" if provider == "hiapi" else "results"] == []


def test_placeholder_image_is_a_page_with_status_200(client: Client, provider: str) -> None:
    task = client.submitted(provider, "x [sandbox: placeholder_image]")
    (link,) = links(client.finished(provider, task))
    answer = client.session.get(link, timeout=5)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")


def test_expire_links_ends_their_life(client: Client, clock: Clock, provider: str) -> None:
    task = client.submitted(provider, "x [sandbox: expire_links=10]")
    (link,) = links(client.finished(provider, task))

    assert client.session.get(link, timeout=5).status_code == 200
    clock.ahead = 11
    assert client.session.get(link, timeout=5).status_code == 404


@pytest.mark.parametrize(("provider", "hours"), [("hiapi", 7 * 24), ("evolink", 24)])
def test_links_live_as_long_as_documented(
    client: Client, clock: Clock, provider: str, hours: int
) -> None:
    (link,) = links(client.finished(provider, client.submitted(provider)))
    statuses = []
    for clock.ahead in ((hours - 0.1) * 3600, (hours + 0.1) * 3600):
        statuses.append(client.session.head(link, timeout=5).status_code)

    assert statuses == [200, 404]


def test_cancelled_is_not_for_hiapi(client: Client) -> None:
    answer = client.submit("hiapi", "x [sandbox: cancelled]")

    assert answer.status_code == 400
    assert "cancelled" in answer.json()["message"]


def test_an_unknown_fault_is_refused_with_the_allowed_ones(client: Client, provider: str) -> None:
    answer = client.submit(provider, "x [sandbox: explode]")
    body = answer.json()
    message = body["message"] if provider == "hiapi" else body["error"]["message"]

    assert answer.status_code == 400
    assert "'explode'" in message
    assert "duplicate[=N]" in message
    assert client.tasks() == []


def test_the_wish_stays_in_the_prompt(client: Client, provider: str) -> None:
    task = client.submitted(provider, "x [sandbox: drop] y")

    assert client.task(task)["prompt"] == "x [sandbox: drop] y"


def test_a_hanging_request_does_not_outlive_the_sandbox() -> None:
    with Sandbox(Settings(port=0, api_key=KEY)) as sandbox:
        client = Client(sandbox.url)
        hung = threading.Thread(target=_expect_no_answer, args=(client,))
        hung.start()
        wait_until(client.tasks)
    hung.join(5)

    assert not hung.is_alive()
    client.session.close()


def _expect_no_answer(client: Client) -> None:
    # Cut off, or answered in a hurry: either will do.
    try:
        client.submit("hiapi", "x [sandbox: hang=60]")
    except requests.ConnectionError:
        return
