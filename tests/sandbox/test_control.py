"""The control API and the page."""

import re
from datetime import datetime

import pytest

from sandbox.faults import CATALOGUE, Faults
from sandbox.tasks import Charge, Outcome, Status, Task, TaskStore
from tests.sandbox.conftest import Start
from tests.sandbox.kit import Client, Receiver, task_id


def test_shows_a_task_in_full(client: Client, receiver: Receiver) -> None:
    answer = client.submit("hiapi", "A red cube", receiver.url(), {"Idempotency-Key": "job_1.1"})
    client.callbacks(task_id(answer), 1)
    (task,) = client.tasks()
    created, finished = (
        datetime.fromisoformat(task[name]) for name in ("created_at", "finished_at")
    )

    assert created <= finished
    assert created.utcoffset() is not None
    (sent,) = task.pop("callbacks")
    assert set(sent) == {"at", "kind", "url", "status", "error"}
    assert task == {
        "id": task_id(answer),
        "provider": "hiapi",
        "model": "Nano-Banana-2",
        "prompt": "A red cube",
        "status": "succeeded",
        "provider_status": "success",
        "charged": {"amount": 1.0, "unit": "credits", "refunded": False},
        "created_at": task["created_at"],
        "finished_at": task["finished_at"],
        "idempotency_key": "job_1.1",
        "callback_url": receiver.url(),
        "image_asks": [0],
        "submissions": 1,
        "faults": {},
    }


def test_lists_tasks_newest_first_and_by_provider(client: Client) -> None:
    first, second = client.submitted("hiapi"), client.submitted("evolink")

    assert [task["id"] for task in client.tasks()] == [second, first]
    assert [task["id"] for task in client.tasks(provider="hiapi")] == [first]


def test_refuses_to_list_an_unknown_provider(client: Client) -> None:
    answer = client.get("/control/tasks?provider=nope")

    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "provider"


def test_keeps_the_ledger(client: Client) -> None:
    for resolution in ("1K", "4K"):
        client.submitted("hiapi", resolution=resolution)
    failed = client.submitted("evolink", "x [sandbox: fail]")
    client.finished("evolink", failed)

    assert client.get("/control/ledger").json() == {
        "hiapi": {
            **{"tasks": 2, "amount": 4.0, "unit": "credits"},
            **{"refunded": 0, "refunded_amount": 0.0},
        },
        "evolink": {
            **{"tasks": 1, "amount": 1.6, "unit": "credits"},
            **{"refunded": 1, "refunded_amount": 1.6},
        },
    }


def test_forgets_all_tasks(client: Client, receiver: Receiver) -> None:
    headers = {"Idempotency-Key": "a"}
    first = client.submit("hiapi", "x [sandbox: 429*2]", headers=headers)
    assert first.status_code == 429
    gone = client.submitted("evolink", "x [sandbox: slow=400ms]", callback=receiver.url("/gone"))

    assert client.delete("/control/tasks").status_code == 204

    assert client.tasks() == []
    assert client.get("/control/ledger").json() == {}
    assert client.get(f"/evolink/v1/tasks/{gone}").status_code == 404
    statuses = [
        client.submit("hiapi", "x [sandbox: 429*2]", headers=headers).status_code for _ in range(3)
    ]
    assert statuses == [429, 429, 200]
    # A task begun later than the forgotten one calls back, and that one never does.
    client.submitted("evolink", "x [sandbox: slow=450ms]", callback=receiver.url("/kept"))
    assert [received.path for received in receiver.wait_for(1)] == ["/kept"]


def test_applies_a_rule_to_what_it_matches(client: Client, receiver: Receiver) -> None:
    rule = {"provider": "hiapi", "match": "cube", "times": 2, "faults": {"duplicate": 3}}
    answer = client.post("/control/faults", json=rule)

    assert answer.status_code == 201
    assert answer.json() == {
        **{"id": answer.json()["id"], "after": None, "every": None, "share": None},
        **{"remaining": 2, "seen": 0, "hits": 0, **rule},
    }
    counts = []
    for provider, prompt in (
        *(("evolink", "A cube"), ("hiapi", "A ball"), ("hiapi", "A cube")),
        *(("hiapi", "Two cubes"), ("hiapi", "Another cube")),
    ):
        task = client.submitted(provider, prompt, callback=receiver.url())
        counts.append(client.task(task)["faults"].get("duplicate", 1))
        client.callbacks(task, counts[-1])
    assert counts == [1, 1, 3, 3, 1]
    (used,) = client.get("/control/faults").json()
    assert (used["remaining"], used["hits"], used["seen"]) == (0, 2, 2)


def test_applies_a_rule_for_all_until_it_is_removed(client: Client, provider: str) -> None:
    rule = client.post("/control/faults", json={"faults": {"503": True}}).json()
    assert [client.submit(provider).status_code for _ in range(3)] == [503] * 3

    assert client.delete(f"/control/faults/{rule['id']}").status_code == 204

    assert client.submit(provider).status_code == 200
    assert client.delete(f"/control/faults/{rule['id']}").status_code == 404


def test_a_rule_about_tasks_does_not_count_resends(client: Client) -> None:
    client.post("/control/faults", json={"after": 1, "times": 1, "faults": ["drop"]})
    for key in ("first", "first", "second"):
        client.submit("hiapi", headers={"Idempotency-Key": key})
    second, first = client.tasks()

    assert (first["submissions"], first["faults"]) == (2, {})
    assert second["faults"] == {"drop": True}


def test_removes_all_rules(client: Client) -> None:
    for fault in ("500", "drop"):
        client.post("/control/faults", json={"faults": {fault: True}})

    assert client.delete("/control/faults").status_code == 204
    assert client.get("/control/faults").json() == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"late": "500ms"}, {"late": 0.5}),
        ({"late": 2}, {"late": 2.0}),
        ({"429": None}, {"429": 1.0}),
        ({"fail": "X"}, {"fail": "X"}),
        ({"drop": True}, {"drop": True}),
        ({"429": {"retry_after": 2}}, {"429": 2.0}),
        ({"429": {"retry_after": None}}, {"429": 1.0}),
        (["drop", "duplicate"], {"drop": True, "duplicate": 2}),
        ({"hang": None}, {"hang": 60.0}),
    ],
)
def test_reads_values_as_in_a_prompt(client: Client, given: object, kept: object) -> None:
    assert client.post("/control/faults", json={"faults": given}).json()["faults"] == kept


@pytest.mark.parametrize(
    ("body", "field", "value", "allowed"),
    [
        ([], "rule", [], "an object with provider, match, times, after, every, share, faults"),
        ({}, "faults", None, "drop"),
        ({"faults": {}}, "faults", {}, "drop"),
        ({"faults": []}, "faults", [], "drop"),
        ({"faults": "drop"}, "faults", "drop", "a list of names"),
        ({"faults": [{"drop": None}]}, "faults", [{"drop": None}], "a list of names"),
        ({"faults": ["late"]}, "faults.late", "late", "late=SECONDS"),
        ({"faults": [True]}, "faults.True", "True", "duplicate[=N]"),
        ({"faults": {"429": {"after": 2}}}, "faults.429", {"after": 2}, "{retry_after: SECONDS}"),
        ({"faults": {"429": {}}}, "faults.429", {}, "{retry_after: SECONDS}"),
        ({"faults": {"late": {"s": 2}}}, "faults.late", {"s": 2}, "late=SECONDS"),
        ({"faults": {"late": [2]}}, "faults.late", [2], "late=SECONDS"),
        ({"faults": {"fail": False}}, "faults.fail", False, "or leave it out"),
        ({"faults": {"dorp": True}}, "faults.dorp", "dorp", "duplicate[=N]"),
        ({"faults": {"duplicate": 0}}, "faults.duplicate", "0", "1 to 100"),
        ({"faults": {"drop": False}}, "faults.drop", False, "drop, or leave it out"),
        ({"faults": {"drop": 1}}, "faults.drop", "1", "drop alone"),
        ({"faults": {"late": True}}, "faults.late", "late", "late=SECONDS"),
        ({"faults": {"500": True, "503": True}}, "faults.503", "500 and 503", "one of them"),
        ({"faults": {"drop": True}, "times": 0}, "times", 0, "a whole number"),
        ({"faults": {"drop": True}, "times": True}, "times", True, "a whole number"),
        ({"faults": {"drop": True}, "times": "2"}, "times", "2", "null for always"),
        ({"faults": {"drop": True}, "after": -1}, "after", -1, "a whole number"),
        ({"faults": {"drop": True}, "every": 0}, "every", 0, "a whole number"),
        ({"faults": {"drop": True}, "share": 20}, "share", 20, "such as 20%"),
        ({"faults": {"drop": True}, "share": "0%"}, "share", "0%", "above 0%"),
        ({"faults": {"drop": True}, "share": "101%"}, "share", "101%", "up to 100%"),
        ({"faults": {"drop": True}, "share": "-1%"}, "share", "-1%", "above 0%"),
        ({"faults": {"drop": True}, "provider": ["x"]}, "provider", ["x"], "hiapi, evolink"),
        ({"faults": {"drop": True}, "match": ""}, "match", "", "a piece of the prompt"),
        ({"faults": {"drop": True}, "provider": "x"}, "provider", "x", "hiapi, evolink"),
        ({"faults": {"drop": True}, "extra": 1}, "extra", 1, "provider, match, times"),
        (
            {"faults": {"cancelled": True}, "provider": "hiapi"},
            *("faults.cancelled", "cancelled", "any fault hiapi has"),
        ),
    ],
)
def test_refuses_a_bad_rule(
    client: Client, body: object, field: str, value: object, allowed: str
) -> None:
    answer = client.post("/control/faults", json=body)
    error = answer.json()["error"]

    assert answer.status_code == 400
    assert (error["field"], error["value"]) == (field, value)
    assert allowed in error["allowed"]
    assert client.get("/control/faults").json() == []


def test_is_healthy(client: Client) -> None:
    answer = client.get("/healthz", headers={"Authorization": None})

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_shows_the_page(client: Client, receiver: Receiver) -> None:
    client.post("/control/faults", json={"match": "cube", "faults": {"late": 2}})
    task = client.submitted("hiapi", "<b>A red ball</b>", callback=receiver.url())
    client.callbacks(task, 1)
    page = client.get("/")

    assert page.headers["Content-Type"].startswith("text/html")
    assert task in page.text
    assert "&lt;b&gt;A red ball&lt;/b&gt;" in page.text
    assert "<code>late=2s</code>" in page.text
    for kind in CATALOGUE.values():
        assert f"<code>{kind.spelling}</code>" in page.text
    loaded = re.findall(r"""(?:src|href)=["']?([^"'> ]+)""", page.text)
    assert "http-equiv" not in page.text
    assert loaded
    assert all(link.startswith(client.url) for link in loaded)


def test_shows_an_empty_page_on_a_new_sandbox(start: Start) -> None:
    assert "No task yet" in start().get("/").text


def test_drops_the_oldest_tasks_but_keeps_their_charges() -> None:
    store = TaskStore(max_tasks=2)
    for number in range(3):
        store.add(_task(f"task-{number}"))

    assert [task.id for task in store.newest_first()] == ["task-2", "task-1"]
    assert store.accounts()["hiapi"].tasks == 3


def test_finishes_a_task_once_and_never_a_forgotten_one() -> None:
    store, task, forgotten = TaskStore(), _task("kept"), _task("forgotten")
    store.add(task)

    assert store.finish(task, Outcome(Status.SUCCEEDED), 1.0)
    assert not store.finish(task, Outcome(Status.FAILED), 2.0)
    assert not store.finish(forgotten, Outcome(Status.FAILED), 2.0)
    assert (task.status, task.finished_at, task.refunded) == (Status.SUCCEEDED, 1.0, False)
    assert (forgotten.status, forgotten.refunded) == (Status.RUNNING, False)


def _task(name: str) -> Task:
    return Task(
        id=name,
        provider="hiapi",
        model="Nano-Banana-2",
        prompt="x",
        callback_url=None,
        charge=Charge(1.0, "credits"),
        pictures=(),
        link_base="",
        faults=Faults(),
        idempotency_key=None,
        created_at=0.0,
        runs_for=1.0,
        links_live_for=1.0,
    )
