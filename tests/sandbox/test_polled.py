"""The faults of the providers that do not call back: everything is seen by asking."""

import threading
import time

import pytest
import requests

from sandbox.faults import CATALOGUE, Takes
from sandbox.provider import CALLBACK_FAULTS
from sandbox.registry import PROVIDERS
from tests.sandbox.kit import QUERY, Client, Clock, links, state, task_id, wait_until

VALUES = {Takes.SECONDS: "=1", Takes.COUNT: "=2"}
HAVE_NO = {"uniall": {"cancelled"}, "aigptimage": {"cancelled", "early"}}


@pytest.fixture(params=["uniall", "aigptimage"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _charged(client: Client, provider: str) -> int:
    return int(client.get("/control/ledger").json().get(provider, {"tasks": 0})["tasks"])


def test_the_faults_of_callbacks_are_faults() -> None:
    assert set(CATALOGUE) > CALLBACK_FAULTS


def test_only_these_are_unsupported() -> None:
    unsupported = {kind.name: kind.unsupported_faults for kind in PROVIDERS}

    for name, others in HAVE_NO.items():
        assert unsupported[name] == CALLBACK_FAULTS | others


@pytest.mark.parametrize("fault", sorted(CALLBACK_FAULTS | {"cancelled"}))
def test_refuses_a_wish_it_cannot_grant(client: Client, provider: str, fault: str) -> None:
    wish = fault + VALUES.get(CATALOGUE[fault].takes, "")
    answer = client.submit(provider, f"x [sandbox: {wish}]")

    assert answer.status_code == 400
    assert f"'{fault}'" in answer.text
    assert f"{provider} does not" in answer.text
    assert client.tasks() == []


def test_aigptimage_cannot_end_before_it_answers(client: Client) -> None:
    assert client.submit("aigptimage", "x [sandbox: early]").status_code == 400


@pytest.mark.parametrize("fault", ["drop", "late"])
def test_refuses_a_rule_of_its_own_it_cannot_follow(
    client: Client, provider: str, fault: str
) -> None:
    answer = client.post("/control/faults", json={"provider": provider, "faults": {fault: 1}})

    assert answer.status_code == 400


def test_leaves_out_of_a_rule_for_all_what_it_does_not_have(client: Client, provider: str) -> None:
    faults = {"duplicate": 3, "slow": 60}
    assert client.post("/control/faults", json={"faults": faults}).status_code == 201

    task = client.submitted(provider)

    assert client.task(task)["faults"] == {"slow": 60.0}


def test_never_calls_back(client: Client, provider: str) -> None:
    task = client.submitted(provider)
    client.finished(provider, task)

    assert client.task(task)["callback_url"] is None
    assert client.task(task)["callbacks"] == []
    assert client.post(f"/control/tasks/{task}/callback").status_code == 409


@pytest.mark.parametrize("status", [429, 500, 503])
def test_refused_submissions_are_not_charged(client: Client, provider: str, status: int) -> None:
    prompt = f"x [sandbox: {status}*2]"
    answers = [client.submit(provider, prompt) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [status, status, 200]
    assert ("Retry-After" in answers[0].headers) == (status == 429)
    assert _charged(client, provider) == 1


def test_429_says_when_to_come_back(client: Client, provider: str) -> None:
    assert client.submit(provider, "x [sandbox: 429=7]").headers["Retry-After"] == "7"


def test_502_html_is_ambiguous(client: Client, provider: str) -> None:
    answer = client.submit(provider, "x [sandbox: 502_html]")

    assert answer.status_code == 502
    assert answer.headers["Content-Type"].startswith("text/html")
    assert _charged(client, provider) == 1


def test_lost_response_is_a_connection_closed_without_a_word(client: Client, provider: str) -> None:
    with pytest.raises(requests.ConnectionError):
        client.submit(provider, "x [sandbox: lost_response]")

    assert _charged(client, provider) == 1


def test_hang_charges_at_once_and_answers_late(client: Client, provider: str) -> None:
    answers: list[requests.Response] = []
    before = time.monotonic()
    hung = threading.Thread(
        target=lambda: answers.append(client.submit(provider, "x [sandbox: hang=400ms]"))
    )
    hung.start()
    wait_until(lambda: _charged(client, provider))
    assert hung.is_alive()
    hung.join()

    assert time.monotonic() - before >= 0.4
    assert client.query(provider, task_id(answers[0]))


def test_slow_runs_until_its_time(client: Client, provider: str) -> None:
    slow = client.submitted(provider, "x [sandbox: slow=60]")
    client.finished(provider, client.submitted(provider))

    assert client.task(slow)["status"] == "running"


def test_fail_fails(client: Client, provider: str) -> None:
    task = client.submitted(provider, "x [sandbox: fail=X-1]")

    assert state(client.finished(provider, task)) in ("fail", "failed")
    assert client.task(task)["status"] == "failed"
    assert client.task(task)["charged"]["refunded"]


def test_forget_hides_the_task_from_queries(client: Client, provider: str) -> None:
    task = client.submitted(provider, "x [sandbox: forget]")

    assert client.get(f"/{provider}{QUERY[provider]}{task}").status_code == 404
    assert client.task(task)["charged"]


@pytest.mark.parametrize("several", [1, 2])
def test_success_without_images_has_an_empty_result(
    client: Client, provider: str, several: int
) -> None:
    fields = {"n": several} if provider == "uniall" else {}
    task = client.submitted(provider, "x [sandbox: success_without_images]", **fields)
    seen = client.finished(provider, task)

    assert state(seen) in ("success", "succeeded")
    assert links(seen) == []


def test_placeholder_image_is_a_page_with_status_200(client: Client, provider: str) -> None:
    task = client.submitted(provider, "x [sandbox: placeholder_image]")
    (link,) = links(client.finished(provider, task))
    answer = client.session.get(link, timeout=5)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(("wish", "seconds"), [(" [sandbox: expire_links=10]", 10), ("", 86400)])
def test_links_die_when_they_should(
    client: Client, clock: Clock, provider: str, wish: str, seconds: int
) -> None:
    (link,) = links(client.finished(provider, client.submitted(provider, f"x{wish}")))
    statuses = []
    for clock.ahead in (0.5 * seconds, 1.1 * seconds):
        statuses.append(client.session.head(link, timeout=5).status_code)

    assert statuses == [200, 404]


def test_the_page_names_every_provider(client: Client, provider: str) -> None:
    task = client.submitted(provider)
    page = client.get("/").text

    assert f"{client.url}/{provider}" in page
    assert task in page
