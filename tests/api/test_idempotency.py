"""`Idempotency-Key`: the same request gives the same job."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from orchestrator.enqueuing import CELERY_SCOPE, create_job
from orchestrator.jobs.model import Step
from orchestrator.jsonio import dump
from orchestrator.ledger import keys
from orchestrator.security.secret import Secret
from tests.api.conftest import KEY, UNIFIED, Api, Open, settle
from tests.jobs.test_uploads import PNG
from tests.support.fakes import TENANT
from tests.support.web import WebApp


def test_the_same_key_and_body_give_the_same_job(api: Api) -> None:
    first = api.create(UNIFIED, key="order-1")
    again = api.create(dict(reversed(UNIFIED.items())), key="order-1")

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["Idempotent-Replay"] == "true"
    assert "Idempotent-Replay" not in first.headers
    assert first.json is not None
    assert again.json is not None
    assert again.json["id"] == first.json["id"]
    assert api.harness.nudges.sent == [(Step.SUBMIT, first.json["id"])]


def test_a_key_finds_its_job_whatever_the_settings_are_now(open_api: Open) -> None:
    before = open_api()
    first = before.create({**UNIFIED, "notify_stream": "orders"}, key="order-1")
    off = before.harness.provider_off()
    now = replace(before, harness=off, app=WebApp(off.runtime))

    again = now.create({**UNIFIED, "notify_stream": "orders"}, key="order-1")
    other = now.create({**UNIFIED, "prompt": "Another"}, key="order-1")
    new = now.create(UNIFIED, key="order-2")

    assert (again.status_code, again.json and again.json["id"]) == (
        200,
        first.json and first.json["id"],
    )
    assert (other.status_code, new.status_code) == (422, 422)
    assert "idempotency-mismatch" in other.text
    assert "HIAPI_API_KEY" in new.text


def test_a_key_whose_job_has_expired_is_410_and_makes_no_second_job(api: Api) -> None:
    first = api.create(UNIFIED, key="order-1")
    assert first.json is not None
    api.harness.redis.delete(keys.job(first.json["id"]), keys.events(first.json["id"]))

    again = api.create(UNIFIED, key="order-1")

    assert again.status_code == 410
    assert again.json is not None
    assert again.json["job_id"] == first.json["id"]
    assert api.harness.nudges.sent == [(Step.SUBMIT, first.json["id"])]


def test_a_job_is_found_by_its_key_or_its_celery_task(api: Api) -> None:
    first = api.create(UNIFIED, key="order-1")
    assert first.json is not None
    message = create_job(
        api.harness.runtime, UNIFIED, scope=CELERY_SCOPE, tenant=TENANT, key="task-7"
    ).job

    found = {
        key: [job["id"] for job in (api.get(f"/v1/jobs?idempotency_key={key}").json or {})["jobs"]]
        for key in ("order-1", "task-7", "order-2")
    }

    assert found == {"order-1": [first.json["id"]], "task-7": [message.id], "order-2": []}


@pytest.mark.parametrize(
    ("query", "number"),
    [("status=queued", 1), ("status=failed", 0), ("provider=hiapi", 1), ("provider=uniall", 0)],
)
def test_a_key_goes_with_the_other_filters(api: Api, query: str, number: int) -> None:
    api.create({**UNIFIED, "provider": "hiapi"}, key="order-1")

    response = api.get(f"/v1/jobs?idempotency_key=order-1&{query}")

    assert response.json is not None
    assert len(response.json["jobs"]) == number


def test_a_replay_shows_the_job_as_it_stands(api: Api) -> None:
    first = api.create(UNIFIED, key="order-1")
    assert first.json is not None
    settle(api.harness, first.json["id"])

    again = api.create(UNIFIED, key="order-1")

    assert again.json is not None
    assert again.json["status"] == "succeeded"


def test_the_same_key_with_another_body_is_422_and_creates_nothing(api: Api) -> None:
    api.create(UNIFIED, key="order-1")
    before = set(api.harness.redis.keys())

    response = api.create({**UNIFIED, "prompt": "A blue cube"}, key="order-1")

    assert (response.status_code, response.mimetype) == (422, "application/problem+json")
    assert response.json is not None
    assert response.json["type"] == "urn:orchestrator:problem:idempotency-mismatch"
    assert set(api.harness.redis.keys()) == before


def test_another_key_or_none_gives_another_job(api: Api) -> None:
    answers = [api.create(UNIFIED, key=key) for key in ("a", "b", None, None)]

    assert len({response.json["id"] for response in answers if response.json}) == 4


def test_two_callers_may_use_the_same_key(open_api: Open) -> None:
    api = open_api(ORCHESTRATOR_API_KEYS=f"one:{KEY},two:another-key-of-16")
    first = api.create(UNIFIED, key="order-1")
    api.headers["Authorization"] = "Bearer another-key-of-16"

    second = api.create(UNIFIED, key="order-1")

    assert (first.status_code, second.status_code) == (202, 202)


def test_a_caller_keeps_its_idempotency_keys_when_its_api_key_is_changed(open_api: Open) -> None:
    api = open_api(ORCHESTRATOR_API_KEYS=f"one:{KEY}")
    first = api.create(UNIFIED, key="order-1")
    new_key = "a-renewed-key-of-16"
    renewed = open_api(ORCHESTRATOR_API_KEYS=f"one:{new_key}").harness.on(api.harness.ledger)
    client = Api(renewed, WebApp(renewed.runtime), {"Authorization": f"Bearer {new_key}"})

    assert first.json is not None
    assert (again := client.create(UNIFIED, key="order-1")).status_code == 200
    assert again.json is not None
    assert again.json["id"] == first.json["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "\u00a0"])
def test_an_odd_key_is_refused_by_name(api: Api, key: str) -> None:
    response = api.create(UNIFIED, key=key)

    assert response.status_code == 422
    assert response.json is not None
    [error] = response.json["errors"]
    assert error["field"] == "Idempotency-Key"
    assert error["allowed"] == "1 to 255 printable characters"
    assert api.harness.redis.keys() == []


def test_the_longest_key_is_taken(api: Api) -> None:
    assert api.create(UNIFIED, key="x" * 255).status_code == 202


@pytest.mark.parametrize(
    ("url", "secret_keys"), [("https://new.example.com", (Secret("n" * 32),)), (None, ())]
)
def test_a_key_finds_its_job_after_a_change_of_our_address_and_secret(
    open_api: Open, tmp_path: Path, url: str | None, secret_keys: tuple[Secret, ...]
) -> None:
    """The file of the request is a link of ours, with our address and a token of our secret."""
    before = open_api(ORCHESTRATOR_DATA_DIR=str(tmp_path))
    harness = before.harness.with_settings(public_url=url, secret_keys=secret_keys)
    now = replace(before, harness=harness, app=WebApp(harness.runtime))

    def sent(api: Api, content: bytes) -> TestResponse:
        form = {"job": dump(UNIFIED).decode(), "image_file": (BytesIO(content), "a.png")}
        return api.post("/v1/jobs", data=form, headers={"Idempotency-Key": "order-1"})

    first, again, other = sent(before, PNG), sent(now, PNG), sent(now, PNG + b"!")

    assert [each.status_code for each in (first, again, other)] == [202, 200, 422], again.text
    assert first.json is not None
    assert again.json is not None
    assert again.json["id"] == first.json["id"]
    assert "idempotency-mismatch" in other.text
    stored = [file.name for file in (tmp_path / "archive" / "references").rglob("*.png")]
    assert stored == [f"{sha256(PNG).hexdigest()}.png"], "a refused call stores no image"
