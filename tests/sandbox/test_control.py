"""The control API and the store of tasks."""

from datetime import datetime

import pytest

from sandbox.tasks import TaskOutcome, TaskStatus, TaskStore
from tests.sandbox.kit import CallbackReceiver, SandboxClient, stored_task, task_id


def test_shows_a_task_in_full(client: SandboxClient, receiver: CallbackReceiver) -> None:
    answer = client.submit("hiapi", "A red cube", receiver.url(), {"Idempotency-Key": "job_1.1"})
    client.callbacks(task_id(answer), 1)
    (task,) = client.tasks()
    created, finished = (
        datetime.fromisoformat(task[name]) for name in ("created_at", "finished_at")
    )

    assert created <= finished
    assert created.utcoffset() is not None
    (callback,) = task.pop("callbacks")
    assert set(callback) == {"at", "kind", "url", "status", "error"}
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


def test_lists_tasks_newest_first_and_by_provider(client: SandboxClient) -> None:
    first, second = client.submitted("hiapi"), client.submitted("evolink")

    assert [task["id"] for task in client.tasks()] == [second, first]
    assert [task["id"] for task in client.tasks(provider="hiapi")] == [first]


def test_refuses_to_list_an_unknown_provider(client: SandboxClient) -> None:
    answer = client.get("/control/tasks?provider=nope")

    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "provider"


def test_shows_an_image_without_the_faults_of_its_link(client: SandboxClient) -> None:
    task = client.submitted("hiapi", "x [sandbox: image=404, file=gif, encoding=gzip]")
    path = f"/control/tasks/{task}/images"
    answer = client.get(f"{path}/0")

    assert (answer.headers["Content-Type"], answer.content[:4]) == ("image/gif", b"GIF8")
    assert client.task(task)["image_asks"] == [0]
    assert client.get(f"{path}/1").json()["error"]["field"] == "image"


def test_keeps_the_ledger(client: SandboxClient) -> None:
    for resolution in ("1K", "4K"):
        client.submitted("hiapi", resolution=resolution)
    client.run("evolink", "x [sandbox: fail]")

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


def test_forgets_all_tasks(client: SandboxClient) -> None:
    headers = {"Idempotency-Key": "a"}
    prompt = "x [sandbox: 429*2]"
    assert client.submit("hiapi", prompt, headers=headers).status_code == 429
    task = client.submitted("evolink", "x [sandbox: slow=3600]")

    assert client.delete("/control/tasks").status_code == 204

    assert client.tasks() == []
    assert client.get("/control/ledger").json() == {}
    assert client.get(f"/evolink/v1/tasks/{task}").status_code == 404
    # The faults of the prompt are counted from the start, and the key is free.
    answers = [client.submit("hiapi", prompt, headers=headers).status_code for _ in range(3)]
    assert answers == [429, 429, 200]


def test_applies_a_rule_to_matching_submissions(client: SandboxClient) -> None:
    rule = {"provider": "hiapi", "match": "cube", "times": 2, "faults": {"duplicate": 3}}
    answer = client.post("/control/faults", json=rule)

    assert answer.status_code == 201
    assert answer.json() == {
        **{"id": answer.json()["id"], "after": None, "every": None, "share": None},
        **{"remaining": 2, "seen": 0, "hits": 0, **rule},
    }
    faults = [
        client.task(client.submitted(provider, prompt))["faults"]
        for provider, prompt in (
            *(("evolink", "A cube"), ("hiapi", "A ball"), ("hiapi", "A cube")),
            *(("hiapi", "Two cubes"), ("hiapi", "Another cube")),
        )
    ]
    assert faults == [{}, {}, {"duplicate": 3}, {"duplicate": 3}, {}]
    (used,) = client.get("/control/faults").json()
    assert (used["remaining"], used["hits"], used["seen"]) == (0, 2, 2)


def test_applies_a_rule_until_it_is_removed(client: SandboxClient) -> None:
    rule = client.post("/control/faults", json={"faults": {"503": True}}).json()
    assert [client.submit("hiapi").status_code for _ in range(3)] == [503] * 3

    assert client.delete(f"/control/faults/{rule['id']}").status_code == 204

    assert client.submit("hiapi").status_code == 200
    assert client.delete(f"/control/faults/{rule['id']}").status_code == 404


def test_a_rule_about_tasks_does_not_count_resends(client: SandboxClient) -> None:
    client.post("/control/faults", json={"after": 1, "times": 1, "faults": ["drop"]})
    for key in ("first", "first", "second"):
        client.submit("hiapi", headers={"Idempotency-Key": key})
    second, first = client.tasks()

    assert (first["submissions"], first["faults"]) == (2, {})
    assert second["faults"] == {"drop": True}


def test_removes_all_rules(client: SandboxClient) -> None:
    for fault in ("500", "drop"):
        client.post("/control/faults", json={"faults": {fault: True}})

    assert client.delete("/control/faults").status_code == 204
    assert client.get("/control/faults").json() == []


def test_refuses_a_bad_rule(client: SandboxClient) -> None:
    answer = client.post("/control/faults", json={"faults": {"duplicate": 0}})

    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "faults.duplicate must be a whole number from 1 to 100; got '0'",
        "field": "faults.duplicate",
        "value": "0",
        "allowed": "a whole number from 1 to 100",
    }
    assert client.get("/control/faults").json() == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
def test_refuses_a_body_that_is_not_json(client: SandboxClient, body: bytes) -> None:
    answer = client.post("/control/faults", data=body)

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "rule")


def test_healthz_needs_no_key(client: SandboxClient) -> None:
    answer = client.get("/healthz", headers={"Authorization": None})

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


# The store


def test_drops_the_oldest_tasks_but_keeps_their_charges() -> None:
    store = TaskStore(max_tasks=2)
    for number in range(3):
        store.add(stored_task(f"task-{number}"))

    assert [task.id for task in store.newest_first()] == ["task-2", "task-1"]
    assert store.accounts()["hiapi"].tasks == 3


def test_finishes_a_task_once_and_never_a_forgotten_one() -> None:
    store, task, forgotten = TaskStore(), stored_task("kept"), stored_task("forgotten")
    store.add(task)

    assert store.finish(task, TaskOutcome(TaskStatus.SUCCEEDED), 1.0)
    assert not store.finish(task, TaskOutcome(TaskStatus.FAILED), 2.0)
    assert not store.finish(forgotten, TaskOutcome(TaskStatus.FAILED), 2.0)
    assert (task.status, task.finished_at, task.refunded) == (TaskStatus.SUCCEEDED, 1.0, False)
    assert (forgotten.status, forgotten.refunded) == (TaskStatus.RUNNING, False)


def test_dropped_and_ended_tasks_are_not_running() -> None:
    store = TaskStore(max_tasks=2)
    tasks = [stored_task(f"task-{number}") for number in range(7)]
    for task in tasks[:3]:
        assert store.add(task, 3)
    assert store.add(tasks[3], 3)
    assert not store.add(tasks[4], 2)
    for _ in range(2):
        store.finish(tasks[2], TaskOutcome(TaskStatus.SUCCEEDED), 1.0)
    assert store.add(tasks[5], 2)
    assert not store.add(tasks[6], 2)
