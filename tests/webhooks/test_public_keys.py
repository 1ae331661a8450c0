"""Callbacks that are signed with public keys: known, unknown, old, forged and repeated."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from redis import Redis
from werkzeug.test import TestResponse

from orchestrator.jobs.model import SettledBy, Status
from orchestrator.jsonio import dump
from orchestrator.ledger import Ledger
from orchestrator.signing_keys import MIN_INTERVAL_SECONDS, SigningKeys
from tests.providers.test_fal import OURS, signed
from tests.support.fakes import Harness, answer
from tests.webhooks.kit import Receiver
from webhooks.receiver import MAX_BODY_BYTES

IMAGE = {"images": [{"url": "https://cdn.example.com/0.png"}]}
X = OURS.public_key().public_bytes_raw()
FORGED: dict[str, Any] = {"x-fal-webhook-signature": "0" * 128}


@dataclass
class Scene:
    """A receiver of fal's callbacks. A fake provider has the keys."""

    receiver: Receiver
    now: list[float]
    waiting: list[Callable[[], None]] = field(default_factory=list)

    @property
    def harness(self) -> Harness:
        return self.receiver.harness

    @property
    def fetches(self) -> int:
        return len(self.harness.provider.requests)

    def work(self) -> None:
        """Let the background fetch the keys."""
        while self.waiting:
            self.waiting.pop(0)()

    def send(self, job_id: str, *, body: Any = None, at: int = 0, **headers: Any) -> TestResponse:
        task = self.receiver.tasks.get(job_id, "task-1")
        raw = dump(body or {"request_id": task, "status": "OK", "payload": IMAGE})
        made = signed(raw, self.harness.clock() + at * 1000) | headers
        return self.receiver.send(self.receiver.path(job_id, "fal"), raw, headers=made)

    def knows_the_keys(self) -> Scene:
        self.send(self.receiver.running("fal"), **FORGED)
        self.work()
        self.now[0] += MIN_INTERVAL_SECONDS / 2
        return self

    def due(self, job_id: str) -> bool:
        return (self.harness.seconds_until_due(job_id) or 0) <= 0


@pytest.fixture
def scene(start: Callable[..., Harness], redis: Redis, ledger: Ledger, fake_provider: Any) -> Scene:
    now, waiting = [1000.0], list[Callable[[], None]]()
    harness = start(
        FAL_JWKS_URL=f"{fake_provider.url}/jwks", ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS="1"
    )
    keys = SigningKeys(lambda: now[0], waiting.append)
    parts = replace(harness.runtime, ledger=ledger, signing_keys=keys)
    publish(harness, X)
    return Scene(Receiver.on(replace(harness, runtime=parts, redis=redis)), now, waiting)


def publish(harness: Harness, key: bytes) -> None:
    """Put this key into the provider's set."""
    text = urlsafe_b64encode(key).decode().rstrip("=")
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": text}
    harness.provider.answers(answer(200, {"keys": [jwk]}))


def test_a_callback_of_a_known_key_settles_the_job(scene: Scene) -> None:
    job_id = scene.knows_the_keys().receiver.running("fal")

    assert scene.send(job_id).status_code == 200
    job = scene.receiver.job(job_id)
    assert (job.status, job.settled_by) == (Status.SUCCEEDED, SettledBy.CALLBACK)
    assert scene.fetches == 1


def test_a_callback_is_a_hint_until_the_keys_are_known(scene: Scene) -> None:
    job_id = scene.receiver.running("fal")
    assert not scene.due(job_id)

    assert scene.send(job_id).status_code == 200
    assert scene.due(job_id)
    assert scene.receiver.job(job_id).status is Status.RUNNING
    assert scene.fetches == 0
    scene.work()
    assert scene.send(job_id).status_code == 200
    assert scene.receiver.job(job_id).status is Status.SUCCEEDED


def test_a_callback_before_its_task_is_known_is_repeated(scene: Scene) -> None:
    job_id = scene.receiver.submitted("fal")

    assert scene.send(job_id).status_code == 503
    scene.work()
    assert scene.send(job_id).status_code == 200
    assert scene.receiver.job(job_id).status is Status.SUCCEEDED


def test_no_callback_waits_for_keys_that_cannot_be_fetched(scene: Scene) -> None:
    scene.harness.provider.answers(answer(500, {}))
    job_id = scene.receiver.running("fal")
    for _ in range(5):
        assert scene.send(job_id).status_code == 200
        scene.work()

    assert scene.fetches == 1
    assert scene.due(job_id)
    assert scene.receiver.job(job_id).status is Status.RUNNING


def test_forged_callbacks_are_refused_and_cause_one_fetch_a_minute(scene: Scene) -> None:
    job_id = scene.knows_the_keys().receiver.running("fal")
    failed = {"request_id": scene.receiver.tasks[job_id], "status": "ERROR", "error": "x"}

    statuses = [scene.send(job_id, body=failed, **FORGED).status_code for _ in range(20)]
    scene.work()
    assert statuses == [401] * 20
    assert (scene.fetches, scene.due(job_id)) == (1, False)
    scene.now[0] += MIN_INTERVAL_SECONDS
    statuses = [scene.send(job_id, body=failed, **FORGED).status_code for _ in range(20)]
    scene.work()

    assert statuses == [200] + [401] * 19
    assert (scene.fetches, scene.due(job_id)) == (2, True)
    assert scene.receiver.job(job_id).status is Status.RUNNING


def test_a_new_key_of_the_provider_is_followed(scene: Scene) -> None:
    publish(scene.harness, bytes(range(32)))
    job_id = scene.knows_the_keys().receiver.running("fal")
    assert scene.send(job_id).status_code == 401
    publish(scene.harness, X)
    scene.now[0] += MIN_INTERVAL_SECONDS

    assert scene.send(job_id).status_code == 200
    assert scene.receiver.job(job_id).status is Status.RUNNING
    scene.work()
    assert scene.send(job_id).status_code == 200
    assert scene.receiver.job(job_id).status is Status.SUCCEEDED


@pytest.mark.parametrize(
    ("at", "headers"),
    [
        (-301, {}),
        (301, {}),
        (0, {"x-fal-webhook-signature": ""}),
        (0, {"x-fal-webhook-signature": "zz"}),
        (0, {"x-fal-webhook-timestamp": "soon"}),
    ],
)
def test_an_old_or_odd_signature_is_refused_without_a_fetch(
    scene: Scene, at: int, headers: dict[str, Any]
) -> None:
    job_id = scene.knows_the_keys().receiver.running("fal")
    scene.now[0] += MIN_INTERVAL_SECONDS

    assert scene.send(job_id, at=at, **headers).status_code == 401
    assert (scene.waiting, scene.due(job_id)) == ([], False)


def test_a_replayed_callback_is_a_duplicate(scene: Scene) -> None:
    job_id = scene.knows_the_keys().receiver.running("fal")

    results = [scene.send(job_id).get_json()["result"] for _ in range(3)]

    assert results == ["settled", "duplicate", "duplicate"]


def test_a_callback_of_another_task_is_refused_although_it_is_signed(scene: Scene) -> None:
    first, second = (scene.knows_the_keys().receiver.running("fal") for _ in range(2))
    other = {"request_id": scene.receiver.tasks[first], "status": "ERROR", "error": "x"}

    assert scene.send(second, body=other).status_code == 409


def test_the_signature_of_a_long_callback_cannot_be_checked_so_it_is_a_hint(scene: Scene) -> None:
    job_id = scene.knows_the_keys().receiver.running("fal")
    image = {"images": [{"url": "data:image/png;base64," + "A" * MAX_BODY_BYTES}]}
    body = {"request_id": scene.receiver.tasks[job_id], "status": "OK", "payload": image}

    assert scene.send(job_id, body=body, **FORGED).status_code == 200
    assert scene.due(job_id)
    assert scene.receiver.job(job_id).status is Status.RUNNING


def test_a_wrong_token_asks_for_no_key(scene: Scene) -> None:
    path = scene.receiver.path(scene.receiver.running("fal"), "fal")

    assert scene.receiver.send(path[:-2] + "xx", b"{}").status_code == 404
    assert scene.waiting == []
